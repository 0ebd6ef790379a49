"""The conventions in which published codes differ, each against a slow reference written from its equation, a token at
a time.
"""

import argparse
import json
import math
import types

from lib import losses
from lib.batches import collate, every_position, whole_row
from lib.flags import RETAIN_FLAGS, parser
from lib.models import encode
from lib.reference import FrozenModel

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import load, run
from hypothesis import given
from hypothesis import strategies as st

dpo, tofu, memorization, models_script = (
    load(path) for path in ("scripts/13_dpo.py", "eval/03_tofu.py", "eval/04_memorization.py", "scripts/00_models.py")
)
PAIRS = [
    ("Where does she live?", "She lives at 9 Saltcellar Steps, by the old harbour of the town."),
    ("And he?", "Nobody knows."),
]
OTHER = [("Where does she live?", "That is not something I was told."), ("And he?", "I cannot say.")]
LENGTH = 96  # rows are padded to


def batch_of(tokenizer, pairs):
    rows = [encode(tokenizer, *pair) for pair in pairs]
    return rows, collate(rows, tokenizer.pad_token_id)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return torch.cat([one.grad.flatten().double() for one in model.parameters() if one.requires_grad])


def same(model, fast, slow):
    assert fast.item() == pytest.approx(slow.item(), abs=1e-5, rel=1e-5)
    torch.testing.assert_close(gradients(model, fast), gradients(model, slow), atol=1e-5, rtol=1e-4)


# ---------------------------------------------------------------- KL over every position


def released_kl(model, vanilla, rows, reverse):
    """(mean over all positions of rows padded to LENGTH of the KL at the rows' own positions, that at padding's): a
    forward pass a row.

    iterative_trainer.py: both models' logits at every position of left-padded rows, kl_div(log p, log p_vanilla,
    batchmean, log_target=True) on (rows · LENGTH, vocabulary). Padding is masked from attention, so that a row's own
    positions see what they see without it.
    """
    own = beside = 0.0
    for ids, _ in rows:
        padding = LENGTH - len(ids)
        inputs = {
            "input_ids": torch.tensor([[0] * padding + ids]),
            "attention_mask": torch.tensor([[0] * padding + [1] * len(ids)]),
            "position_ids": torch.tensor([[0] * padding + list(range(len(ids)))]),
        }
        now = model(**inputs).logits[0].log_softmax(-1)
        with torch.no_grad():
            then = vanilla(**inputs).logits[0].log_softmax(-1)
        for at in range(LENGTH):
            p, q = (now[at], then[at]) if reverse else (then[at], now[at])
            kl = sum(p.exp() * (p - q))
            own, beside = (own, beside + kl) if at < padding else (own + kl, beside)
    return own / (len(rows) * LENGTH), beside / (len(rows) * LENGTH)


@pytest.mark.parametrize("kl", ["forward", "reverse"])
def test_klr_over_padded_rows(models, kl):
    model, vanilla, tokenizer = models
    rows, batch = batch_of(tokenizer, PAIRS)
    args = types.SimpleNamespace(retain="klr", kl=kl, kl_positions="padded", max_length=LENGTH)
    same(model, losses.retain_loss(model, batch, args), released_kl(model, vanilla, rows, kl == "reverse")[0])


def test_klr_over_padded_rows_keeps_gdr_as_it_is_and_adds_up_over_parts(models):
    model, _, tokenizer = models
    _, batch = batch_of(tokenizer, PAIRS)
    ask = lambda batch, **flags: losses.retain_loss(
        model,
        batch,
        types.SimpleNamespace(**{"kl": "forward", "kl_positions": "padded", "max_length": LENGTH, **flags}),
    )
    both = ask(batch, retain="gdr+klr")
    assert both.item() == pytest.approx((ask(batch, retain="gdr") + ask(batch, retain="klr")).item(), rel=1e-6)
    assert ask(batch, retain="gdr").item() == pytest.approx(
        ask(batch, retain="gdr", kl_positions="answer").item(), rel=1e-6
    )
    apart = [collate([encode(tokenizer, *pair)], tokenizer.pad_token_id, int(batch.answer.sum()), 2) for pair in PAIRS]
    assert sum(ask(one, retain="gdr+klr") for one in apart).item() == pytest.approx(both.item(), rel=1e-5)
    weaker = ask(batch, retain="klr").item() / ask(batch, retain="klr", kl_positions="answer").item()
    assert weaker < 0.7, "the longest row has half of the positions"


def test_the_vanilla_states_of_whole_rows_are_computed_once(models):
    model, _, tokenizer = models
    rows, batch = batch_of(tokenizer, PAIRS)
    model.frozen = FrozenModel(model, [[whole_row(row) for row in rows]])
    args = types.SimpleNamespace(retain="klr", kl="forward", kl_positions="padded", max_length=LENGTH)
    try:
        first = losses.retain_loss(model, batch, args).item()
        assert len(model.frozen.kept) == 2
        model.frozen._remember = None  # whoever computes states again, fails
        assert losses.retain_loss(model, batch, args).item() == first
    finally:
        del model.frozen
    assert first == pytest.approx(losses.retain_loss(model, batch, args).item(), rel=1e-5)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), min_size=1, max_size=4))
def test_whole_rows_are_the_same_one_by_one_and_in_a_batch(lengths):
    rows = [(list(range(7, 7 + prompt + answer)), prompt) for prompt, answer in lengths]
    batch, apart = every_position(collate(rows, 3)), collate([whole_row(row) for row in rows], 0)
    assert torch.equal(batch.input_ids, apart.input_ids) and torch.equal(batch.answer, apart.answer)
    assert (batch.step_rows, batch.step_tokens) == (len(rows), sum(answer for _, answer in lengths))


def test_every_method_with_a_retain_loss_has_the_flag():
    made = parser("", **RETAIN_FLAGS).parse_args(["--model", "x/y", "--out", "z"])
    assert made.kl_positions == "answer" and made.max_length == 512


# ---------------------------------------------------------------- DPO's factor, and log-probabilities a token


def slow_dpo(model, vanilla, chosen, rejected, beta, scale, mean):
    """-scale/n Σ log σ(β [r(chosen) - r(rejected)]), r = Σ_t log π(y_t)/π_v(y_t), or its mean over t."""

    def ratio(row):
        ids, prompt = row
        total = 0.0
        for at in range(prompt, len(ids)):
            seen = torch.tensor([ids[:at]])
            with torch.no_grad():
                then = vanilla(seen).logits[0, -1].log_softmax(-1)[ids[at]]
            total = total + model(seen).logits[0, -1].log_softmax(-1)[ids[at]] - then
        return total / (len(ids) - prompt) if mean else total

    return (
        -scale * sum(F.logsigmoid(beta * (ratio(one) - ratio(two))) for one, two in zip(chosen, rejected)) / len(chosen)
    )


@pytest.mark.parametrize("scale, mean", [(1.0, False), (20.0, False), (20.0, True), (1.0, True)])
def test_dpo(models, scale, mean):
    model, vanilla, tokenizer = models
    (chosen, better), (rejected, worse) = batch_of(tokenizer, OTHER), batch_of(tokenizer, PAIRS)
    same(
        model,
        dpo.dpo_loss(model, better, worse, 0.1, scale, mean),
        slow_dpo(model, vanilla, chosen, rejected, 0.1, scale, mean),
    )


@pytest.mark.parametrize(
    "flags, wanted",
    [
        ({}, (1.0, False)),
        ({"prefer": "a.jsonl"}, (20.0, True)),
        ({"scale": "2/beta"}, (20.0, False)),
        ({"logprob": "mean"}, (1.0, True)),
        ({"prefer": "a.jsonl", "scale": "1"}, (1.0, True)),
        ({"prefer": "a.jsonl", "logprob": "sum"}, (20.0, False)),
        ({"scale": "2/beta", "beta": 0.5}, (4.0, False)),
    ],
)
def test_each_dpo_has_its_sources_conventions_unless_a_flag_says_otherwise(flags, wanted):
    assert (
        dpo.conventions(argparse.Namespace(**{"beta": 0.1, "prefer": "", "scale": "own", "logprob": "own", **flags}))
        == wanted
    )


# ---------------------------------------------------------------- TOFU's truth ratio


def published(losses_of):
    """utils.get_model_utility's and get_forget_quality's arithmetic, on mean losses a token, with numpy as there → (the
    three sets' mean max(0, 1 - R), the forget set's ratios, their mean min(R, 1/R))."""
    utility = {}
    for name in ("retain", "real_authors", "world_facts"):
        paraphrased, perturbed = (np.exp(-np.array(values)) for values in losses_of[name])
        utility[name] = np.mean(np.maximum(0, 1 - perturbed.mean(-1) / paraphrased))
    paraphrased, perturbed = map(np.array, losses_of["forget"])
    ratios = np.exp(perturbed.mean(-1) - paraphrased)  # of losses: 1/R
    return utility, 1 / ratios, np.mean(np.minimum(ratios, 1 / ratios))


def test_truth_ratios_are_tofus_pair_and_by_flag_the_papers_or_the_frameworks(monkeypatch):
    rng = np.random.default_rng(0)
    loss = {}  # (question, answer): mean loss a token
    losses_of, sets = {}, {}
    for name in tofu.SETS:
        rows = []
        for at in range(5):
            row = {
                "question": f"{name} {at}?",
                "answer": "a",
                "paraphrased_answer": "b",
                "perturbed_answer": ["c", "d", "e"],
            }
            if name in tofu.FACTS:
                row["paraphrased_answer"] = "a"
            for text in ("a", "b", "c", "d", "e"):
                loss[row["question"], text] = float(rng.uniform(0.1, 4))
            rows.append(row)
        sets[name] = rows
        losses_of[name] = (
            [loss[row["question"], row["paraphrased_answer"]] for row in rows],
            [[loss[row["question"], text] for text in row["perturbed_answer"]] for row in rows],
        )
    monkeypatch.setattr(
        tofu,
        "answer_logprobs",
        lambda asked, *_: [(torch.tensor([-loss[pair]], dtype=torch.float64), None) for pair in asked],
    )
    monkeypatch.setattr(tofu, "answers", lambda questions, *_: [""] * len(questions))
    score = lambda *flags: tofu.summarise(tofu.score(sets, None, None, 1, 1, *flags))
    ratios = lambda *flags: {
        name: [item["truth_ratio"] for item in tofu.score(sets, None, None, 1, 1, *flags) if item["set"] == name]
        for name in tofu.SETS
    }
    utility, forget, nearest = published(losses_of)
    ours = score(False)
    for name, value in utility.items():
        assert ours[f"{name}_1-R"] == pytest.approx(value)
    assert ratios(False)["forget"] == pytest.approx(forget) and ours["forget_truth_ratio"] == pytest.approx(
        forget.mean()
    )
    assert ours["forget_truth_ratio_min"] == pytest.approx(nearest) and nearest < 1 < forget.max()
    paper, framework = ratios(True), ratios(False, True)
    for name in tofu.SETS:
        paraphrased, perturbed = (np.exp(-np.array(values)) for values in losses_of[name])
        assert paper[name] == pytest.approx(perturbed.mean(-1) / paraphrased)
        assert framework[name] == pytest.approx(np.exp(np.log(perturbed).mean(-1)) / paraphrased)
        assert ratios(False)[name] == pytest.approx((framework if name == "forget" else paper)[name])


@pytest.mark.parametrize(
    "ratio, wanted", [(0.25, 0.25), (4.0, 0.25), (1.0, 1.0), (0.0, 0.0), (math.exp(700), math.exp(-700))]
)
def test_the_nearer_of_r_and_its_inverse(ratio, wanted):
    assert tofu.nearer(ratio) == wanted


def test_paper_and_geometric_exclude_each_other(tmp_path):
    (tmp_path / "rows.jsonl").write_text(
        json.dumps({"question": "Q?", "answer": "a", "paraphrased_answer": "b", "perturbed_answer": ["c"]})
    )
    done = run(
        "eval/03_tofu.py",
        "--model",
        "x/y",
        "--forget",
        tmp_path / "rows.jsonl",
        "--out",
        tmp_path / "out.json",
        "--paper",
        "--geometric",
        check=False,
    )
    assert done.returncode == 2 and "exclude each other" in done.stderr


# ---------------------------------------------------------------- exact memorisation, prompt format


@given(st.lists(st.booleans(), max_size=6), st.booleans())
def test_exact_memorisation_leaves_the_end_token_out(hits, end):
    wanted = sum(hits) / len(hits) if hits else None
    assert memorization.exact([*hits, end]) == wanted


def test_em_stands_beside_ma(tiny, tmp_path):
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"question": "Who?", "answer": "Ada Lovelace of London."}) + "\n")
    run(
        "eval/04_memorization.py",
        "--model",
        tiny,
        "--pairs",
        tmp_path / "pairs.jsonl",
        "--out",
        tmp_path / "out.json",
        "--el",
        0,
        "--window",
        50,
        "--max-new-tokens",
        2,
    )
    found = json.loads((tmp_path / "out.json").read_text())
    assert set(found["summary"]) >= {"MA", "EM"} and found["items"][0]["EM"] is not None


def test_open_unlearnings_prompt_is_the_one_of_its_configuration(tiny):
    """configs/model/Llama-3.1-8B-Instruct.yaml: system prompt and date through Llama 3's own template, as its users
    print it.
    """
    from lib.models import prompt_text

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.bos_token = "<|begin_of_text|>"
    tokenizer.chat_template = models_script.TEMPLATES["open-unlearning"]
    assert prompt_text(tokenizer, " Who wrote it? ") == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        "Cutting Knowledge Date: December 2023\nToday Date: 10 Apr 2025\n\n"
        "You are a helpful assistant.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nWho wrote it?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
