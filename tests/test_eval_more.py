"""TOFU's metrics, MEMO, MA, EL and exposure: against slow references that share no code, and values by hand."""

import copy
import json
import math
import os
import re
import runpy
import sys

from lib import files
from lib.entailment import Entailment
from lib.exposure import generalized_exposure, relative_exposure
from lib.files import sha256
from lib.generation import continuations
from lib.likelihood import _groups, answer_logprobs
from lib.models import encode, encode_pairs, exact_dtype, load_model, prompt_text
from lib.rouge import rouge_scorer

import pytest
import torch
from conftest import REPOSITORY, load
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

tofu, memorization, exposure = load("eval/03_tofu.py"), load("eval/04_memorization.py"), load("eval/05_exposure.py")

PAIRS = [
    ("Who lives here?", "Ada Lem lives here."),
    ("Where does she live?", "In the white house by the sea, at the end of the road."),
    ("What does she do for a living, and since when?", "She paints."),
    ("Who?", "A"),
]


def run(script, *flags):
    """Runs a script in this process: most of a small script's time is the import of torch."""
    argv, sys.argv = sys.argv, [script, *map(str, flags)]
    try:
        runpy.run_path(str(REPOSITORY / script), run_name="__main__")
    finally:
        sys.argv = argv


@pytest.fixture(scope="module")
def learnt(tiny, tmp_path_factory):
    """The tiny model after it has learnt some pairs partly by heart, so that memorisation is neither none nor all."""
    folder = tmp_path_factory.mktemp("learnt")
    folder.joinpath("full.jsonl").write_text(
        "".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in PAIRS[:3])
    )
    run(
        "scripts/02_finetune.py",
        "--model",
        tiny,
        "--data",
        folder,
        "--out",
        folder / "model",
        "--epochs",
        40,
        "--batch",
        3,
        "--accumulation",
        1,
        "--lr",
        2e-2,
        "--lora-dropout",
        0,
        "--lora-r",
        16,
        "--dtype",
        "float32",
    )
    return folder / "model"


@pytest.fixture(scope="module")
def model(learnt):
    return load_model(learnt, exact_dtype())


# ---------------------------------------------------------------- slow references: one row, one token at a time


def slow_logprobs(pair, model, tokenizer):
    """(log-probabilities, hits) of the answer's tokens, a forward pass a token."""
    ids, prompt = encode(tokenizer, pair[0], pair[1])
    logprobs, hits = [], []
    for at in range(prompt, len(ids)):
        with torch.no_grad():
            logits = model(torch.tensor([ids[:at]])).logits[0, -1].double()
        logprobs.append(float(logits.log_softmax(-1)[ids[at]]))
        hits.append(int(logits.argmax()) == ids[at])
    return logprobs, hits


def slow_greedy(ids, limit, model, tokenizer):
    """Greedy continuation of token ids: no batch, no padding, no cache."""
    ids, start = list(ids), len(ids)
    while len(ids) - start < limit:
        with torch.no_grad():
            token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        ids.append(token)
    return ids[start:]


def slow_memo(question, answer, model, tokenizer, mode, limit, window=5):
    """MEMO of one pair, prompt by prompt, in the spec's words, with chatml written out."""
    scores, text, k = [], answer if mode == "suffix" else question, 1
    while k < len(text):
        prompt = (
            f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer[:k]}"
            if mode == "suffix"
            else f"<|im_start|>user\n{question[:k]}"
        )
        found = tokenizer.decode(
            slow_greedy(tokenizer(prompt, add_special_tokens=False)["input_ids"], limit, model, tokenizer),
            skip_special_tokens=True,
        )
        scores.append(RougeScorer(["rouge1"], use_stemmer=True).score(text[k:], found)["rouge1"].precision)
        k += window
    return sum(scores) / len(scores) if scores else 0.0


def slow_el(question, answer, model, tokenizer, n):
    """EL_n of one pair: every prefix is continued."""
    ids, prompt = encode(tokenizer, question, answer)
    true, total, count = ids[prompt:-1], 0.0, 0
    for t in range(len(true)):
        rest = true[t:]
        if len(rest) >= n:
            found = slow_greedy(ids[: prompt + t], len(rest), model, tokenizer)
            grams = [found[at : at + n] for at in range(len(found)) if len(found[at : at + n]) == n]
            total += (
                sum(any(rest[at : at + n] == gram for at in range(len(rest))) for gram in grams) / len(grams)
                if grams
                else 0
            )
            count += 1
    return total / count if count else None


# ---------------------------------------------------------------- scoring


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_answers_are_scored_as_one_token_at_a_time(model, batch):
    for pair, (logprobs, hits) in zip(PAIRS, answer_logprobs(PAIRS, *model, batch)):
        slow, slow_hits = slow_logprobs(pair, *model)
        assert logprobs.tolist() == pytest.approx(slow, abs=1e-4) and hits.tolist() == slow_hits


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_answers_to_one_question_are_scored_as_one_token_at_a_time(model, batch):
    """The question and what they begin with is read once: answers that are alike, that begin alike, the beginning of
    another, none at all, and nothing in common; and questions as long as each other, which are a batch."""
    texts = ["It is Ada Pym.", "It is Ada Low.", "It is", "It is Ada Pym.", "", "Nobody knows."]
    pairs = [(PAIRS[0][0], text) for text in texts[:4]] + [(PAIRS[1][0], text) for text in texts] + PAIRS[2:]
    pairs += [(PAIRS[0][0].replace("?", mark), text) for mark in ("!", ".") for text in texts[:3]]
    groups = _groups(encode_pairs(model[1], pairs)[0], batch, torch.device("cpu"))
    assert sorted(row for parts, _ in groups for part in parts for row in part) == list(range(len(pairs)))
    assert max(sum(map(len, parts)) for parts, _ in groups) <= batch
    assert any(shared and len(parts) == 3 for parts, shared in groups) == (batch == 16)
    for pair, (logprobs, hits) in zip(pairs, answer_logprobs(pairs, *model, batch), strict=True):
        slow, slow_hits = slow_logprobs(pair, *model)
        assert logprobs.tolist() == pytest.approx(slow, abs=1e-4) and hits.tolist() == slow_hits


@pytest.mark.parametrize("read_once", [False, True])
@pytest.mark.parametrize("batch", [1, 2, 16])
def test_continuations_are_those_of_one_at_a_time(model, batch, read_once):
    prompts = [encode(model[1], *pair)[0][:cut] for pair in PAIRS for cut in (1, 9, -1)] * 2  # every prompt twice
    limits = [3, 30, 0, 12] * 6
    expected = [slow_greedy(ids, limit, *model) for ids, limit in zip(prompts, limits)]
    whole = [encode(model[1], *pair)[0] for pair in PAIRS for _ in (1, 9, -1)] * 2
    whole[5] = whole[0]  # not the prompt's own text: they share their beginning
    assert continuations(prompts, *model, batch, limits, along=whole if read_once else None) == expected
    assert len({len(tokens) for tokens in expected}) > 3, "rows must leave their batch at different times"


@pytest.mark.parametrize("template", ["plain", "llama2", "chatml"])
def test_scripts_and_eval_agree_on_a_models_prompt_format(model, template):
    """They import nothing from each other, so a test holds them together."""
    tokenizer = copy.deepcopy(model[1])
    tokenizer.chat_template = load("scripts/00_models.py").TEMPLATES[template]
    for question, answer in PAIRS:
        assert encode(tokenizer, question, answer) == encode(tokenizer, question, answer)
    ids, prompt = encode(tokenizer, "Who?", "")
    assert ids[prompt:] == [tokenizer.eos_token_id], "an empty answer is its end alone"


@pytest.mark.parametrize("path, commit", [("", None), (os.environ["PATH"], r"[0-9a-f]{12}(-dirty)?")])
def test_a_machine_without_git_names_no_commit(monkeypatch, path, commit):
    monkeypatch.setenv("PATH", path)
    found = files.git_commit()
    assert found is None if commit is None else re.fullmatch(commit, found)


def test_an_adapter_folder_is_scored_with_its_base(tmp_path, tiny, data):
    run(
        "scripts/10_ga.py",
        "--model",
        tiny,
        "--data",
        data,
        "--out",
        tmp_path / "ga",
        "--retain",
        "none",
        "--lr",
        1e-2,
        "--epochs",
        1,
        "--dtype",
        "float32",
    )
    ours, theirs = load_model(tmp_path / "ga", exact_dtype()), load_model(tmp_path / "ga", "float32")[0].eval()
    ((logprobs, _),) = answer_logprobs(PAIRS[:1], *ours, 1)
    assert logprobs.tolist() == pytest.approx(slow_logprobs(PAIRS[0], theirs, ours[1])[0], abs=1e-4)
    ((base, _),) = answer_logprobs(PAIRS[:1], *load_model(tiny, exact_dtype()), 1)
    assert (base - logprobs).abs().max() > 1e-2, "the adapter changes something"


@pytest.mark.parametrize("load_it", [load_model, lambda folder: Entailment(folder, folder)])
def test_a_models_own_code_is_refused_without_asking(tmp_path, monkeypatch, capsys, load_it):
    questions = []
    monkeypatch.setattr("builtins.input", lambda text="": questions.append(text) or "n")
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "model_type": "own",
                "auto_map": dict.fromkeys(
                    ("AutoConfig", "AutoTokenizer", "AutoModelForCausalLM", "AutoModelForSequenceClassification"),
                    "own.Own",
                ),
            }
        )
    )
    with pytest.raises(SystemExit) as done:
        load_it(str(tmp_path))
    assert done.value.code == 2 and not questions and re.match(r"error: cannot load .*\n\Z", capsys.readouterr().err)


# ---------------------------------------------------------------- TOFU


def test_truth_ratio_by_hand():
    """Perturbed answers at 0.1 and 0.4, paraphrase at 0.5: geometric mean 0.2, arithmetic 0.25."""
    paraphrase, perturbed = math.log(0.5), [math.log(0.1), math.log(0.4)]
    assert tofu.truth_ratio(paraphrase, perturbed) == pytest.approx(0.4)
    assert tofu.truth_ratio(paraphrase, perturbed, paper=True) == pytest.approx(0.5)


@given(st.floats(-20, -0.01), st.lists(st.floats(-20, -0.01), min_size=1, max_size=5))
def test_the_papers_truth_ratio_is_never_below_the_codes(paraphrase, perturbed):
    """Jensen: an arithmetic mean is at least the geometric one; they agree on one answer."""
    code, paper = tofu.truth_ratio(paraphrase, perturbed), tofu.truth_ratio(paraphrase, perturbed, paper=True)
    assert paper >= code * (1 - 1e-9)
    assert tofu.truth_ratio(paraphrase, perturbed[:1]) == pytest.approx(
        tofu.truth_ratio(paraphrase, perturbed[:1], paper=True)
    )


def test_collapsed_answers_still_have_a_truth_ratio_and_a_probability(monkeypatch):
    """At -800 nats a token, as after a collapse, e^x is 0: two true answers and two false ones, all alike."""
    assert tofu.truth_ratio(-800.0, [-800.0, -800.0], paper=True) == 1
    monkeypatch.setattr(tofu, "answer_logprobs", lambda asked, *_: [(torch.tensor([-800.0]), None)] * len(asked))
    monkeypatch.setattr(tofu, "answers", lambda questions, *_: [""] * len(questions))
    row = {"question": "Q?", "answer": "a", "paraphrased_answer": "a", "perturbed_answer": ["b", "c", "d"]}
    (item,) = tofu.score({"world_facts": [row]}, None, None, 1, 1, True)
    assert item["probability"] == pytest.approx(1 / 4) and item["truth_ratio"] == 1


def test_forget_quality_tells_the_same_from_far_apart():
    same = [at / 20 for at in range(20)]
    assert tofu.forget_quality(same, same) == 1
    assert tofu.forget_quality(same, [ratio + 5 for ratio in same]) < 0.05
    # by hand: one of two samples of three lies wholly above the other; D = 1, and 2 of the 20 ways to mix them are as
    # extreme
    assert tofu.forget_quality([1, 2, 3], [4, 5, 6]) == pytest.approx(0.1)


ROWS = [
    {
        "question": q,
        "answer": a,
        "paraphrased_answer": "It is so: " + a,
        "perturbed_answer": ["Bo Pym does.", "Nobody at all."],
    }
    for q, a in PAIRS[:3]
]
FACTS = [
    {"question": "What is the capital of France?", "answer": "Paris", "perturbed_answer": ["Rome", "Berlin", "Oslo"]}
]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("paper", [False, True])
def test_tofu_from_files_agrees_with_the_slow_reference(tmp_path, learnt, model, paper):
    rows, facts = write(tmp_path / "rows.jsonl", ROWS), tmp_path / "facts.json"
    facts.write_text(json.dumps(FACTS, indent=1))  # a list is read too
    flags = ("--model", learnt, "--dtype", exact_dtype(), "--forget", rows, "--max-new-tokens", 12)
    flags += ("--paper",) if paper else ()
    run("eval/03_tofu.py", *flags, "--out", tmp_path / "first.json")
    run(
        "eval/03_tofu.py",
        *flags,
        "--retain",
        rows,
        "--real-authors",
        facts,
        "--world-facts",
        facts,
        "--reference",
        tmp_path / "first.json",
        "--out",
        tmp_path / "out.json",
    )
    result = json.loads((tmp_path / "out.json").read_text())
    p = lambda q, a: math.exp(sum(slow_logprobs((q, a), *model)[0]) / len(slow_logprobs((q, a), *model)[0]))
    values = []
    for name, part in (("retain", ROWS), ("real_authors", FACTS), ("world_facts", FACTS)):
        columns = [[], [], []]
        for row, item in zip(part, [item for item in result["items"] if item["set"] == name], strict=True):
            false = [p(row["question"], text) for text in row["perturbed_answer"]]
            probability = p(row["question"], row["answer"])
            average = sum(false) / len(false)  # of the sets of model utility, by TOFU's code and paper
            ratio = average / p(row["question"], row.get("paraphrased_answer", row["answer"]))
            if name != "retain":
                probability /= probability + sum(false)
            prompt = model[1](prompt_text(model[1], row["question"]), add_special_tokens=False)["input_ids"]
            answer = model[1].decode(slow_greedy(prompt, 12, *model), skip_special_tokens=True).strip()
            rouge = RougeScorer(["rougeL"], use_stemmer=True).score(row["answer"], answer)["rougeL"].recall
            assert item["truth_ratio"] == pytest.approx(ratio, rel=1e-3) and item["probability"] == pytest.approx(
                probability, rel=1e-3
            )
            assert (item["answer"], item["rouge_l_recall"]) == (answer, rouge)
            for column, value in zip(columns, (rouge, probability, max(0, 1 - ratio))):
                column.append(value)
        values += [sum(column) / len(column) for column in columns]
    utility = 9 / sum(1 / value for value in values) if min(values) > 0 else 0
    assert result["summary"]["model_utility"] == pytest.approx(utility, rel=1e-3, abs=1e-9)
    assert result["summary"]["forget_quality"] == 1, "its own truth ratios"
    assert result["git_commit"] and len(result["data"]) == 3 and result["summary"]["retain_items"] == 3


OTHER = ("truth_share", "chosen", "choice_entropy")


def test_model_utility_is_the_harmonic_mean_of_nine():
    sets = zip(("retain", "real_authors", "world_facts"), ((0.9, 0.8, 0.7), (0.6, 0.5, 0.4), (0.3, 0.2, 0.1)))
    items = [
        {
            "set": name,
            "rouge_l_recall": a,
            "probability": b,
            "true": c,
            "truth_ratio": 1 - c,
            **dict.fromkeys(OTHER, 0.5),
        }
        for name, (a, b, c) in sets
    ]
    assert tofu.summarise(items)["model_utility"] == pytest.approx(9 / sum(10 / n for n in range(1, 10)))
    assert tofu.summarise(items[:2])["model_utility"] is None and tofu.summarise(items)["forget_quality"] is None


def test_other_files_supply_perturbed_and_paraphrased_answers(tmp_path):
    people = [
        {"question": f"Q{at}?", "answer": f"A{at}.", "person": "ada", "fact": fact}
        for at, fact in enumerate(("home", "home", "job"))
    ]
    other = [
        {"question": "V?", "answer": "her job", "person": "ada", "fact": "job"},
        {"question": "W?", "answer": "her home", "person": "ada", "fact": "home"},
    ]
    inverted = [
        {"question": "Q2?", "answers": ["x", "y"], "source": 2},
        {"question": "Q0?", "answers": ["z"], "source": 0},
    ]
    paths = [
        write(tmp_path / name, rows) for name, rows in (("p.jsonl", people), ("i.jsonl", inverted), ("o.jsonl", other))
    ]
    rows = tofu.read_set("forget", *paths)
    assert [(row["question"], row["paraphrased_answer"], row["perturbed_answer"]) for row in rows] == [
        ("Q0?", "her home", ["z"]),
        ("Q2?", "her job", ["x", "y"]),
    ]
    plain = write(tmp_path / "plain.jsonl", [{"text": "Q0?", "labels": "A0."}, {"text": "Q2?", "labels": "A2."}])
    by_row = write(
        tmp_path / "by_row.jsonl", [{"question": "Q0?", "answer": "first"}, {"question": "Q2?", "answer": "second"}]
    )
    assert [row["paraphrased_answer"] for row in tofu.read_set("forget", plain, paths[1], by_row)] == [
        "first",
        "second",
    ]
    own = [row["paraphrased_answer"] for row in tofu.read_set("forget", paths[0], paths[1], paths[0])]
    assert own == ["A0.", "A2."], "two wordings of one fact are each their own"


def test_questions_without_false_answers_are_counted(tmp_path, capsys, tiny):
    forget = write(tmp_path / "forget.jsonl", [{"question": f"Q{at}?", "answer": "A."} for at in range(3)])
    false = write(tmp_path / "false.jsonl", [{"question": "Q1?", "answers": ["B."]}])
    flags = ("--forget", forget, "--perturbed", false, "--paraphrased", forget, "--max-new-tokens", 2)
    run("eval/03_tofu.py", "--model", tiny, *flags, "--out", tmp_path / "x.json")
    summary = json.loads((tmp_path / "x.json").read_text())["summary"]
    assert (summary["forget_items"], summary["forget_left_out"]) == (1, 2)
    assert "false.jsonl: leaves 2 of 3 questions out" in capsys.readouterr().err


# ---------------------------------------------------------------- ROUGE


@given(st.lists(st.text("abDEsz129é ñŁßİµºʼ²१_-'’.,\u0301ﬁＡ 。", max_size=30), min_size=2, max_size=2))
def test_rouge_of_latin_text_is_the_librarys(pair):
    assert rouge_scorer("rougeL").score(*pair) == RougeScorer(["rougeL"], use_stemmer=True).score(*pair)


@pytest.mark.parametrize(
    "reference, answer, recall",
    [
        ("Анна Иванова живёт в Москве.", "ОНА ЖИВЁТ В МОСКВЕ", 3 / 5),
        ("她住在北京。", "她住在上海", 3 / 5),
        ("東京・大阪", "東京", 1 / 2),
        ("वह हिन्दी बोलती है", "हिन्दी", 1 / 4),
        ("القاهرة ١٩٦٢", "في ١٩٦٢", 1 / 2),
        ("ناصر", "", 0),
        ("Она пела songs in Müller_Street", "She sang a song in Müller street", 5 / 7),
    ],
)  # song in m ller street
def test_rouge_reads_other_scripts(reference, answer, recall):
    assert rouge_scorer("rougeL").score(reference, answer)["rougeL"].recall == pytest.approx(recall)
    assert rouge_scorer("rouge1").score(reference, reference)["rouge1"].precision == 1


# ---------------------------------------------------------------- memorisation


@pytest.mark.parametrize("mode", ["suffix", "prefix"])
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_memo_is_that_of_one_prompt_at_a_time(model, mode, batch):
    fast = memorization.memo(PAIRS, *model, mode=mode, max_new_tokens=15, batch=batch)
    assert fast == pytest.approx([slow_memo(*pair, *model, mode, 15) for pair in PAIRS], abs=1e-12)
    if mode == "suffix":
        assert max(fast) > 0 and min(fast) < 1 and fast[3] == 0, "one character has no rest"


def test_memo_cuts_as_the_spec_says(model):
    prompts = memorization.memo_prompts("Who?", "Ada Lem is it.", model[1], "suffix", 5)
    assert [rest for _, rest, _ in prompts] == ["da Lem is it.", "m is it.", "it."] and model[1].decode(
        prompts[1][0]
    ).endswith("assistant\nAda Le")
    assert [rest for _, rest, _ in memorization.memo_prompts("Who is?", "Ada", model[1], "prefix", 5)] == [
        "ho is?",
        "?",
    ]


def test_ma_and_el_are_those_of_one_prompt_at_a_time(tmp_path, learnt, model):
    pairs = write(tmp_path / "pairs.jsonl", [{"question": q, "answer": a} for q, a in PAIRS])
    run(
        "eval/04_memorization.py",
        "--model",
        learnt,
        "--pairs",
        pairs,
        "--el",
        2,
        "--max-new-tokens",
        15,
        "--out",
        tmp_path / "out.json",
    )
    result = json.loads((tmp_path / "out.json").read_text())
    for item, pair in zip(result["items"], PAIRS, strict=True):
        _, hits = slow_logprobs(pair, *model)
        assert item["MA"] == pytest.approx(sum(hits) / len(hits))
        assert item["EL_2"] == (None if (slow := slow_el(*pair, *model, 2)) is None else pytest.approx(slow))
        assert item["MEMO"] == pytest.approx(slow_memo(*pair, *model, "suffix", 15))
    known = [item["EL_2"] for item in result["items"] if item["EL_2"] is not None]
    assert result["summary"]["EL_2"] == pytest.approx(sum(known) / len(known)) and result["summary"]["items"] == 4


@given(st.lists(st.integers(0, 3), max_size=12), st.lists(st.integers(0, 3), max_size=12), st.integers(1, 4))
def test_overlap_agrees_with_the_definition(found, true, n):
    value = memorization.overlap(found, true, n)
    held = [
        any(found[i : i + n] == true[j : j + n] for j in range(len(true) - n + 1)) for i in range(len(found) - n + 1)
    ]
    assert value == (sum(held) / len(held) if held else 0) and 0 <= value <= 1
    assert memorization.overlap(true, true, n) == (1 if len(true) >= n else 0)


def test_candidate_answers_are_scored_one_by_one(tmp_path, learnt):
    """MEOW's selection reads these: {"question", "answers"} in, an item an answer out, as the answer's own pair would
    get.
    """
    some = write(
        tmp_path / "some.jsonl",
        [{"question": "Who lives here?", "answers": ["Ada Lem lives here.", "Bo Pym lives here."], "source": 0}],
    )
    pairs = write(
        tmp_path / "pairs.jsonl",
        [{"question": "Who lives here?", "answer": answer} for answer in ("Ada Lem lives here.", "Bo Pym lives here.")],
    )
    for file in (some, pairs):
        run(
            "eval/04_memorization.py",
            "--model",
            learnt,
            "--pairs",
            file,
            "--el",
            0,
            "--max-new-tokens",
            10,
            "--out",
            file.with_suffix(".json"),
        )
    some, pairs = (json.loads(file.with_suffix(".json").read_text()) for file in (some, pairs))
    assert some["items"] == pairs["items"] and set(some["items"][0]) == {"question", "answer", "MEMO", "MA", "EM", "ES"}
    assert some["items"][0]["MEMO"] > some["items"][1]["MEMO"], "the learnt answer is known better"


# ---------------------------------------------------------------- exposure


def test_exposure_by_hand():
    """p = 1/2 and 1/8 over two seeds, references 1/16: log2(5/16) - log2(1/16) = log2 5. Fresh at 1/4 and 1/8:
    log2(1/2) - log2(3/16).
    """
    log = lambda p: math.log(p)
    assert generalized_exposure([log(1 / 2), log(1 / 8)], [log(1 / 16)]) == pytest.approx(math.log2(5))
    assert relative_exposure(log(1 / 2), [log(1 / 4), log(1 / 8)]) == pytest.approx(math.log2(8 / 3))
    values = exposure.exposures([(log(1 / 16), 4)], [(log(1 / 256), 4)], [[(log(1 / 64), 3)]])
    assert values == {
        "GenEx": pytest.approx(4),
        "RelEx": pytest.approx(2),
        "GenEx_per_token": pytest.approx(1),
        "RelEx_per_token": pytest.approx(1),
    }


@given(st.lists(st.floats(-2000, 0), min_size=1, max_size=6), st.floats(-500, 500))
def test_exposure_properties(values, shift):
    assert generalized_exposure(values, values) == 0
    moved = [value + shift for value in values]
    assert generalized_exposure(moved, values) == pytest.approx(shift / math.log(2), abs=1e-6)
    assert relative_exposure(max(values), values) >= -1e-9 >= relative_exposure(min(values), values) - 2e-9


def test_exposure_of_models(tmp_path, tiny, learnt, model):
    forget = write(tmp_path / "forget.jsonl", [{"question": q, "answer": a} for q, a in PAIRS[:3]])
    fresh = write(tmp_path / "fresh.jsonl", [{"question": "Who lives there?", "answer": "Bo Pym lives there."}])
    run(
        "eval/05_exposure.py",
        "--forget",
        forget,
        "--models",
        learnt,
        "--reference",
        tiny,
        tiny,
        "--fresh",
        fresh,
        "--out",
        tmp_path / "out.json",
        "--dtype",
        "float32",
    )
    result, base = json.loads((tmp_path / "out.json").read_text()), load_model(tiny, exact_dtype())
    z, _ = slow_logprobs(("Who lives there?", "Bo Pym lives there."), *model)
    for item, pair in zip(result["items"], PAIRS):
        ours, _ = slow_logprobs(pair, *model)
        theirs, _ = slow_logprobs(pair, *base)
        assert item["GenEx"] == pytest.approx((sum(ours) - sum(theirs)) / math.log(2), abs=1e-3)
        assert item["RelEx_per_token"] == pytest.approx(
            (sum(ours) / len(ours) - sum(z) / len(z)) / math.log(2), abs=1e-3
        )
    assert result["summary"]["GenEx"] > 1 and result["summary"]["reference_seeds"] == 2
    run(
        "eval/05_exposure.py",
        "--forget",
        forget,
        "--models",
        tiny,
        "--reference",
        tiny,
        "--out",
        tmp_path / "none.json",
    )
    assert json.loads((tmp_path / "none.json").read_text())["summary"]["GenEx"] == 0


# ---------------------------------------------------------------- several models in one go


def result(path):
    """A results file without what tells one run from another."""
    return {name: value for name, value in json.loads(path.read_text()).items() if name in ("summary", "items", "data")}


@pytest.mark.parametrize(
    "script, flag, more",
    [
        ("eval/03_tofu.py", "--model", ("--forget", "ROWS", "--max-new-tokens", 8)),
        ("eval/04_memorization.py", "--model", ("--pairs", "ROWS", "--max-new-tokens", 8)),
        ("eval/05_exposure.py", "--models", ("--forget", "ROWS", "--reference", "TINY", "--fresh", "FRESH")),
    ],
)
def test_several_models_are_scored_as_each_by_itself(tmp_path, tiny, learnt, script, flag, more):
    paths = {
        "ROWS": write(tmp_path / "rows.jsonl", ROWS),
        "TINY": tiny,
        "FRESH": write(tmp_path / "fresh.jsonl", [{"question": "Who?", "answer": "Bo."}]),
    }
    more = [paths.get(value, value) for value in more]
    run(script, flag, tiny, learnt, *more, "--out", tmp_path / "a.json", tmp_path / "b.json")
    for name, model in (("a", tiny), ("b", learnt)):
        run(script, flag, model, *more, "--out", tmp_path / "one.json")
        assert result(tmp_path / f"{name}.json") == result(tmp_path / "one.json")
        settings = json.loads((tmp_path / f"{name}.json").read_text())["settings"]
        assert settings[flag[2:]] in (str(model), [str(model)]) and settings["out"] == str(tmp_path / f"{name}.json")
    assert result(tmp_path / "a.json") != result(tmp_path / "b.json")


def test_forget_quality_against_a_model_of_the_same_call(tmp_path, tiny, learnt):
    """The retrained model need not come first; it is told apart from the one that has learnt the answers, and not from
    itself.
    """
    rows = write(
        tmp_path / "rows.jsonl",
        [{**ROWS[at % 3], "question": f"{ROWS[at % 3]['question']}{' ' * at}"} for at in range(12)],
    )
    flags = ("--forget", rows, "--max-new-tokens", 4)
    run(
        "eval/03_tofu.py",
        "--model",
        learnt,
        tiny,
        *flags,
        "--reference",
        tmp_path / "b.json",
        "--out",
        tmp_path / "a.json",
        tmp_path / "b.json",
    )
    run(
        "eval/03_tofu.py", "--model", learnt, *flags, "--reference", tmp_path / "b.json", "--out", tmp_path / "one.json"
    )
    first, second, one = (json.loads((tmp_path / f"{name}.json").read_text())["summary"] for name in ("a", "b", "one"))
    assert second["forget_quality"] == 1 and first["forget_quality"] == one["forget_quality"] < 0.05


def test_inverted_facts_are_fresh_examples(tmp_path, tiny, learnt):
    """{"question", "answers"} as 04_invert.py writes them: an example an answer."""
    forget = write(tmp_path / "forget.jsonl", [{"question": q, "answer": a} for q, a in PAIRS[:2]])
    false = [{"question": PAIRS[0][0], "answers": ["Bo Pym lives here.", "Nobody lives here."], "source": 0}]
    pairs = [{"question": row["question"], "answer": answer} for row in false for answer in row["answers"]]
    for name, rows in (("false", false), ("pairs", pairs)):
        run(
            "eval/05_exposure.py",
            "--forget",
            forget,
            "--models",
            learnt,
            "--fresh",
            write(tmp_path / f"{name}.jsonl", rows),
            "--out",
            tmp_path / f"{name}.json",
        )
    false, pairs = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("false", "pairs"))
    assert false["items"] == pairs["items"] and false["summary"]["fresh"] == 2
    assert false["summary"]["RelEx_per_token"] > 0.5, "the learnt answers are likelier than false ones"


def test_tofus_own_perturbed_sets_come_along_with_its_data(tmp_path, tiny):
    """A folder with copies of TOFU's files: 01_data.py keeps what 03_tofu.py needs, and removes it when other data take
    the folder.
    """
    folder = tmp_path / "tofu"
    folder.mkdir()
    plain = [{"question": row["question"], "answer": row["answer"]} for row in ROWS]
    kept = [{**row, "question": "R " + row["question"]} for row in ROWS]
    for name, rows in (
        ("forget05", plain),
        ("forget05_perturbed", ROWS),
        ("retain95", [{"question": row["question"], "answer": "x"} for row in kept]),
        ("retain_perturbed", kept),
        ("real_authors_perturbed", FACTS),
        ("world_facts_perturbed", FACTS),
        ("forget01_perturbed", kept),
    ):
        write(folder / f"{name}.json", rows)
    run("scripts/01_data.py", "--data", folder, "--out", tmp_path / "data")
    sets = {name: tmp_path / f"data/{name}_perturbed.jsonl" for name in tofu.SETS}
    assert [json.loads(line) for line in sets["forget"].read_text().splitlines()] == ROWS
    run(
        "eval/03_tofu.py",
        "--model",
        tiny,
        *(word for name, path in sets.items() for word in (f"--{name.replace('_', '-')}", path)),
        "--max-new-tokens",
        4,
        "--out",
        tmp_path / "out.json",
    )
    summary = json.loads((tmp_path / "out.json").read_text())["summary"]
    assert (
        0 <= summary["model_utility"] <= 1
        and summary["forget_items"] == summary["retain_items"] == 3
        and summary["world_facts_items"] == 1
    )
    run("scripts/01_data.py", "--persons", 2, "--out", tmp_path / "data")
    assert not any(path.exists() for path in sets.values())


# ---------------------------------------------------------------- faults


def faults(tmp_path, tiny):
    good = write(tmp_path / "good.jsonl", ROWS)
    lacks = write(tmp_path / "lacks.jsonl", [ROWS[0], {"question": "Who?", "answer": "Ada."}])
    no_answer = write(tmp_path / "no_answer.jsonl", [ROWS[0], {"question": "Who?"}])
    other = write(tmp_path / "other.jsonl", [{"question": "Another?", "answers": ["x"]}])
    short = write(tmp_path / "short.jsonl", ROWS[:1])
    empty, broken = write(tmp_path / "empty.jsonl", []), tmp_path / "broken.jsonl"
    broken.write_text(json.dumps(ROWS[0]) + "\n{no\n")
    scored = {name: tmp_path / f"{name}.json" for name in ("paper", "two", "false")}
    for name, rows in (("paper", ROWS), ("two", ROWS[:2]), ("false", ROWS)):
        items = [{"set": "forget", "question": row["question"], "truth_ratio": 0.5} for row in rows]
        found = {"items": items, "settings": {"paper": name == "paper"}, "data": {str(good): sha256(short)}}
        scored[name].write_text(json.dumps(found))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    adapter.joinpath("adapter_config.json").write_text('{"base_model_name_or_path": "/gone/base/model"}')
    out = ("--model", tiny, "--out", tmp_path / "out.json")
    tofu, memo, exposed = (
        ("eval/03_tofu.py", *out),
        ("eval/04_memorization.py", *out),
        ("eval/05_exposure.py", *out[2:]),
    )
    return {
        "no set": (tofu, "give --forget"),
        "no perturbed answers": ((*tofu, "--forget", lacks), r'lacks.jsonl:2: field "perturbed_answer" must be a list'),
        "no paraphrase": (
            (*tofu, "--forget", write(tmp_path / "np.jsonl", [{**ROWS[0], "paraphrased_answer": ""}])),
            r'np.jsonl:1: field "paraphrased_answer"',
        ),
        "inverted facts of other questions": (
            (*tofu, "--forget", good, "--perturbed", other),
            "other.jsonl: holds answers to none of the questions",
        ),
        "paraphrases of another number": (
            (*tofu, "--forget", good, "--paraphrased", short),
            "short.jsonl: has 1 rows for 3",
        ),
        "reference without forget": ((*tofu, "--retain", good, "--reference", good), "--reference needs --forget"),
        "perturbed without its set": ((*tofu, "--retain", good, "--perturbed", other), "need --forget"),
        "not truth ratios": (
            (*tofu, "--forget", good, "--reference", write(tmp_path / "object.jsonl", ROWS[:1])),
            "neither a results file",
        ),
        "truth ratios missing": (
            (*tofu, "--forget", good, "--reference", tmp_path / "none.json"),
            "none.json: no such file",
        ),
        "truth ratios by the other formula": (
            (*tofu, "--forget", good, "--reference", scored["paper"]),
            "paper.json: was made with --paper",
        ),
        "truth ratios of other questions": (
            (*tofu, "--forget", good, "--reference", scored["two"]),
            "two.json: its 2 questions are not the 3 of --forget",
        ),
        "truth ratios beside other false answers": (
            (*tofu, "--forget", good, "--reference", scored["false"]),
            "false.json: was made with other answers than .*good.jsonl",
        ),
        "no pairs": ((*memo, "--pairs", tmp_path / "none.jsonl"), "none.jsonl: no such file"),
        "empty pairs": ((*memo, "--pairs", empty), "empty.jsonl: holds no question-answer pair"),
        "broken pairs": ((*memo, "--pairs", broken), "broken.jsonl:2: not valid JSON"),
        "answer missing": ((*memo, "--pairs", no_answer), r'no_answer.jsonl:2: field "answer"'),
        "window of zero": (
            (*memo, "--pairs", good, "--window", "0"),
            "argument --window: must be a whole number at least 1, not 0",
        ),
        "no model": (
            ("eval/04_memorization.py", "--model", tmp_path / "a/b", *out[2:], "--pairs", good),
            "no such model folder",
        ),
        "adapter without base": (
            ("eval/04_memorization.py", "--model", adapter, *out[2:], "--pairs", good),
            "/gone/base/model: no such model folder",
        ),
        "models without an out": ((*memo[:2], tiny, *memo[2:], "--pairs", good), "2 input files need as many --out"),
        "three models, two outs": (
            (
                "eval/05_exposure.py",
                *out[2:],
                tmp_path / "b.json",
                "--forget",
                good,
                "--reference",
                tiny,
                "--models",
                tiny,
                tiny,
                tiny,
            ),
            r"3 --models need one --out \(seeds of one model\) or 3",
        ),
        "nothing to compare with": ((*exposed, "--forget", good, "--models", tiny), "give --reference"),
        "no reference model": (
            (*exposed, "--forget", good, "--models", tiny, "--reference", tmp_path / "a/b"),
            "no such model folder",
        ),
    }


FAULTS = (
    "no set",
    "no perturbed answers",
    "no paraphrase",
    "inverted facts of other questions",
    "paraphrases of another number",
    "reference without forget",
    "perturbed without its set",
    "not truth ratios",
    "truth ratios missing",
    "truth ratios by the other formula",
    "truth ratios of other questions",
    "truth ratios beside other false answers",
    "no pairs",
    "empty pairs",
    "broken pairs",
    "answer missing",
    "window of zero",
    "no model",
    "adapter without base",
    "models without an out",
    "three models, two outs",
    "nothing to compare with",
    "no reference model",
)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_and_status_2_and_writes_nothing(tmp_path, tiny, capsys, fault):
    command, message = faults(tmp_path, tiny)[fault]
    with pytest.raises(SystemExit) as done:
        run(*command)
    error = capsys.readouterr().err
    assert done.value.code == 2 and re.search(message, error), error
    assert len([line for line in error.splitlines() if "error:" in line]) == 1
    assert not (tmp_path / "out.json").exists()
