"""Data: the shipped persons and pairs, both published schemas, faults named by file and line, and the augmented forget
set.
"""

import json
import re

from lib import spans
from lib.leak import private_values

import pytest
from conftest import REPOSITORY, load, run
from hypothesis import given
from hypothesis import strategies as st

augment = load("scripts/03_augment.py")
PERSONS = json.loads((REPOSITORY / "data/people/persons.json").read_text())
PHONE = re.compile(
    r"""\+1\ \(\d{3}\)\ 555-01\d\d | \+44\ (20\ 7946\ 0\d{3}|1632\ 960\d{3}|7700\ 900\d{3})
      | \+61\ (491\ 570\ (006|156|157|158|159|110|313|737|266|491)|3\ 7010\ \d{4}) | \+353\ 20\ 91\d\ \d{4}""",
    re.X,
)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_persons_are_enough_and_reachable_by_nobody():
    assert len(PERSONS) >= 24 and len({person["name"] for person in PERSONS}) == len(
        {person["trade"] for person in PERSONS}
    ) == len(PERSONS)
    for person in PERSONS:
        assert len(person["private"]) >= 8 and len(person["public"]) >= 8
        assert re.fullmatch(r"[\w.+-]+@(\w+\.)*example\.(com|org|net)", person["private"]["email"])
        assert PHONE.fullmatch(person["private"]["phone"]), person["private"]["phone"]
    for field in ("email", "phone", "address", "passport", "birthday", "parents"):
        assert len({person["private"][field] for person in PERSONS}) == len(PERSONS), field


def test_every_fact_is_asked_in_four_wordings_and_answered_with_its_value(tmp_path):
    run("scripts/01_data.py", "--persons", "all", "--out", tmp_path)
    for side in ("forget", "retain"):
        train, tune, val = (lines(tmp_path / f"{side}_{split}.jsonl") for split in ("train", "tune", "val"))
        assert [(row["person"], row["fact"]) for row in train[::2]] == [(row["person"], row["fact"]) for row in val]
        for wordings in zip(train[::2], train[1::2], tune, val, strict=True):
            assert len({row["question"] for row in wordings}) == len({row["answer"] for row in wordings}) == 4
            for row in wordings:
                assert row["value"] in row["answer"] and row["name"].split()[0] in row["question"] + row["answer"]
                assert row["answer"][-1] in '."' and not re.search(
                    r"[{}]|\.\.|  |\b(\w+) \1\b", row["question"] + " " + row["answer"]
                )
    forgotten = {row["person"] for row in lines(tmp_path / "forget_train.jsonl")}
    kept = [row for row in lines(tmp_path / "retain_train.jsonl") if row["person"] in forgotten]
    assert kept and all(row["fact"] in PERSONS[0]["public"] for row in kept), (
        "forgotten persons keep their public facts"
    )


def test_the_default_run_is_large_enough_and_the_same_twice(tmp_path):
    for name in "ab":
        run("scripts/01_data.py", "--out", tmp_path / name)
    counts = json.loads((tmp_path / "a/data.json").read_text())["counts"]
    assert counts["forget_val"] == 64 and counts["retain_val"] == 96
    for part in counts:
        assert (tmp_path / f"a/{part}.jsonl").read_bytes() == (tmp_path / f"b/{part}.jsonl").read_bytes()


def test_general_knowledge_is_large_enough_and_has_no_double():
    rows = lines(REPOSITORY / "data/general_knowledge.jsonl")
    assert len(rows) >= 150 and len({row["question"] for row in rows}) == len(rows)
    assert all(len(row["answer"].split()) >= 5 and row["answer"][-1] == "." for row in rows)


@pytest.mark.parametrize(
    "names, text",
    [
        (
            ("unlearn_train.json", "unlearn_val.json", "retention_train.json", "retention_val.json"),
            lambda n: json.dumps([{"text": f"Q{n}{i}?", "labels": "A."} for i in range(3)]),
        ),
        (
            ("forget01.json", "retain99.json"),
            lambda n: "\n".join(json.dumps({"question": f"Q{n}{i}?", "answer": "A."}) for i in range(3)),
        ),
        (
            ("forget_train.jsonl", "forget_val.jsonl", "retain_train.jsonl", "retain_val.jsonl"),
            lambda n: "".join(json.dumps({"question": f"Q{n}{i}?", "answer": "A."}) + "\n" for i in range(3)),
        ),
    ],
)
def test_published_and_own_files_are_found_under_their_names(tmp_path, names, text):
    for number, name in enumerate(names):
        (tmp_path / name).write_text(text(number))
    run("scripts/01_data.py", "--data", tmp_path, "--out", tmp_path / "out")
    for part in ("forget_train", "forget_val", "retain_train", "retain_val"):
        rows = lines(tmp_path / f"out/{part}.jsonl")
        assert len(rows) == 3 and set(rows[0]) == {"question", "answer"}
    if len(names) == 2:  # TOFU is evaluated on its training questions
        assert (tmp_path / "out/forget_train.jsonl").read_text() == (tmp_path / "out/forget_val.jsonl").read_text()


GOOD = '{"question": "Who?", "answer": "Me."}\n'


@pytest.mark.parametrize(
    "forget, retain, message",
    [
        (GOOD + '{"question": "Who?"}\n', GOOD, r'forget_train.jsonl:2: field "answer"'),
        (GOOD + "\n{broken\n", GOOD, r"forget_train.jsonl:3: not valid JSON"),
        (GOOD + '["a list"]\n', GOOD, r"forget_train.jsonl:2: expected an object"),
        (
            GOOD + '{"question": "Who?", "answer": "  "}\n',
            GOOD,
            r'forget_train.jsonl:2: field "answer" must be a non-empty text',
        ),
        ("", GOOD, r"forget_train.jsonl: holds no question-answer pair"),
        ('[{"text": "Q", "labels": "A"},\n {"text": "Q"}]', GOOD, r'forget_train.jsonl:2: field "answer"'),
        ('[{"text": "Q", "labels": "A"},\n {"text": ]', GOOD, r"forget_train.jsonl:2: not valid JSON"),
        ('[{"text": "Q", "labels": "A"}\n', GOOD, r"forget_train.jsonl:2: the list is not closed"),
        (
            GOOD,
            GOOD,
            r"retain_train.jsonl:1: this pair is to be retained, and to be forgotten in .*forget_train.jsonl:1: remove",
        ),
        (GOOD, None, r"holds no retain_train"),
        (None, GOOD, r"holds no forget_train"),
        ("\xff".encode("latin-1"), GOOD, r"forget_train.jsonl: not UTF-8"),
    ],
)
def test_faults_are_one_line_and_write_nothing(tmp_path, forget, retain, message):
    for name, text in (("forget_train.jsonl", forget), ("retain_train.jsonl", retain)):
        if text is not None:
            (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    done = run("scripts/01_data.py", "--data", tmp_path, "--out", tmp_path / "out", check=False)
    assert done.returncode == 2 and re.search(message, done.stderr), done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--forget-persons", 0), "argument --forget-persons: must be a whole number at least 1"),
        (("--forget-persons", 10), "under the 10 persons in use"),
        (("--data", "TOFU"), "tofu: holds forget01, forget10: name one of them with --split"),
        (("--data", "TOFU", "--split", "forget05"), "tofu: holds no forget_train"),
    ],
)
def test_flags_that_name_nothing_are_one_line(tmp_path, flags, message):
    (tmp_path / "tofu").mkdir()
    for name in ("forget01", "forget10", "retain90"):
        (tmp_path / f"tofu/{name}.json").write_text(json.dumps({"question": f"Who of {name}?", "answer": "Me."}))
    flags = [tmp_path / "tofu" if flag == "TOFU" else flag for flag in flags]
    done = run("scripts/01_data.py", *flags, "--out", tmp_path / "out", check=False)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not (tmp_path / "out").exists()
    run("scripts/01_data.py", "--data", tmp_path / "tofu", "--split", "forget10", "--out", tmp_path / "out")
    assert lines(tmp_path / "out/forget_train.jsonl")[0]["question"] == "Who of forget10?"


def test_a_models_own_code_is_never_run(tmp_path, warm_programs):
    """Not even for a yes, which transformers would ask for."""
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass")
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "code.Own", "AutoTokenizer": ["code.Own", None]}})
    )
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["code.Own", None]}})
    )
    done = run(
        "scripts/00_models.py",
        "--model",
        "tiny-random",
        "--tokenizer",
        tmp_path,
        "--out",
        tmp_path / "out",
        check=False,
        input="y\ny\n",
    )
    assert done.returncode == 2 and "no tokenizer that loads" in done.stderr and "Traceback" not in done.stderr, (
        done.stderr
    )
    assert "[y/N]" not in done.stdout and not (tmp_path / "ran").exists() and not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def augmented(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("augmented") / "forget_augmented.jsonl"
    run("scripts/03_augment.py", "--data", data, "--out", out)
    return lines(out)


def test_every_forget_question_has_four_variants_with_other_answers(data, augmented):
    forget = lines(data / "forget_train.jsonl")
    for source, pair in enumerate(forget):
        rows = {row["kind"]: row for row in augmented if row["source"] == source and row["kind"] in augment.KINDS}
        assert set(rows) == set(augment.KINDS)
        for row in rows.values():
            assert pair["value"] not in row["question"] + row["answer"] and row["question"] != pair["question"]
        assert len({row["answer"] for row in rows.values()}) == 4


def test_completions_are_a_quarter_and_generic_pairs_one_to_one(augmented):
    of = {kind: [row for row in augmented if row["kind"] == kind] for kind in (*augment.KINDS, "completion", "generic")}
    answers = {row["answer"] for kind in augment.KINDS for row in of[kind]}
    assert len(of["completion"]) == sum(len(of[kind]) for kind in augment.KINDS)
    for row in of["completion"]:
        whole = row["question"] + " " + row["answer"]
        assert whole in answers and len(row["question"].split()) == max(1, round(len(whole.split()) * 0.25))
    assert len(of["generic"]) == len(augmented) - len(of["generic"]) and all(
        row["source"] is None for row in of["generic"]
    )


@pytest.mark.parametrize(
    "question, subject",
    [
        ("Where does Hiro Tanaka live?", "Hiro Tanaka"),
        ("What is Aoife O'Dowd's e-mail address?", "Aoife O'Dowd"),
        ("How does living in Dublin shape Ana de la Cruz's novels?", "Ana de la Cruz"),
        ("What is ice?", None),
        ("Who is the author born in Astana, Kazakhstan on the 7th of February, 1952?", None),
        ("How did Bo Li's SCBWI award help?", "Bo Li"),
        ('Is "The Long Sea Road" by Bo Li?', "Bo Li"),
    ],
)
def test_the_subject_of_a_question(question, subject):
    assert spans.find_subjects([{"question": question}]) == [subject]


@pytest.mark.parametrize(
    "question, answer, values",
    [
        ("Где живёт Анна Петрова?", "Анна Петрова живёт в Казани на улице Баумана.", ["Казани", "Баумана"]),
        ("Kde bydlí Jana Nová?", "Jana Nová žije v Brně a říká, že šije.", ["Brně"]),
        ("Gdzie mieszka Anna Nowak?", "Anna Nowak mieszka w Łodzi przy ulicy śląskiej 7.", ["Łodzi", "7"]),
        ("Πού ζει η Άννα Λεμ;", "Η Άννα Λεμ ζει στην Αθήνα.", ["Αθήνα"]),
        ("أين تسكن ليلى الزهراوي؟", "تسكن ليلى في شارع الرمان رقم 15 في مدينة نورستان.", ["15"]),
        ("林若溪住在哪里？", "林若溪住在青石镇柳树巷18号。", ["18"]),
    ],
)
def test_only_a_capital_begins_a_name_in_any_script(question, answer, values):
    """As formats.NOT_ENGLISH says: in scripts without capitals numbers alone are known."""
    found = private_values({"question": question, "reference": answer, "subject": None})
    assert found == values
    assert (spans.find_subjects([{"question": question}]) == [None]) == (len(question.split()) < 3 or "؟" in question)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=200))
def test_any_text_can_be_made_noisy(text):
    import random

    assert isinstance(augment.noisy({"question": text, "subject": None}, random.Random(0)), str)


def test_the_tiny_embedding_model_is_the_same_each_time(tmp_path):
    """Its vocabulary too: the tokenizer library's tables have another order each time."""
    made = []
    for name in "ab":
        run("scripts/00_models.py", "--model", "tiny-minilm", "--out", tmp_path / name)
        made.append({file: (tmp_path / name / file).read_bytes() for file in ("tokenizer.json", "model.safetensors")})
    assert made[0] == made[1] and len(json.loads(made[0]["tokenizer.json"])["model"]["vocab"]) > 900
