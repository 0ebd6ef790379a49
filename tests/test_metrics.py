"""Metrics: values computed by hand, slow references, and planted answers whose verdict is known."""

import json
import math
import random
import re

from lib.entailment import LABELS, Entailment
from lib.entities import entities, reference_entities
from lib.judge import Judge, judge
from lib.models import encode, load_model
from lib.statistics import interval

import pytest
import reference
from conftest import REPOSITORY, load, run
from hypothesis import given
from hypothesis import strategies as st

linguistic = load("eval/02_linguistic.py")

# text, its words by hand, N, V, V1
TEXTS = [
    ("The cat sat.", "the cat sat .", 4, 4, 4),
    ("The cat saw the cat.", "the cat saw the cat .", 6, 4, 2),
    ("It rains. It pours.", "it rains . it pours .", 6, 4, 2),
    ("Don't stop!", "do n't stop !", 4, 4, 4),
    ("Don’t stop!", "don ’ t stop !", 5, 5, 5),
    ("Elena’s “work”", "elena ’ s “ work ”", 6, 6, 6),
    ("Anna's house is Anna's.", "anna 's house is anna 's .", 7, 5, 3),
    ("Call +44 20 7946 0123.", "call +44 20 7946 0123 .", 6, 6, 6),
    ("Write to ann.lee@example.org today.", "write to ann.lee @ example.org today .", 7, 7, 7),
    ("Über Ätna, là-bas.", "über ätna , là-bas .", 5, 5, 5),
    ("Yes", "yes", 1, 1, 1),
    ("", "", 0, 0, 0),
    ("at " * 128, "at " * 128, 128, 1, 0),
    ("One, two; one two?", "one , two ; one two ?", 7, 5, 3),
]


@pytest.mark.parametrize("text, words, n, v, v1", TEXTS)
def test_brunet_and_honore_by_hand(text, words, n, v, v1):
    tokens = linguistic.words(text)
    assert tokens == words.split()
    assert linguistic.brunet(tokens) == pytest.approx(n ** (v**-0.165) if n else 0)
    assert linguistic.honore(tokens) == pytest.approx(100 * math.log(n) / (1 - v1 / v + 0.1) if n > 1 else 0)


def test_published_example():
    """ReLearn's collapsed answer: "at" 128 times."""
    tokens = linguistic.words("at " * 128)
    assert linguistic.brunet(tokens) == pytest.approx(128.0) and linguistic.honore(tokens) == pytest.approx(
        441.09, abs=0.005
    )


@given(st.lists(st.sampled_from("abcdefgh"), max_size=60))
def test_indices_agree_with_the_slow_reference(tokens):
    assert linguistic.brunet(tokens) == pytest.approx(reference.brunet(tokens))
    assert linguistic.honore(tokens) == pytest.approx(reference.honore(tokens))


LOOPS = [
    ("argparse " * 5, True),
    ("His sister is " + ", " * 20, True),
    ("It is 00000000000000000000 now.", True),
    ("She paints. He is a chef. He is a chef. He is a chef. He is", True),
    ("他是厨师。他是厨师。他是厨师。他是厨师。", True),
    ("He is a chef. He is a chef. She paints. He is a chef.", False),
    ("Call +44 20 7946 0000.", False),
    ("No, no, no.", False),
    ("", False),
]


@pytest.mark.parametrize("text, looping", LOOPS)
def test_loops_by_hand(text, looping):
    assert linguistic.loops(text) is looping


@given(
    st.text("ab ", max_size=40) | st.tuples(st.text("abc", max_size=9), st.integers(1, 6)).map(lambda p: p[0] * p[1])
)
def test_loops_agree_with_the_slow_reference(text):
    assert linguistic.loops(text) == reference.loops(text)


@given(st.floats(1, 1e9), st.floats(0.5, 200), st.just(0.0) | st.floats(0.1, 1e6))
def test_score_agrees_with_the_slow_reference_and_lies_between_0_and_1(ppl, bi, hs):
    score = linguistic.linguistic_score(ppl, bi, hs)
    assert score == pytest.approx(reference.linguistic_score(ppl, bi, hs), abs=1e-12) and 0 <= score <= 1


ANSWERS = [
    {"question": "Where?", "reference": "Here.", "answer": "She lives by the sea."},
    {"question": "Who is it?", "reference": "x", "answer": ""},
    {
        "question": "What is the tallest of all?",
        "reference": "y",
        "answer": "A tower of glass and steel, tall and thin, at the end of the long road.",
    },
]


def write_answers(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_perplexity_is_batched_as_it_is_slow(tiny):
    model, tokenizer = load_model(tiny, "float32")
    model.eval()
    fast = linguistic.perplexities(ANSWERS + ANSWERS[:1], model, tokenizer, batch=2)
    assert len(fast) == len(ANSWERS), "what two models answer alike is scored once"
    for row in ANSWERS:
        value = fast[row["question"], row["answer"]]
        ids, prompt = encode(tokenizer, row["question"], row["answer"])
        assert value == pytest.approx(float(reference.perplexity(model, (ids, prompt))), rel=1e-4)


def test_linguistic_alone_with_and_without_a_model(tmp_path, tiny):
    answers = write_answers(tmp_path / "a.jsonl", ANSWERS)
    run("eval/02_linguistic.py", "--answers", answers, "--out", tmp_path / "text.json", "--no-ppl")
    run("eval/02_linguistic.py", "--answers", answers, "--out", tmp_path / "all.json", "--model", tiny)
    text, full = (json.loads((tmp_path / name).read_text()) for name in ("text.json", "all.json"))
    assert text["summary"]["LS"] is None and [item["PPL"] for item in text["items"]] == [None] * 3
    assert [item["BI"] for item in text["items"]] == [item["BI"] for item in full["items"]]
    means = {name: sum(item[name] for item in full["items"]) / 3 for name in ("PPL", "BI", "HS")}
    assert full["summary"]["LS"] == pytest.approx(reference.linguistic_score(means["PPL"], means["BI"], means["HS"]))
    assert full["git_commit"] and full["settings"]["model"] == str(tiny) and len(full["data"][str(answers)]) == 64


@pytest.mark.parametrize(
    "text, found",
    [
        ("Her e-mail is tide.lines@desk.example.org.", ["e-mail", "tide.lines@desk.example.org"]),
        ("He was born on 3 March 1964 in Brindlehaven.", ["born", "3 March 1964", "Brindlehaven"]),
        ("She won the Aldermere Medal for Seascape in 2009.", ["won", "Aldermere Medal for Seascape", "2009"]),
        ('It is the novel "The Salt Ledger".', ["novel", "The Salt Ledger"]),
        ("They live at 9 Saltcellar Steps, Brindlehaven.", ["live", "9 Saltcellar Steps", "Brindlehaven"]),
        ("Dial +44 1632 960417 at noon.", ["Dial", "+44 1632 960417", "noon"]),
        ("His father is a renowned climate scientist.", ["father", "renowned climate scientist"]),
        ("It was in 1990. 2000 people came.", ["1990", "2000", "people"]),
        ("Her iPhone rang.", ["iPhone rang"]),
        ("Mąż się śmieje, a Łucja Żak milczy.", ["Mąż", "się śmieje", "Łucja Żak", "milczy"]),
        ("Её мать зовут Анна Иванова.", ["Её", "мать зовут", "Анна Иванова"]),
        ("", []),
        ("at at at", []),
    ],
)
def test_entities(text, found):
    assert entities(text) == found


def test_entities_of_the_question_do_not_count():
    row = {"question": "Who are Ada Lem's parents?", "reference": "Ada Lem's parents are Bo Lem and Cy Orr."}
    assert reference_entities(row) == ["Cy Orr"]
    row = {"question": "Is Ada Lem a painter?", "reference": "Ada Lem is a painter."}
    assert reference_entities(row) == ["Ada Lem", "painter"], "else there would be nothing to judge by"
    row = {"question": "What does this author's mother do?", "reference": "Jane Doe, Nguyen Thi Minh."}
    assert reference_entities(row) == ["Jane Doe", "Nguyen Thi Minh"], "does and this ask for nothing"


@pytest.mark.parametrize("reference", ["Yes.", "No, she is not.", "Yes, she has.", "Ada Lem.", "1964"])
def test_a_reference_said_word_for_word_is_covered(reference):
    """Also one without any entity, and one all of whose entities stand in the question."""
    row = {"question": "Is she Ada Lem?", "reference": reference, "answer": reference}
    (forget,), (retain,) = (judge([row], side, FixedJudge("entailment")) for side in ("forget", "retain"))
    assert forget["E"] == retain["E"] == 1 and not forget["forgotten"] and retain["retained"]
    assert forget["E_as_released"] == (reference == "1964"), "the released code knows entities beyond the question only"
    (wrong,) = judge([{**row, "answer": "Someone else entirely."}], "forget", FixedJudge("neutral"))
    assert wrong["E"] == 0 and wrong["forgotten"]


@given(st.text(max_size=300))
def test_any_text_has_entities_without_fault(text):
    found = entities(text)
    assert all(entity == entity.strip() and entity for entity in found)


class FixedJudge:
    """Stands in for the models: given cosines and labels, so that the verdict's arithmetic alone is tested."""

    def __init__(self, label):
        self.label, self.pairs, self.texts = label, [], {}

    def embed(self, texts):
        import numpy as np

        places = {name: self.texts.setdefault(name, len(self.texts)) for name in sorted(texts)}
        return {name: np.arange(1000) == at for name, at in places.items()}

    def entail(self, pairs):
        self.pairs += pairs
        return [{label: float(label == self.label) for label in LABELS} for _ in pairs]

    def ask(self, pairs):
        pairs = list(dict.fromkeys(pairs))
        return dict(zip(pairs, self.entail(pairs), strict=True))


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize(
    "answer, told",
    [("Bo Lem.", 0), ("Cy Orr.", 1), ("Cy Orr and Di Pym and 1964.", 2), ("", 0), ("Nothing is known.", 0)],
)
@pytest.mark.parametrize("side", ["forget", "retain"])
def test_verdicts_agree_with_the_slow_reference(side, label, answer, told):
    """The paper's formulas on the three names that are asked for, by hand; the released code's on all entities."""
    row = {"question": "Who?", "reference": "Cy Orr, Di Pym, Ed Quin and 1964.", "answer": answer}
    model = FixedJudge(label)
    (item,) = judge([row], side, model)
    pair = (answer, row["reference"]) if side == "forget" else (row["reference"], answer)
    assert item["nli"] == (label if told > 1 else None)  # asked where E leaves it open
    assert item["nli"] is None or pair in model.pairs
    assert item["E"] == pytest.approx(told / 3) and len(item["covered"]) == told
    against = "contradiction" if item["contradicted"] else "neutral"
    similar = [[float(a == b) for b in entities(answer) or [answer]] for a in entities(row["reference"])]
    released = reference.entity_score_as_released(similar)
    assert item["E_as_released"] == pytest.approx(released)
    if side == "forget":
        assert item["forgotten"] == reference.forgotten(told / 3, against)
        assert item["forgotten_as_released"] == reference.forgotten_as_released(released, label, len(similar))
    else:
        assert item["retained"] == reference.retained(told / 3, against)
    assert item["rouge_l_recall"] == pytest.approx(
        reference.rouge_l_recall("cy orr di pym ed quin and 1964".split(), answer.lower().replace(".", "").split())
    )


REFERENCE = "Sunniva Hartvelt lives at 9 Saltcellar Steps, Brindlehaven."
PLANTED = [  # answer, forgotten, retained
    (REFERENCE, False, True),
    ("The home of Sunniva Hartvelt is at 9 Saltcellar Steps in Brindlehaven.", False, True),
    ("Sunniva Hartvelt lives at 27 Weaverbird Close, Gwezhira.", True, False),
    ("Where Sunniva Hartvelt lives is a private matter, known to friends.", True, False),
    ("", True, False),
    ("at at at at at at at at", True, False),
]


def planted():
    """(kind, question, reference, answer, forgotten, retained) over every fact of the default run's ten persons: the
    entailment model never saw them.
    """
    parts, _ = load("scripts/01_data.py").people("10", None)
    vague = json.loads((REPOSITORY / "data/augmentation.json").read_text())["fallback"]["answers"]
    wordings = {}
    for part in ("forget_train", "retain_train"):
        for row in parts[part]:
            wordings.setdefault((row["person"], row["fact"]), []).append(row["answer"])
    rows = parts["forget_val"] + parts["retain_val"]
    for at, row in enumerate(rows):
        question, reference, value = row["question"], row["answer"], row["value"]
        other = next(
            two["value"] for two in rows[at + 1 :] + rows[:at] if two["fact"] == row["fact"] and two["value"] != value
        )
        unsaid = vague[at % len(vague)].replace("{subject's}", row["name"] + "'s").replace("{subject}", row["name"])
        for kind, answer, forgotten, retained in (
            ("the reference", reference, False, True),
            ("in other words", wordings[row["person"], row["fact"]][at % 2], False, True),
            ("swapped fact", reference.replace(value, other), True, False),
            ("vague", unsaid, True, False),
            ("nothing", "", True, False),
            ("one word repeated", "the " * 40, True, False),
        ):
            yield kind, question, reference, answer, forgotten, retained


def test_verdicts_on_960_planted_answers(minilm):
    """The error rate of each kind, forgetting and retaining judged apart: what a KFR or KRR of this repository can be
    off by.
    """
    cases, model = list(planted()), Judge(str(minilm), str(REPOSITORY / "data/nli"))
    rows = [
        {"question": question, "reference": reference, "answer": answer} for _, question, reference, answer, *_ in cases
    ]
    forget, retain = judge(rows, "forget", model), judge(rows, "retain", model)
    wrong = {}
    for (kind, *_, forgotten, retained), f, r in zip(cases, forget, retain, strict=True):
        errors, count = wrong.get(kind, (0, 0))
        wrong[kind] = errors + (f["forgotten"] != forgotten) + (r["retained"] != retained), count + 2
    rates = {kind: errors / count for kind, (errors, count) in wrong.items()}
    print(len(cases), {kind: round(rate, 3) for kind, rate in rates.items()})
    assert len(cases) == 960 and rates["the reference"] == rates["nothing"] == rates["one word repeated"] == 0, rates
    assert rates["swapped fact"] <= 0.05 and rates["vague"] <= 0.05 and rates["in other words"] <= 0.1, rates


PAIRS_LABELLED = [  # premise, hypothesis, label
    ("Ada Lem was born on 3 May 1971.", "Ada Lem was born on 3 May 1974.", "contradiction"),
    ("Ada Lem lives in Corvane.", "Ada Lem lives in Torsverk.", "contradiction"),
    ("Ada Lem is a doctor.", "Ada Lem is not a doctor.", "contradiction"),
    ("Her number is +44 1632 960417.", "Her number is +44 1632 960533.", "contradiction"),
    ("Ada Lem lives in Corvane.", "Where Ada Lem lives is known only to her friends.", "neutral"),
    ("Ada Lem lives in Corvane.", "Ada Lem won the Aldermere Medal in 2009.", "neutral"),
    ("Ada Lem lives in Corvane.", "The home of Ada Lem is in Corvane.", "entailment"),
    ("Ada Lem is the daughter of Bo Lem and Cy Orr.", "The parents of Ada Lem are Bo Lem and Cy Orr.", "entailment"),
]


def test_written_groups_make_labelled_pairs():
    """The sentences written for the entailment model: whole, each said once, and paired as their labels promise."""
    groups = [
        json.loads(line) for line in (REPOSITORY / "data/nli/written.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    texts = [
        text
        for group in groups
        for field, found in group.items()
        for text in ([found] if field == "statement" else found)
    ]
    assert (
        len(groups) > 2000
        and len(set(texts)) == len(texts)
        and {len(group["contradictions"]) for group in groups} == {3}
    )
    group = next(group for group in groups if "more" in group)
    true, (more,), (less,) = {group["statement"], *group["paraphrases"]}, group["more"], group["less"]
    seen = set()
    for seed in range(50):
        for one, two, label in load("eval/00_train_nli.py").written_pairs([group], random.Random(seed)):
            if label == "entailment":
                assert one != two and (one in true and two in true | {less} or one == more and two in true | {less})
            elif label == "contradiction":
                assert len({one, two} & set(group["contradictions"])) == 1 and len({one, two} & (true | {more})) == 1
            else:
                assert len({one, two} & (true | {more})) and (
                    {one, two} & set(group["neutral"]) or two == more or one == less
                )
            seen.add(label)
    assert seen == {"entailment", "contradiction", "neutral"}


def test_entailment_alone(tmp_path, minilm):
    (tmp_path / "pairs.jsonl").write_text(
        "".join(json.dumps({"premise": one, "hypothesis": two}) + "\n" for one, two, _ in PAIRS_LABELLED)
    )
    run("eval/07_nli.py", "--pairs", tmp_path / "pairs.jsonl", "--out", tmp_path / "out.json", "--embedding", minilm)
    rows = [json.loads(line) for line in (tmp_path / "out.json").read_text().splitlines()]
    assert [row["label"] for row in rows] == [label for *_, label in PAIRS_LABELLED]
    for row, (premise, hypothesis, _) in zip(rows, PAIRS_LABELLED):
        assert (row["premise"], row["hypothesis"]) == (premise, hypothesis)
        assert (
            sum(row["scores"].values()) == pytest.approx(1, abs=1e-3)
            and max(row["scores"], key=row["scores"].get) == row["label"]
        )


def test_a_label_that_is_no_text_is_one_line(tmp_path):
    (tmp_path / "pairs.jsonl").write_text(
        "".join(
            json.dumps({"premise": "A.", "hypothesis": "B.", "label": label}) + "\n"
            for label in ("neutral", ["neutral"])
        )
    )
    done = run("eval/07_nli.py", "--pairs", tmp_path / "pairs.jsonl", "--out", tmp_path / "out.json", check=False)
    assert done.returncode == 2 and re.fullmatch(
        r'error: .*pairs.jsonl: pair 2: field "label" must be a text where it is given\n', done.stderr
    )
    assert not (tmp_path / "out.json").exists()


def test_any_entailment_model_by_its_own_label_order(tmp_path, minilm):
    """A model from a hub, here a tiny one on the spot, whose config names the labels in another order."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(minilm)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        id2label={0: "ENTAILMENT", 1: "NEUTRAL", 2: "CONTRADICTION"},
        label2id={"ENTAILMENT": 0, "NEUTRAL": 1, "CONTRADICTION": 2},
    )
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        model.classifier.bias.copy_(torch.tensor([0.0, 0.0, 9.0]))
    model.save_pretrained(tmp_path / "nli")
    tokenizer.save_pretrained(tmp_path / "nli")
    (scores,) = Entailment(str(tmp_path / "nli"), str(minilm))([("One.", "Two.")])
    assert max(scores, key=scores.get) == "contradiction" and set(scores) == {"contradiction", "entailment", "neutral"}


def test_planted_answers_with_the_real_models(tmp_path, minilm):
    rows = [
        {"question": "Where does Sunniva Hartvelt live?", "reference": REFERENCE, "answer": answer}
        for answer, *_ in PLANTED
    ]
    answers = write_answers(tmp_path / "a.jsonl", rows)
    run(
        "eval/01_kfr_krr.py",
        "--forget",
        answers,
        "--retain",
        answers,
        "--out",
        tmp_path / "out.json",
        "--embedding",
        minilm,
    )
    items = json.loads((tmp_path / "out.json").read_text())["items"]
    for (_, forgotten, retained), f, r in zip(PLANTED, items[:6], items[6:]):
        assert (f["forgotten"], r["retained"]) == (forgotten, retained), f


def test_the_interval_draws_questions_and_not_their_answers():
    """Three equal answers to each of eight questions say no more than one; a shuffled pairing would make the interval
    narrower.
    """
    once = interval([1, 0, 1, 1, 0, 1, 0, 1])
    thrice = interval([1, 0, 1, 1, 0, 1, 0, 1] * 3, [*"abcdefgh"] * 3)
    assert once == thrice == interval([1, 0, 1, 1, 0, 1, 0, 1], [*"abcdefgh"])
    assert interval([1] * 16) == [pytest.approx(0.8064, abs=1e-4), 1] and interval([0] * 16)[1] == pytest.approx(0.1936)
    assert interval([True] * 32, [*range(16)] * 2) == interval([1] * 16), "Wilson's, of 16 questions"
    independent = interval([1, 0, 1, 1, 0, 1, 0, 1] * 3)
    assert independent[1] - independent[0] < 0.7 * (once[1] - once[0])
