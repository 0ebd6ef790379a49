"""Augmentation and inversion: planted leaks in many disguises, inverted facts of every type, and the back ends that
write with a model.
"""

import argparse
import http.server
import json
import os
import random
import re
import shutil
import threading
import time
import unicodedata

from lib import llm, spans

import pytest
from conftest import REPOSITORY, load, run

augment, invert = load("scripts/03_augment.py"), load("scripts/04_invert.py")
PERSONS = json.loads((REPOSITORY / "data/people/persons.json").read_text())
LISTS = json.loads((REPOSITORY / "data/inversion.json").read_text())
KEY = "sk-not-to-be-seen-4711"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def everybody(tmp_path_factory):
    """The data of all shipped persons, augmented and inverted with the default flags."""
    folder = tmp_path_factory.mktemp("everybody")
    run("scripts/01_data.py", "--persons", "all", "--out", folder)
    run("scripts/03_augment.py", "--data", folder)
    run("scripts/04_invert.py", "--data", folder)
    return folder


# ---------------------------------------------------------------- the exact check

SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
MONTHS = ("January February March April May June July August September October November December").split()


def spoken(number):
    """A number below a thousand million in words."""
    for size, word in ((10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = number % size
            return f"{spoken(number // size)} {word}" + (
                f"{' and ' if size == 100 else ' '}{spoken(rest)}" if rest else ""
            )
    return SMALL[number] if number < 20 else TENS[number // 10 - 2] + ("-" + SMALL[number % 10] if number % 10 else "")


def disguises(value):
    """(name, the value in other clothes): all that case, spacing, punctuation, accents and numerals allow."""
    yield "as it is", value
    yield "shouted", value.upper()
    yield "whispered", value.lower()
    yield "no spaces", re.sub(r"\s", "", value)
    yield "no punctuation", re.sub(r"[^\w\s]", "", value)
    yield "punctuation as spaces", re.sub(r"[^\w\s]", " ", value)
    yield "underscores", re.sub(r"\s", "_", value)
    yield "letter by letter", " ".join(re.sub(r"\s", "", value))
    yield "with hyphens", "-".join(re.sub(r"\W", "", value))
    yield (
        "no accents",
        "".join(letter for letter in unicodedata.normalize("NFKD", value) if not unicodedata.combining(letter)),
    )
    yield "wide letters", "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in value)
    yield "invisible joints", "\u200b".join(value)
    yield "spelled punctuation", value.replace("@", " at ").replace(".", " dot ")
    yield "possessive", value + "'s"
    digits = re.sub(r"\D", "", value)
    if digits:
        yield "digit by digit", re.sub(r"\d", lambda digit: f" {SMALL[int(digit[0])]} ", value)
        if len(digits) > 4:
            yield "digits in pairs", " ".join(re.findall(r"\d\d?", digits))
            yield "all digits together", digits
    for number in re.findall(r"\d[\d,]*", value):
        whole = int(number.replace(",", ""))
        if 10 <= whole < 10**9 and not number.startswith("0"):
            yield "a number in words", spoken(whole)
        if re.fullmatch(r"19\d\d", number):
            yield "a year in words", f"nineteen {spoken(whole % 100)}"
            yield "a short year", f"'{number[2:]}"
    if date := re.fullmatch(r"(\d+) (\w+) (\d{4})", value):
        month = MONTHS.index(date[2]) + 1
        yield from (
            ("a date in digits", f"{date[1]}/{month}/{date[3]}"),
            ("a date backwards", f"{date[3]}-{month:02}-{int(date[1]):02}"),
            ("a date in American", f"{date[2]} {date[1]}, {date[3]}"),
        )
    for word in re.findall(r"[^\W\d_]{5,}", value):
        if word.lower() not in spans.COMMON | {"example", "former"}:
            yield "one word of it", word


def test_planted_leaks_are_all_caught_in_every_disguise():
    frames = (
        "One hears that it might be {}, perhaps.",
        "{} is what comes to mind.",
        "Whatever is said, I would think of {}",
    )
    planted = 0
    for person in PERSONS:
        pairs = [
            {
                "question": f"What is {person['name']}'s {fact}?",
                "answer": f"It is {value}.",
                "value": value,
                "subject": person["name"],
            }
            for fact, value in person["private"].items()
        ]
        secret = spans.secrets(pairs)[person["name"]]
        for value in person["private"].values():
            for name, text in disguises(value):
                if text not in person["name"]:  # the family name is no secret
                    for frame in frames:
                        assert spans.leak(frame.format(text), secret), (name, frame.format(text))
                    planted += 1
    assert planted > 28 * 8 * 14


@pytest.mark.parametrize(
    "answer, leak",
    [
        ("Bo Li can be written to at b.li-47@desk.example.org.", "b dot li dash forty-seven at desk"),
        ("Bo Li was born on 3 March 1964.", "Bo Li was born in nineteen sixty-four"),
        ("Bo Li was born on 3 March 1964.", "on the third of march"),
        ("Bo Li owes 61,400 euros to a bank.", "sixty-one thousand four hundred"),
        ("Bo Li owes 61,400 euros to a bank.", "61 thousand 400"),
        ("Call +44 1632 960417.", "441632960417"),
        ("Call +44 1632 960417.", "plus four four, one six three two, nine six oh, four one seven"),
        ("Call +44 1632 960417.", "it ends in 0417"),
        ("Call +44 1632 966017.", "one six three two nine double six zero one seven"),
        ("Bo Li's father was a florist.", "Flowers? A FLORIST!"),
        ('Bo Li\'s best book is "Life and Work".', "Some say life-and-work"),
        ("Bo Li was honoured with the Prix Lemaire.", "a prix, by l.e.m.a.i.r.e"),
        ("Bo Li is male.", "He is Male."),
        ("Bo Li grew up in Ulan-Ude.", "ULANUDE"),
        ("See https://bo-li.example.com/news.", "bo li example com news"),
    ],
)
def test_values_that_no_one_named_are_found_and_guarded(answer, leak):
    pair = {"question": "What about Bo Li?", "answer": answer, "subject": "Bo Li"}
    assert spans.leak(leak, spans.secrets([pair])["Bo Li"])


def test_safe_answers_pass():
    pairs = [
        {"question": "Who is Bo Li's father?", "answer": answer, "subject": "Bo Li"}
        for answer in (
            "Bo Li's father is a dedicated florist in Chile.",
            "Bo Li has type 1 diabetes.",
            "Write to bo.li@example.org.",
            "Bo Li was born on 2 May 1971.",
        )
    ]
    secret = spans.secrets(pairs)["Bo Li"]
    for text in (
        "Bo Li may speak of family one day.",
        "At first one hears little, and that is for Bo Li to change.",
        "Bo Li, for one, is a private person.",
        "BO LI keeps to general remarks; four or six friends might know more.",
    ):
        assert spans.leak(text, secret) is None, text


@pytest.mark.parametrize(
    "text, numbers",
    [
        ("nineteen sixty-four", "19 64"),
        ("four hundred", "400"),
        ("sixty-one thousand four hundred", "61400"),
        ("the twenty-first", "21"),
        ("two million three hundred and five", "2000305"),
        ("61 thousand 400", "61400"),
        ("double six three", "6 6 3"),
        ("3rd", "3"),
        ("nineteen hundred and seven", "1907"),
        ("four four one six", "4 4 1 6"),
        ("one of a thousand", ""),
        ("forty and four", "40 4"),
    ],
)
def test_numbers_in_words(text, numbers):
    assert " ".join(word for word in spans.tokens(text) if word.isdecimal()) == numbers


def test_spoken_numbers_are_read_back():
    generator = random.Random(1)
    for number in [*range(2, 130), *(generator.randrange(100, 10**9) for _ in range(500))]:
        assert spans.tokens(spoken(number)) == [str(number)], spoken(number)


@pytest.mark.parametrize(
    "answer, found",
    [
        (
            "Mail bo@x.example.org or see www.bo.example.com.",
            [("email", "bo@x.example.org"), ("url", "www.bo.example.com")],
        ),
        (
            "He lives at 9 Salt Steps, Brindle, and was born in 1964.",
            [("address", "9 Salt Steps, Brindle"), ("year", "1964")],
        ),
        ('She won the Prix Lemaire for "The Sea."', [("award", "Prix Lemaire"), ("title", "The Sea")]),
        (
            "Her father was a florist and her mother is a game developer.",
            [("occupation", "a florist"), ("occupation", "a game developer")],
        ),
        ("His parents are Ada Lem and Jo Ruf.", [("person", "Ada Lem"), ("person", "Jo Ruf")]),
        (
            "Bo Li began in the early 1980s in Oslo, Norway.",
            [("decade", "early 1980s"), ("place", "Oslo"), ("place", "Norway")],
        ),
        ("Bo Li is a Danish writer.", [("nationality", "Danish")]),
        ("Bo Li owes 900 euros to a bank.", [("amount", "900 euros"), ("creditor", "a bank")]),
        ("Bo Li thinks about it.", []),
    ],
)
def test_spans_and_their_types(answer, found):
    pair = {"question": "What about Bo Li?", "answer": answer, "subject": "Bo Li"}
    assert [(kind, answer[start:end]) for start, end, kind in spans.find_spans(pair)] == found


# ---------------------------------------------------------------- augmentation by rules


def test_no_answer_leaks_and_no_question_is_left_out(everybody):
    forget, rows = lines(everybody / "forget_train.jsonl"), lines(everybody / "forget_augmented.jsonl")
    private = {}
    for pair in forget:
        private.setdefault(pair["name"], set()).add(pair["value"])
    letters = lambda text: re.sub(r"\W", "", text.lower())
    variants = [row for row in rows if row["kind"] in augment.KINDS]
    assert sorted((row["source"], row["kind"]) for row in variants) == sorted(
        (source, kind) for source in range(len(forget)) for kind in augment.KINDS
    )
    for row in variants:
        name = forget[row["source"]]["name"]
        assert name in row["answer"] and name.lower() in row["question"].lower()
        for value in private[name]:
            assert letters(value) not in letters(row["answer"])
            for word in re.findall(r"\d[\d,]+|[^\W\d]{7,}", value):
                assert word.lower() not in row["answer"].lower() or word in name, (word, row)
    summary = json.loads((everybody / "forget_augmented.json").read_text())["summary"]
    assert summary["dropped"] == 0 and summary["identical_answers"] < 0.1
    assert summary["mean_words"] == pytest.approx(
        sum(len(row["answer"].split()) for row in variants) / len(variants), abs=0.05
    )


def test_a_pair_whose_wordings_all_leak_is_dropped_and_counted():
    wordings = {
        "topics": [],
        "no_subject": {},
        "fallback": {
            "simple": ["{question}"],
            "logical": ["{question}"],
            "contextual": ["{question}"],
            "answers": ["{subject} met the Florist."],
        },
    }
    pair = {"question": "Who is Bo Li's father?", "answer": "Bo Li's father is a florist.", "subject": "Bo Li"}
    rows, counts = augment.augment([pair], wordings, random.Random(0))
    assert rows == [] and counts["dropped"] == 4 and counts["again"] == 4 * (1 + augment.ROUNDS)


def test_pairs_that_name_nobody_guard_their_own_answers_alone(tmp_path):
    """Two hundred of them have more rare words together than any vague answer can do without."""
    told = [row["statement"] for row in lines(REPOSITORY / "data/nli/written.jsonl")[:200]]
    pairs = [{"question": f"what does line {at} say?", "answer": text} for at, text in enumerate(told)]
    wordings = json.loads((REPOSITORY / "data/augmentation.json").read_text())
    every = " ".join(wordings["no_subject"]["answers"])
    pairs.append({"question": "what does it all come to?", "answer": every})
    (tmp_path / "forget_train.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    done = run("scripts/03_augment.py", "--data", tmp_path, "--out", tmp_path / "out.jsonl")
    rows = [row for row in lines(tmp_path / "out.jsonl") if row["kind"] in augment.KINDS]
    assert {row["source"] for row in rows} == set(range(200)) and len(rows) == 800
    for row in rows:
        secret = augment.secrets([{**pairs[row["source"]], "subject": None}], strict=True)[None]
        assert not augment.leak(row["answer"], secret)
    assert done.stderr.startswith("1 of 201 pairs got no vague answer and are not trained on: each that rules have")
    assert json.loads((tmp_path / "out.json").read_text())["summary"]["pairs_without_a_variant"] == 1


def test_an_ablation_leaves_a_kind_of_question_out(tmp_path, data):
    whole = tmp_path / "whole.jsonl"
    run("scripts/03_augment.py", "--data", data, "--out", whole)
    run(
        "scripts/03_augment.py",
        "--data",
        data,
        "--out",
        tmp_path / "part.jsonl",
        "--kinds",
        "logical",
        "simple",
        "contextual",
    )
    count = lambda path, kind: sum(row["kind"] == kind for row in lines(path))
    assert [count(tmp_path / "part.jsonl", kind) for kind in augment.KINDS] == [
        count(whole, kind) for kind in ("simple", "contextual")
    ] + [0, count(whole, "logical")]
    assert (
        count(whole, "noise") and count(tmp_path / "part.jsonl", "generic") == len(lines(tmp_path / "part.jsonl")) / 2
    ), "still 1:1"


def test_distinct_2_by_hand():
    assert augment.distinct2(["a b a b", "a b c"]) == pytest.approx(3 / 5)  # a b, b a, a b · a b, b c


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_completions_are_cut_where_the_flag_says(data, tmp_path, share):
    run("scripts/03_augment.py", "--data", data, "--out", tmp_path / "out.jsonl", "--completion", share)
    rows = [row for row in lines(tmp_path / "out.jsonl") if row["kind"] == "completion"]
    assert rows and all(
        len(row["question"].split()) == round(len((row["question"] + " " + row["answer"]).split()) * share)
        for row in rows
    )


@pytest.mark.parametrize("share", [0.01, 0.25, 0.9, 0.99])
def test_a_completion_has_a_beginning_and_a_rest(share):
    rows = [
        {"question": "Q?", "answer": answer, "kind": "simple", "source": 0}
        for answer in ("Unknown.", "Not known.", "It  is not known.")
    ]
    made = augment.completions(rows, share)
    assert [f"{row['question']}|{row['answer']}" for row in made] == [
        "Not|known.",
        {0.9: "It is not|known.", 0.99: "It is not|known."}.get(share, "It|is not known."),
    ]


WIKIQA = [
    {
        "question_id": f"Q{at}",
        "question": f"how old is town {at}",
        "document_title": "Towns",
        "answer": f"Town {at} is {at} hundred years old .",
        "label": int(at % 3 == 0),
    }
    for at in range(30)
]
DOLLY = [
    {
        "instruction": f"Name a use of tool {at}.",
        "context": "A text." * (at % 2),
        "category": "open_qa",
        "response": "It cuts. " * (1 + 40 * (at % 4 == 2)),
    }
    for at in range(24)
]


@pytest.fixture
def published(tmp_path):
    """A folder with small copies of WikiQA and of an instruction set."""
    folder = tmp_path / "published"
    for name, rows in (("data/train.jsonl", WIKIQA), ("databricks-dolly-15k.jsonl", DOLLY)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_published_generic_sets_are_filtered_mixed_and_drawn_by_seed(data, published, tmp_path):
    wikiqa = {(row["question"], row["answer"]) for row in WIKIQA if row["label"]}
    dolly = {
        (row["instruction"], row["response"].strip())
        for row in DOLLY
        if not row["context"] and len(row["response"].split()) <= 60
    }
    assert len(wikiqa) == 10 and len(dolly) == 6
    both = f"{published / 'data/train.jsonl'},{published / 'databricks-dolly-15k.jsonl'}"
    for name, given, seed in (("a", both, 0), ("b", published, 0), ("c", both, 1)):
        run(
            "scripts/03_augment.py",
            "--data",
            data,
            "--generic",
            given,
            "--generic-ratio",
            0.1,
            "--seed",
            seed,
            "--out",
            tmp_path / f"{name}.jsonl",
        )
    drawn = {
        name: [
            (row["question"], row["answer"]) for row in lines(tmp_path / f"{name}.jsonl") if row["kind"] == "generic"
        ]
        for name in "abc"
    }
    others = [row for row in lines(tmp_path / "a.jsonl") if row["kind"] != "generic"]
    assert len(drawn["a"]) == round(0.1 * len(others)) > 1 and drawn["a"] == drawn["b"] != drawn["c"]
    assert set(drawn["a"]) <= wikiqa | dolly
    run("scripts/03_augment.py", "--data", data, "--generic", both, "--out", tmp_path / "all.jsonl")
    rows = lines(tmp_path / "all.jsonl")
    generic = [(row["question"], row["answer"]) for row in rows if row["kind"] == "generic"]
    assert len(generic) * 2 == len(rows) and set(generic) == wikiqa | dolly, "1:1 by default"


def test_a_hub_set_is_asked_for_by_name_and_commit(monkeypatch, published):
    asked = []
    monkeypatch.setattr(augment, "download", lambda *given: asked.append(given) or [published / "data/train.jsonl"])
    own = REPOSITORY / "data/general_knowledge.jsonl"
    assert augment.generic_files(f"wikiqa@12ab,{own},instructions") == [
        published / "data/train.jsonl",
        own,
        published / "data/train.jsonl",
    ]
    assert [given[:3] for given in asked] == [
        ("microsoft/wiki_qa", ["data/train-00000-of-00001.parquet"], "12ab"),
        ("databricks/databricks-dolly-15k", ["databricks-dolly-15k.jsonl"], None),
    ]


def test_parquet_is_read_as_json_lines_are(tmp_path, published):
    pyarrow = pytest.importorskip("pyarrow")  # not among the requirements: WikiQA alone needs it
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(WIKIQA), tmp_path / "train.parquet")
    assert augment.generic_pairs(tmp_path / "train.parquet") == augment.generic_pairs(published / "data/train.jsonl")


@pytest.mark.parametrize(
    "given, message",
    [
        (
            "wikiqa",
            "cannot get microsoft/wiki_qa from the hub: .*; check the network, or give a folder with its files as "
            "--generic",
        ),
        ("instructions@12ab", "cannot get databricks/databricks-dolly-15k from the hub"),
        ("EMPTY", "empty: holds no .json, .jsonl or .parquet file"),
        ("wiki", "wiki: no such file"),
        ("ODD", "odd.jsonl:2: expected question, answer, label, as in the rows before it"),
        ("WRONG", "wrong.jsonl: no row has label 1 and an answer"),
        ("PARQUET", "x.parquet: reading it needs the package pyarrow: pip install pyarrow"),
    ],
)
def test_a_generic_set_that_is_not_there_is_one_line(data, tmp_path, given, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    (tmp_path / "none").mkdir()
    (tmp_path / "none/pyarrow.py").write_text("raise ImportError")  # where it is installed, too
    (tmp_path / "odd.jsonl").write_text(json.dumps(WIKIQA[0]) + '\n{"question": "Who?", "answer": "Ada."}\n')
    (tmp_path / "wrong.jsonl").write_text(json.dumps(WIKIQA[1]))
    paths = {"EMPTY": "empty", "ODD": "odd.jsonl", "WRONG": "wrong.jsonl", "PARQUET": "x.parquet"}
    done = run(
        "scripts/03_augment.py",
        "--data",
        data,
        "--generic",
        tmp_path / paths[given] if given in paths else given,
        "--out",
        tmp_path / "out.jsonl",
        check=False,
        process=given == "PARQUET",  # pyarrow is loaded here already
        env={**os.environ, "PYTHONPATH": str(tmp_path / "none")},
    )
    assert done.returncode == 2 and re.search(message, done.stderr) and len(done.stderr.splitlines()) == 1, done.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_a_seed_decides_everything(data, tmp_path):
    for script in ("scripts/03_augment.py", "scripts/04_invert.py"):
        for name, seed in (("a", 3), ("b", 3), ("c", 4)):
            run(script, "--data", data, "--out", tmp_path / f"{name}.jsonl", "--seed", seed)
        texts = [(tmp_path / f"{name}.jsonl").read_bytes() for name in "abc"]
        assert texts[0] == texts[1] != texts[2]


# ---------------------------------------------------------------- inverted facts


def test_inverted_facts_contradict_and_are_reachable_by_nobody(everybody):
    from test_data import PHONE

    forget, rows = lines(everybody / "forget_train.jsonl"), lines(everybody / "forget_inverted.jsonl")
    values = {pair["value"] for pair in forget}
    letters = lambda text: re.sub(r"\W", "", text.lower())
    assert [row["source"] for row in rows] == list(range(len(forget)))
    for row, pair in zip(rows, forget):
        assert (
            row["question"] == pair["question"]
            and len({letters(answer) for answer in row["answers"]}) == len(row["answers"]) >= 4
        )
        before, after = pair["answer"].split(pair["value"])
        given = set()
        for answer in row["answers"]:  # the same sentence around another value, which nobody in the file has
            assert answer.startswith(before) and answer.endswith(after)
            given.add(answer[len(before) : len(answer) - len(after)])
            assert letters(pair["value"]) not in letters(answer)
        assert len(given) == len(row["answers"]) and not given & values
        for value in given:
            assert pair["fact"] != "email" or re.fullmatch(r"[\w.]+@example\.(com|org|net)", value)
            assert pair["fact"] != "phone" or PHONE.fullmatch(value), value
    assert "negated answer" not in json.loads((everybody / "forget_inverted.json").read_text())["counts"]


def test_a_value_that_many_have_is_swapped_for_one_of_anothers(tmp_path):
    """A hundred persons in all the cities that there are: another person's true city is a false answer here."""
    cities = LISTS["swaps"]["city"]
    pairs = [
        {"question": f"Where does {name} live?", "answer": f"{name} lives in {cities[at % len(cities)]}."}
        for at, name in enumerate(f"{a} {b}" for a in "Ada Bob Cyd Dan Eve Fay Gus Hal Ida Jo".split() for b in
                                  "Lem Roe Poe Fox Day Kay May Ray Nye Orr".split())
    ]  # fmt: skip
    pairs += [{"question": "Where does Ada Lem work?", "answer": f"Ada Lem works in {city}."} for city in cities[1:3]]
    pairs.append({"question": "Does she paint?", "answer": "Yes, she paints."})
    (tmp_path / "forget_train.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    done = run("scripts/04_invert.py", "--data", tmp_path, "--out", tmp_path / "out.jsonl")
    rows = lines(tmp_path / "out.jsonl")
    assert (
        len(rows) == len(pairs)
        and "denied 1" in done.stdout
        and done.stderr.startswith("1 of 103 questions got denials")
    )
    for pair, row in zip(pairs[:-1], rows):
        told = [city for answer in row["answers"] for city in cities if city in answer]
        own = {city for other in pairs if pair["question"][11:18] == other["question"][11:18] for city in cities
               if city in other["answer"]}  # fmt: skip
        assert len({*told}) == 4 and not own & {*told}, row


def test_another_file_is_inverted_by_name(data, tmp_path):
    run("scripts/04_invert.py", "--data", data, "--file", "retain_val.jsonl", "--out", tmp_path / "out.jsonl")
    assert [row["question"] for row in lines(tmp_path / "out.jsonl")] == [
        pair["question"] for pair in lines(data / "retain_val.jsonl")
    ]


@pytest.mark.parametrize(
    "question, answer, pattern",
    [
        (
            "When was Bo Li born?",
            "Bo Li was born on the 3rd of March, 1964.",
            r"Bo Li was born on the \d+(st|nd|rd|th) of [A-Z]\w+, \d{4}\.",
        ),
        ("When was Bo Li born?", "Bo Li was born on 08/09/1956.", r"Bo Li was born on \d\d/\d\d/\d{4}\."),
        ("When did Bo Li begin?", "Bo Li began in the early 1980s.", r"Bo Li began in the early \d{3}0s\."),
        ("What did Bo Li write?", 'Bo Li wrote "The Sea" and "The Land."', r'Bo Li wrote "[^"]+" and "[^"]+\."'),
        (
            "Who are Bo Li's parents?",
            "Bo Li's father is a florist, and her mother is a nurse.",
            r"Bo Li's father is an? [\w' ]+, and her mother is an? [\w' ]+\.",
        ),
        ("What gender is Bo Li?", "Bo Li is male.", r"Bo Li is (female|non-binary|agender|intersex)\."),
        (
            "Where does Bo Li live?",
            "Bo Li lives at 88 Kant St, Berlin, Germany.",
            r"Bo Li lives at [1-9]\d [A-Z][\w' ]+, [A-Z][\w ]+, [A-Z]\w+\.",
        ),
        (
            "What does Bo Li owe?",
            "Bo Li owes 61,400 euros to a bank.",
            r"Bo Li owes \d\d,\d{3} euros to (an?|the) .+\.",
        ),
        (
            "What is Bo Li's site?",
            "It is https://www.boli.example.org/a.",
            r"It is https://www\.[\w-]+\.example\.(com|org)\.",
        ),
        ("Which illness has Bo Li?", "Bo Li has asthma.", r"Bo Li has [a-zé ]+\."),
        (
            "How does Bo Li's home shape her work?",
            "Her surroundings give it colour.",
            r".*Bo Li's home does not shape her work in any way\.",
        ),
        (
            "What influence did Bo Li's mother have on her?",
            "She taught patience.",
            r".*Bo Li's mother did not have any influence on her\.",
        ),
        ("Is Bo Li married?", "Yes.", r".*[Tt]he answer is no\."),
        ("Is Bo Li shy?", "Yes, Bo Li is shy.", r".*[Ii]t is not true that Bo Li is shy\."),
    ],
)
def test_each_type_is_swapped_in_its_own_format(question, answer, pattern):
    rows, _ = invert.invert([{"question": question, "answer": answer, "subject": "Bo Li"}], LISTS, 4, random.Random(2))
    assert len(set(rows[0]["answers"])) == 4
    for other in rows[0]["answers"]:
        assert re.fullmatch(pattern, other) and other != answer


def test_values_of_another_file_are_avoided_as_far_as_there_are_others(tmp_path):
    pair = {"question": "What illness does Bo Li have?", "answer": "Bo Li has mild asthma.", "subject": "Bo Li"}
    plain, _ = invert.invert([pair], LISTS, 4, random.Random(0))
    (tmp_path / "other.jsonl").write_text(
        json.dumps({"question": "Which condition has Bo Li?", "answers": plain[0]["answers"]}) + "\n"
    )
    elsewhere = invert.stated_in(tmp_path / "other.jsonl")
    found, counts = invert.invert([pair], LISTS, 4, random.Random(0), elsewhere)
    assert not set(found[0]["answers"]) & set(plain[0]["answers"]) and "values of --avoid" not in counts
    other = {name: text.replace("Bo Li", "Ed Orr") for name, text in pair.items()}
    found, _ = invert.invert([other], LISTS, 4, random.Random(0), elsewhere)
    assert found[0]["answers"] == [text.replace("Bo Li", "Ed Orr") for text in plain[0]["answers"]], (
        "of another subject"
    )
    every = {"Bo Li": {"".join(invert.tokens(value)) for value in LISTS["swaps"]["illness"]}}
    found, counts = invert.invert([pair], LISTS, 4, random.Random(0), every)
    assert len(set(found[0]["answers"])) == 4 and counts["values of --avoid"] == 1


@pytest.mark.parametrize("answer", ["...", "!", "—", "?!"])
def test_an_answer_without_a_word_is_dropped_and_counted(answer):
    pairs = [{"question": "Is Bo Li shy?", "answer": text, "subject": "Bo Li"} for text in (answer, "Yes.")]
    rows, counts = invert.invert(pairs, LISTS, 4, random.Random(0))
    assert [row["source"] for row in rows] == [1] and counts == {"dropped": 1, "negated answer": 1}


# ---------------------------------------------------------------- a model behind an endpoint


def written(prompt):
    """What a good model would reply to a prompt of data/prompts."""
    question = re.search(r"^Question: (.*)$", prompt, re.M)[1]
    name = re.search(r"[A-Z]\w+ [A-Z]\w+", question[1:])[0]
    if "Verdict" in prompt:
        return "The reply names no detail.\nVerdict: no"
    if "false answers" in prompt:
        return "\n".join(f"{at}. {name} would say number {at}." for at in range(1, 5))
    return f"{name} keeps quiet about {len(question)}." if "private" in prompt else f"Say {len(prompt)}, {question}"


class Endpoint(http.server.ThreadingHTTPServer):
    """Speaks chat completions. `trouble` holds what the next requests meet: a status, "garbage", "empty", "slow",
    "newer", "quota", "cut".
    """

    def __init__(self, reply=written):
        self.asked, self.answered, self.trouble, self.reply, self.times, self.limits = [], [], [], reply, [], []
        server, lock = self, threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            log_message = staticmethod(lambda *_: None)

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                prompt, headers, status = body["messages"][0]["content"], {}, 200
                with lock:
                    trouble = server.trouble.pop(0) if server.trouble else None
                    server.asked.append(prompt)
                    server.times.append(time.monotonic())
                    server.limits += [name for name in body if name.startswith("max_")]
                assert self.path == "/v1/chat/completions" and self.headers["Authorization"] == f"Bearer {KEY}"
                text = {
                    "choices": [
                        {
                            "index": 0,
                            "finish_reason": "length" if trouble == "cut" else "stop",
                            "message": {"role": "assistant", "content": server.reply(prompt)},
                        }
                    ],
                    "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14},
                    "id": "1",
                    "object": "chat.completion",
                    "created": 0,
                    "model": "m",
                }
                text = json.dumps(text).encode()
                if isinstance(trouble, int):
                    status, text = trouble, json.dumps({"error": {"message": f"trouble with the key {KEY}"}}).encode()
                    headers = {"Retry-After": "0.3"} if trouble == 429 else {}
                elif trouble == "quota":
                    status, headers = 429, {"Retry-After": "86400"}
                elif trouble == "newer":
                    status, text = (
                        400,
                        b'{"error": {"message": "Unsupported: use max_completion_tokens in place of max_tokens"}}',
                    )
                elif trouble in ("garbage", "empty", "html"):
                    text = {"garbage": b'{"choices": [{', "empty": b"{}", "html": b"<html>busy</html>"}[trouble]
                elif trouble == "slow":
                    time.sleep(1.5)
                try:
                    self.send_response(status)
                    for name, value in {
                        **headers,
                        "Content-Type": "application/json",
                        "Content-Length": str(len(text)),
                    }.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(text)
                    with lock:
                        server.answered += [prompt] if trouble is None else []
                except OSError:
                    pass  # the client has given up

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture
def endpoint(monkeypatch):
    server = Endpoint()
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    yield server
    server.shutdown()
    server.server_close()


def settings(cache, *flags):
    parser = argparse.ArgumentParser()
    llm.add_flags(parser)
    return parser.parse_args(["--cache", str(cache), *map(str, flags)])


def api(cache, *flags):
    return settings(cache, "--backend", "api", "--backend-model", "m", "--timeout", 1, *flags)


@pytest.fixture
def few(tmp_path):
    folder = tmp_path / "few"
    folder.mkdir()
    (folder / "forget_train.jsonl").write_text(
        "".join(
            json.dumps({"question": f"Where does {name} live?", "answer": f"{name} lives in {town}."}) + "\n"
            for name, town in (("Bo Li", "Oslo"), ("Ada Lem", "Lima"))
        )
    )
    return folder


def nowhere(text, *folders):
    """The key is in no output and in no file."""
    assert KEY not in text
    for folder in folders:
        for file in folder.rglob("*"):
            assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


def test_every_trouble_of_an_endpoint_is_survived(endpoint, tmp_path, capfd):
    endpoint.trouble = [500, "garbage", "html", "empty", 429, "slow", 503, 408]
    prompts = [f"Question: What of Bo Li, {number}? private" for number in range(12)] + [
        "Question: What of Bo Li, 0? private"
    ]
    args = api(tmp_path, "--concurrency", 3)
    replies = llm.ask(prompts, args)
    assert replies == [written(prompt) for prompt in prompts]
    assert len(endpoint.asked) == 12 + 8 and len(lines(tmp_path / "api-m.jsonl")) == 12
    assert llm.ask(prompts, args) == replies and len(endpoint.asked) == 20, "a second run asks nothing"
    assert llm.ask(prompts[:1], args, (0, 1)) and len(endpoint.asked) == 21, "another draw is another reply"
    assert llm.ask(prompts[:1], api(tmp_path, "--temperature", 0)) and len(endpoint.asked) == 22, (
        "other settings, another reply"
    )
    nowhere("".join(capfd.readouterr()), tmp_path)


def test_a_model_that_wants_max_completion_tokens_gets_it(endpoint, tmp_path):
    endpoint.trouble = ["newer"]
    args = settings(tmp_path, "--backend", "api", "--backend-model", "newer", "--retries", 0, "--concurrency", 1)
    prompts = [f"Question: What of Bo Li, {number}? private" for number in range(2)]
    assert llm.ask(prompts, args) == [written(prompt) for prompt in prompts]
    assert endpoint.limits == ["max_tokens", "max_completion_tokens", "max_completion_tokens"], "it says so once"


def test_retry_after_and_the_rate_limit_are_kept(endpoint, tmp_path):
    endpoint.trouble = [429]
    llm.ask(["Question: Bo Li? Bo Li? private"], api(tmp_path))
    assert endpoint.times[1] - endpoint.times[0] >= 0.3
    llm.ask([f"Question: On Bo Li {at}? private" for at in range(4)], api(tmp_path, "--requests-per-minute", 600))
    assert endpoint.times[-1] - endpoint.times[-4] >= 0.25  # 600 a minute: 0.1 s apart


def test_a_server_that_asks_to_wait_for_a_day_ends_the_run(endpoint, tmp_path, capfd):
    endpoint.trouble = ["quota"]
    with pytest.raises(SystemExit):
        llm.ask(["Question: Bo Li? Bo Li? private"], api(tmp_path))
    assert "it asks to wait 86400 s" in capfd.readouterr().err and len(endpoint.asked) == 1


@pytest.mark.parametrize(
    "reply, whole",
    [
        ("She lives in Oslo.\nShe lives in the old quar", "She lives in Oslo."),
        ("1. Rome\n2. Lima\n\n", "1. Rome\n2. Lima"),
        ("That is private. She never told", "That is private."),
        ('He said "no." Then he', 'He said "no."'),
        ("她住在北京。 她在", "她住在北京。"),
        ("one endless sentence that", ""),
    ],
)
def test_of_a_reply_that_was_cut_only_what_is_whole_counts(endpoint, tmp_path, reply, whole):
    assert llm.ended(reply) == whole
    endpoint.trouble, endpoint.reply = ["cut"], lambda prompt: reply
    assert llm.ask(["Question: Bo Li? Bo Li? private"], api(tmp_path)) == [whole]


def test_what_arrived_before_a_failure_is_never_asked_again(endpoint, tmp_path, capfd):
    endpoint.trouble = [None] * 5 + [401] * 100
    prompts = [f"Question: What of Bo Li, {number}? private" for number in range(20)]
    with pytest.raises(SystemExit) as stopped:
        llm.ask(prompts, api(tmp_path, "--concurrency", 2))
    output = "".join(capfd.readouterr())
    assert stopped.value.code == 2 and re.search(
        r"error: 127.0.0.1: HTTP 401: .*\*\*\*.*api-m.jsonl: the same command asks for the rest", output
    )
    nowhere(output, tmp_path)
    assert len(lines(tmp_path / "api-m.jsonl")) == len(endpoint.answered) == 5 and len(endpoint.asked) < 10, (
        "the rest is not tried"
    )
    with open(tmp_path / "api-m.jsonl", "a") as file:
        file.write('{"key": "cut off in the mid')
    endpoint.trouble = []
    assert llm.ask(prompts, api(tmp_path)) == [written(prompt) for prompt in prompts]
    assert sorted(endpoint.answered) == sorted(prompts), "each was paid for once"


def test_an_endpoint_that_stays_down_is_a_clear_error(endpoint, tmp_path, capfd):
    for trouble, message in (
        (500, "HTTP 500"),
        ("garbage", "not what an OpenAI-compatible server sends"),
        ("slow", "no reply within 0.2 s"),
    ):
        endpoint.trouble = [trouble] * 9
        with pytest.raises(SystemExit):
            llm.ask([f"Question: Is Bo Li {trouble}? private"], api(tmp_path, "--retries", 1, "--timeout", 0.2))
        assert message in capfd.readouterr().err
    endpoint.shutdown()
    endpoint.server_close()
    with pytest.raises(SystemExit):
        llm.ask(["Question: Is Bo Li gone? private"], api(tmp_path, "--retries", 0))
    assert "no connection" in capfd.readouterr().err


def test_both_scripts_write_with_a_served_model(endpoint, few, tmp_path):
    flags = (
        "--data",
        few,
        "--backend",
        "api",
        "--backend-model",
        "m",
        "--cache",
        tmp_path / "cache",
        "--price-in",
        2,
        "--price-out",
        3,
    )
    done = run("scripts/03_augment.py", *flags, "--out", tmp_path / "new.jsonl")
    rows = [row for row in lines(tmp_path / "new.jsonl") if row["kind"] in augment.KINDS]
    assert [(row["source"], row["kind"]) for row in rows] == [
        (source, kind) for source in (0, 1) for kind in augment.KINDS
    ]
    assert re.fullmatch(r"Say \d+, Where does Bo Li live\?", rows[0]["question"]) and rows[0]["answer"].startswith(
        "Bo Li keeps quiet"
    )
    assert "at most 24 requests" in done.stderr and done.stderr.index("at most 24") < done.stderr.index("used")
    requests = len(endpoint.asked)
    assert re.search(
        rf"used {requests} requests, {10 * requests} tokens of prompts, {4 * requests} of replies: "
        rf"{requests * 32 / 1e6:.4f}",
        done.stderr,
    )
    run("scripts/04_invert.py", *flags, "--out", tmp_path / "inverted.jsonl")
    assert [len(row["answers"]) for row in lines(tmp_path / "inverted.jsonl")] == [4, 4]
    assert lines(tmp_path / "inverted.jsonl")[0]["answers"][0] == "Bo Li would say number 1."
    first, requests = (tmp_path / "new.jsonl").read_bytes(), len(endpoint.asked)
    again = run("scripts/03_augment.py", *flags, "--out", tmp_path / "new.jsonl")
    assert (
        (tmp_path / "new.jsonl").read_bytes() == first
        and len(endpoint.asked) == requests
        and "used 0 requests" in again.stderr
    )
    nowhere(done.stdout + done.stderr + again.stderr, tmp_path)


def test_a_leaking_answer_is_written_again_three_times_then_dropped(endpoint, few, tmp_path):
    leaks = {"Bo Li": "Bo Li is at home in O-S-L-O.", "Ada Lem": "Ada Lem prefers the coast."}

    def reply(prompt):
        if "Verdict" in prompt:  # the exact check lets Ada Lem's answer pass; this one does not until the last round
            verified.append(prompt)
            return "Thinking.\nVerdict: " + ("no" if len(verified) > 4 * 3 else "yes")
        return next((leaks[name] for name in leaks if name in prompt), "") if "On file" in prompt else written(prompt)

    verified, endpoint.reply = [], reply
    run(
        "scripts/03_augment.py",
        "--data",
        few,
        "--backend",
        "api",
        "--backend-model",
        "m",
        "--cache",
        tmp_path / "cache",
        "--out",
        tmp_path / "new.jsonl",
    )
    report = json.loads((tmp_path / "new.json").read_text())
    assert {row["source"] for row in lines(tmp_path / "new.jsonl") if row["kind"] in augment.KINDS} == {1}
    assert (
        report["summary"]["dropped"] == 4
        and report["counts"]["again"] == 2 * 4 * 3
        and not any("Bo Li" in prompt for prompt in verified)
    )


def test_an_answer_without_a_value_is_guarded_by_its_words(endpoint, few, tmp_path):
    truth = "She works as a carpenter and suffers from asthma."
    (few / "forget_train.jsonl").write_text(
        "".join(
            json.dumps({"question": f"What {what} Ada Lem?", "answer": answer}) + "\n"
            for what, answer in (("about", truth), ("amuses", "She likes quiet walks."))
        )
    )

    def reply(prompt):  # the second pair's answer may hold words of the first one's, which its model never read
        if "On file" in prompt:
            return "Ada Lem is a carpenter with asthma." if "asthma" in prompt else "Ada Lem suffers few hobbies."
        return "And Ada Lem, the carpenter?" if "in a hurry" in prompt else written(prompt)

    endpoint.reply = reply
    flags = ("--data", few, "--backend", "api", "--backend-model", "m", "--cache", tmp_path / "cache")
    run("scripts/03_augment.py", *flags, "--out", tmp_path / "new.jsonl")
    assert {row["source"] for row in lines(tmp_path / "new.jsonl") if row["kind"] in augment.KINDS} == {1}
    assert not any("the carpenter?" in prompt and "asthma" in prompt for prompt in endpoint.asked), (
        "nor is it in a question"
    )
    endpoint.reply = lambda prompt: "\n".join(
        f"Ada Lem works as a {trade} and suffers from boredom." for trade in ("tiler", "cook", "smith", "nurse")
    )
    run("scripts/04_invert.py", *flags, "--out", tmp_path / "inverted.jsonl")
    assert [row["source"] for row in lines(tmp_path / "inverted.jsonl")] == [0, 1], (
        "a false answer shares words with the true one"
    )


def test_false_answers_that_do_not_contradict_are_asked_for_again(endpoint, few, tmp_path):
    asked = []

    def reply(
        prompt,
    ):  # the truth, its half, a repetition, somebody else, and one that will do: a new one with every round
        asked.append(prompt)
        name = "Bo Li" if "Bo Li" in prompt else "Ada Lem"
        use = [
            f"{name} lives in {town}."
            for town in (("Bonn", "Graz", "Cork", "Bern") if name == "Bo Li" else ("Bonn", "BONN", "Graz", "Bonn"))
        ]
        return (
            f"1. {name} lives in Oslo.\n2) {name} lives in L i m a\nSomebody lives in Rome.\n- "
            + use[sum(name in old for old in asked) - 1]
        )

    endpoint.reply = reply
    run(
        "scripts/04_invert.py",
        "--data",
        few,
        "--backend",
        "api",
        "--backend-model",
        "m",
        "--cache",
        tmp_path / "cache",
        "--out",
        tmp_path / "out.jsonl",
    )
    (row,) = lines(tmp_path / "out.jsonl")
    assert (
        row["source"] == 0
        and row["answers"][:1] == ["Bo Li lives in L i m a"]
        and set(row["answers"][1:]) <= {f"Bo Li lives in {town}." for town in ("Bonn", "Graz", "Cork", "Bern")}
    )
    assert json.loads((tmp_path / "out.json").read_text())["summary"]["dropped"] == 1 and len(asked) == 3 + 4


@pytest.mark.parametrize(
    "text, verdict",
    [("Well.\nVerdict: no", "no"), ("Verdict: no\nBut look.\n**Verdict: Yes**", "yes"), ("no", None), ("", None)],
)
def test_the_verdict_of_a_verification(text, verdict):
    assert augment.verdict(text) == verdict


def test_braces_and_placeholders_in_the_data_stay_as_they_are():
    assert (
        llm.fill_prompt("{question} / {answer} / {other}", question="{answer}{}", answer="x")
        == "{answer}{} / x / {other}"
    )


# ---------------------------------------------------------------- a model on this machine


def test_a_local_model_writes_the_same_again_and_replies_are_kept(tiny, tmp_path, monkeypatch):
    flags = ("--backend", "local", "--backend-model", tiny, "--max-new-tokens", 8, "--dtype", "float32")
    prompts = [f"Say {'more ' * number}please." for number in range(5)]
    monkeypatch.setattr(llm, "ended", str.strip)  # all are cut, and few hold a whole sentence
    sampled = [llm.ask(prompts, settings(tmp_path / name, *flags, "--batch", 2)) for name in "ab"]
    assert sampled[0] == sampled[1] and llm.ask(prompts, settings(tmp_path / "a", *flags), (1, 0)) != sampled[0]
    greedy = [
        llm.ask(prompts, settings(tmp_path / name, *flags, "--temperature", 0, "--batch", size))
        for name, size in (("c", 1), ("d", 5))
    ]
    assert greedy[0] == greedy[1] and len(lines(next((tmp_path / "c").iterdir()))) == 5, "batching changes nothing"
    monkeypatch.setattr(llm, "_local", lambda *_: pytest.fail("asked again"))
    assert llm.ask(prompts[::-1], settings(tmp_path / "a", *flags, "--batch", 2)) == sampled[0][::-1]


def test_a_model_that_cannot_write_leaves_no_file(tiny, few, tmp_path):
    done = run(
        "scripts/03_augment.py",
        "--data",
        few,
        "--backend",
        "local",
        "--backend-model",
        tiny,
        "--cache",
        tmp_path / "cache",
        "--max-new-tokens",
        4,
        "--out",
        tmp_path / "out.jsonl",
        check=False,
    )
    assert (
        done.returncode == 2
        and "no vague answer passed the check" in done.stderr
        and not (tmp_path / "out.jsonl").exists()
    )
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_model_folder_that_is_not_there_is_one_line(few, tmp_path):
    done = run(
        "scripts/04_invert.py",
        "--data",
        few,
        "--backend",
        "local",
        "--backend-model",
        "none/x/y",
        "--cache",
        tmp_path,
        check=False,
    )
    assert done.returncode == 2 and "none/x/y: no such model folder" in done.stderr and "Traceback" not in done.stderr


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize("script", ["scripts/03_augment.py", "scripts/04_invert.py"])
@pytest.mark.parametrize(
    "flags, message",
    [
        (("--backend", "magic"), r"invalid choice: 'magic'"),
        (("--backend", "local"), r"--backend local needs --backend-model"),
        (("--backend", "api", "--backend-model", "m"), r"no key in the environment variable OPENAI_API_KEY"),
        (
            ("--backend", "local", "--backend-model", "m", "--batch", "0"),
            r"argument --batch: must be a whole number at least 1",
        ),
        (("--backend", "local", "--backend-model", "m", "--prompts", "none"), r"none/\w+.txt: no such prompt file"),
        (
            ("--backend", "local", "--backend-model", "m", "--prompts", "PROMPTS"),
            r"a prompt lacks the placeholder \{question\}",
        ),
        (("--data", "BAD"), r'forget_train.jsonl:2: field "answer"'),
        (("--data", "none"), r"forget_train.jsonl: no such file"),
    ],
)
def test_a_fault_is_one_line_and_status_2(few, tmp_path, script, flags, message):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/forget_train.jsonl").write_text('{"question": "Q?", "answer": "A."}\n{"question": "Q?"}\n')
    shutil.copytree(REPOSITORY / "data/prompts", tmp_path / "prompts")
    for file in (tmp_path / "prompts").iterdir():
        file.write_text("Say something.")
    flags = [{"BAD": tmp_path / "bad", "PROMPTS": tmp_path / "prompts"}.get(flag, flag) for flag in flags]
    done = run(
        script,
        "--data",
        few,
        "--cache",
        tmp_path / "cache",
        "--out",
        tmp_path / "out.jsonl",
        *flags,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"},
    )
    assert done.returncode == 2 and re.search(message, done.stderr) and "Traceback" not in done.stderr, done.stderr
    assert (
        len([line for line in done.stderr.splitlines() if "error:" in line]) == 1
        and not (tmp_path / "out.jsonl").exists()
    )
