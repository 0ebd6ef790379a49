"""The benchmarks on a tiny model: their figures come from what was run, and the published recipe computes what ours
computes.
"""

import json
import re
import sys
import types

from lib.likelihood import nll
from lib.losses import retain_loss
from lib.models import encode, load_model

import pytest
import torch
import transformers
from conftest import REPOSITORY, run
from test_losses import PAIRS, RETAIN, rows_and_batch

sys.path.append(str(REPOSITORY / "bench"))
import memory  # noqa: E402
import pairs as made_pairs  # noqa: E402
import train_step  # noqa: E402
import watch  # noqa: E402

pytestmark = pytest.mark.usefixtures("warm_programs")


def last_line(done):
    return json.loads(done.stdout.splitlines()[-1])


def test_the_published_recipe_computes_our_loss(models):
    """Its 512 columns, mask and second model change nothing; KL over the answers is ours, over every position the
    released code's.
    """
    model, vanilla, tokenizer = models
    (forget, ours), (retain, kept) = rows_and_batch(tokenizer, PAIRS), rows_and_batch(tokenizer, RETAIN)
    args = types.SimpleNamespace(retain="gdr+klr", kl="forward")
    theirs = [train_step.padded(rows, tokenizer.pad_token_id) for rows in (forget, retain)]
    assert all(
        value.shape == (len(rows), 512) for batch, rows in zip(theirs, (forget, retain)) for value in batch.values()
    )
    answers = (theirs[1]["labels"] != -100).roll(-1, 1)  # the position before a token predicts it
    with torch.no_grad():
        loss = nll(model, ours) + retain_loss(model, kept, args)
        assert train_step.published_loss(model, vanilla, *theirs, answers).item() == pytest.approx(
            loss.item(), abs=1e-4
        )
        logp, logq = ((network(**theirs[1]).logits.double().log_softmax(-1)) for network in (vanilla, model))
        everywhere, there = (
            (logp.exp() * (logp - logq)).sum(-1)[where].mean() for where in (torch.ones_like(answers), answers)
        )
        released = train_step.published_loss(model, vanilla, *theirs)
        assert abs(everywhere - there) > 1e-3 and released.item() == pytest.approx(
            (loss + everywhere - there).item(), abs=1e-4
        )


def test_tokens_without_padding(models):
    tokenizer = models[2]
    rows, batch = rows_and_batch(tokenizer, PAIRS)
    kept, retain = rows_and_batch(tokenizer, RETAIN)
    counts = [len(ids) for ids, _ in rows]
    assert watch.row_tokens((batch, None)) == counts and len(set(counts)) > 1
    assert watch.row_tokens(((batch, batch), retain)) == [*counts, *counts, *(len(ids) for ids, _ in kept)]


@pytest.fixture(scope="module")
def lengthened(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lengthened")
    run("bench/pairs.py", "--model", tiny, "--out", folder, "--forget", 40, "--retain", 30)
    return folder


def test_pairs_are_as_long_as_knowundos(tiny, lengthened):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    for (name, tenths), count in zip(made_pairs.TENTHS.items(), (40, 30)):
        rows = [json.loads(line) for line in (lengthened / f"{name}.jsonl").read_text().splitlines()]
        assert len(rows) == count == len({(row["question"], row["answer"]) for row in rows})
        for field, wanted in zip(("question", "answer"), tenths):
            found = sorted(len(tokenizer(row[field])["input_ids"]) for row in rows)
            assert all(abs(one - two) <= 2 for one, two in zip(found, sorted(wanted * (count // 10)))), (
                name,
                field,
                found,
            )


def test_train_step(tiny, lengthened):
    figures = last_line(
        run(
            "bench/train_step.py",
            "--model",
            tiny,
            "--data",
            lengthened,
            "--batch",
            4,
            "--steps",
            3,
            "--published-steps",
            1,
            "--lora-r",
            4,
            "--dtype",
            "float32",
            "--device",
            "cpu",
        )
    )
    ours, theirs = figures["ours"], figures["published"]
    assert figures["time_ratio"] > 1 and 0 < figures["memory_ratio"] < 1.5 and 0 < figures["share_of_limit"] < 1
    assert figures["time_ratio"] == pytest.approx(ours["pairs_a_second"] / theirs["pairs_a_second"], rel=0.01)
    assert (
        figures["time_ratio"] <= figures["time_ratio_steady"]
        and figures["share_of_limit"] <= figures["share_of_limit_steady"]
    )
    assert figures["updates"] == 60 and figures["batch"] == 4 and not figures["really_run"], (
        "3 passes of 40 pairs, 2 a step"
    )
    plain = transformers.AutoModelForCausalLM.from_pretrained(tiny)
    assert figures["parameters"] == sum(value.numel() for value in plain.parameters())
    assert 30 < figures["tokens_a_pair"] < 80 and figures["dtype"] == "float32" and figures["device"] == "cpu"
    work = 6 * figures["parameters"] * figures["tokens_a_pair"] * ours["pairs_a_second"]
    assert figures["share_of_limit"] == pytest.approx(work / (figures["limit"]["gflops"] * 1e9), rel=0.1, abs=2e-3)
    assert ours["libraries_gib"] <= ours["peak_gib"] < 4 and theirs["libraries_gib"] <= theirs["peak_gib"] < 4
    assert ours["method_seconds"] == pytest.approx(ours["once_seconds"] + 60 * ours["step_seconds"], abs=0.2)


def test_random_weights_of_a_shape(tmp_path, tiny):
    before = torch.get_default_dtype()
    args = types.SimpleNamespace(model=tmp_path / "model", random_weights=tiny / "config.json")
    parameters = train_step.random_weights(args)["parameters"]
    model, tokenizer = load_model(args.model, "float32")
    assert parameters == sum(value.numel() for value in model.parameters()) and torch.get_default_dtype() == before
    assert encode(tokenizer, PAIRS[0]["question"], PAIRS[0]["answer"])[1] > 0


def test_memory_knows_every_method(tmp_path):
    shell = (REPOSITORY / "run_all.sh").read_text()
    known = memory.methods(tmp_path)
    assert set(re.findall(r"^method +([A-Z]\S*) ", shell, re.M)) < set(known) and "NPO+KLR" in known and len(known) > 30
    assert all(script.is_file() for script, *_ in known.values())
    assert known["RKLD"][1:] == ["--augmented", f"{tmp_path}/models/augmented", "--retain", "none"]


def test_memory(tiny):
    figures = last_line(
        run(
            "bench/memory.py",
            "--model",
            tiny,
            "--methods",
            "GA+GDR",
            "--batch",
            2,
            "--pairs",
            6,
            "--updates",
            2,
            "--dtype",
            "float32",
        )
    )
    assert {name: row["pairs"] for name, row in figures["methods"].items()} == {"GA+GDR": 4}
    assert set(figures["finetuning_gib"]) == {"4"}
    for row in figures["methods"].values():
        assert 0.5 < row["ratio"] < 2 and row["ratio"] == pytest.approx(
            row["peak_gib"] / row["finetuning_gib"], abs=0.01
        )
        assert figures["libraries_gib"] * 0.9 < row["peak_gib"] < 4
    assert figures["over"] == [name for name, row in figures["methods"].items() if row["ratio"] > 1.35]


def test_generation(tiny, minilm):
    figures = last_line(
        run(
            "bench/generation.py",
            "--model",
            tiny,
            "--embedding",
            minilm,
            "--count",
            12,
            "--singly",
            3,
            "--batch",
            6,
            "--max-new-tokens",
            8,
            "--dtype",
            "float32",
        )
    )
    assert figures["generation"]["items"] == figures["kfr_krr"]["items"] == [12, 3]
    assert figures["generation"]["same"] == 1 and figures["kfr_krr"]["same"] == 1
    for part in ("generation", "kfr_krr"):
        together, singly = figures[part]["seconds_an_item"]
        assert together > 0 and figures[part]["times_faster"] == pytest.approx(singly / together, rel=0.1)
    assert 0 < figures["generation"]["tokens_an_answer"] <= 24, "8 tokens, cut anew"


@pytest.mark.parametrize(
    "script, flags, message",
    [
        ("train_step.py", ("--batch", 3), r"--batch must be even"),
        ("train_step.py", ("--random-weights", "none"), r"not llama-3.2-1b or"),
        ("train_step.py", ("--model", "./x/none"), r"none: no such model folder"),
        ("train_step.py", ("--model", "{tiny}", "--data", "{empty}"), r"forget_train.jsonl: no such file"),
        ("memory.py", ("--methods", "Magic"), r"unknown method Magic; there are: GA"),
        ("memory.py", ("--batch", 0), r"must be at least 1"),
        ("generation.py", ("--embedding", "none", "--model", "{tiny}"), r"--embedding none: no such folder"),
        (
            "generation.py",
            ("--embedding", "{empty}", "--model", "{tiny}", "--pairs", "none.jsonl"),
            r"none.jsonl: no such file",
        ),
        ("pairs.py", ("--model", "{empty}", "--out", "{empty}/out"), r"cannot load a tokenizer"),
    ],
)
def test_faults(tmp_path, tiny, script, flags, message):
    flags = [str(flag).format(tiny=tiny, empty=tmp_path) for flag in flags]
    done = run(f"bench/{script}", *flags, check=False, process=True)
    assert done.returncode == 2 and re.search(message, done.stderr) and "Traceback" not in done.stderr, done.stderr
    assert len([line for line in done.stderr.splitlines() if "error:" in line]) == 1 and not list(tmp_path.iterdir())
