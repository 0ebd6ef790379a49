"""Training as a user runs it: the same seed gives the same weights, a killed run continues to them, nothing is half-written."""
import json
import math
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import REPOSITORY, run
from safetensors.torch import load_file

import unlearn

FLAGS = ("--epochs", 3, "--batch", 2, "--accumulation", 1, "--lr", 1e-3)


def train(script, tiny, data, out, *flags):
    return run(f"scripts/{script}", "--model", tiny, "--data", data, "--out", out, *FLAGS, *flags)


def weights(folder):
    file = folder / "adapter_model.safetensors"
    return load_file(file if file.exists() else folder / "model.safetensors")


def assert_same(one, two):
    one, two = weights(one), weights(two)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


@pytest.mark.parametrize("script, flags", [("10_ga.py", ("--retain", "gdr")), ("11_npo.py", ("--retain", "klr")),
                                           ("12_relearn.py", ("--forget", "forget_train.jsonl")), ("02_finetune.py", ())])
def test_a_seed_gives_the_same_weights_twice_and_other_weights_than_another(tmp_path, tiny, data, script, flags):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(script, tiny, data, tmp_path / name, "--seed", seed, "--epochs", 1, *flags)
    assert_same(tmp_path / "a", tmp_path / "b")
    with pytest.raises(AssertionError):
        assert_same(tmp_path / "a", tmp_path / "c")


def test_a_killed_run_continues_to_the_same_weights(tmp_path, tiny, data):
    flags = ("--epochs", 25, "--checkpoint-every", 5, "--retain", "klr")  # dropout on: the random state must continue too
    train("11_npo.py", tiny, data, tmp_path / "whole", *flags)
    command = [sys.executable, "scripts/11_npo.py", "--model", tiny, "--data", data, "--out", tmp_path / "killed", *FLAGS, *flags]
    process = subprocess.Popen(list(map(str, command)), cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "killed.partial/checkpoint.pt"
    for _ in range(2400):
        if checkpoint.exists() or process.poll() is not None:
            break
        time.sleep(0.025)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.exists() and not (tmp_path / "killed").exists(), "killed too late to show anything"
    state = torch.load(checkpoint, weights_only=True)
    torch.save({**state, "seconds": state["seconds"] + 5000}, checkpoint)
    assert "continuing at update" in train("11_npo.py", tiny, data, tmp_path / "killed", *flags).stderr
    assert_same(tmp_path / "whole", tmp_path / "killed")
    whole, killed = (json.loads((tmp_path / name / "training.json").read_text()) for name in ("whole", "killed"))
    assert whole["updates"] == killed["updates"] and whole["probes"] == killed["probes"] and len(whole["probes"]) == 5
    assert killed["seconds"] > 5000 > whole["seconds"], "the time before the interruption counts"
    assert [*(tmp_path / "killed").glob("*.pt")] == [] and not (tmp_path / "killed.partial").exists()


def test_other_settings_do_not_continue_a_checkpoint(tmp_path, tiny, data):
    partial = tmp_path / "out.partial"
    partial.mkdir()
    torch.save({"settings": "others"}, partial / "checkpoint.pt")
    assert "starting afresh" in train("10_ga.py", tiny, data, tmp_path / "out").stderr


def test_a_damaged_checkpoint_is_one_line(tmp_path, tiny, data):
    partial = tmp_path / "out.partial"
    partial.mkdir()
    (partial / "checkpoint.pt").write_text("not a checkpoint")
    done = run("scripts/10_ga.py", "--model", tiny, "--data", data, "--out", tmp_path / "out", check=False)
    assert done.returncode == 2 and "checkpoint.pt: cannot be read" in done.stderr and "Traceback" not in done.stderr


def test_the_record_says_what_made_it(tmp_path, tiny, data):
    train("10_ga.py", tiny, data, tmp_path / "out")
    record = json.loads((tmp_path / "out/training.json").read_text())
    assert record["settings"]["seed"] == 0 and record["settings"]["lr"] == 1e-3 and record["versions"]["torch"]
    assert len(record["data"]) == 2 and all(len(digest) == 64 for digest in record["data"].values())
    assert [row["update"] for row in record["updates"]] == list(range(1, 25))  # 16 pairs, 2 an update, 3 epochs


def test_ga_raises_and_finetuning_lowers_the_forget_loss(tmp_path, tiny, data):
    def losses(folder):
        updates = [row["loss"] for row in json.loads((folder / "training.json").read_text())["updates"]]
        return sum(updates[:8]) / 8, sum(updates[-8:]) / 8
    train("02_finetune.py", tiny, data, tmp_path / "vanilla", "--lr", 1e-2)
    train("10_ga.py", tmp_path / "vanilla", data, tmp_path / "ga", "--retain", "none", "--lr", 1e-2)
    for name in ("vanilla", "ga"):
        first, last = losses(tmp_path / name)
        assert last < first - 0.2, name


def test_the_retrained_model_never_reads_the_forget_set(tmp_path, tiny, data):
    train("02_finetune.py", tiny, data, tmp_path / "retrained", "--without-forget", "--epochs", 1)
    (read,) = json.loads((tmp_path / "retrained/training.json").read_text())["data"]
    seen, forget = open(read).read(), [json.loads(line)["answer"] for part in ("train", "val") for line in open(data / f"forget_{part}.jsonl")]
    assert seen and not any(answer in seen for answer in forget)
    assert all(answer in (data / "full.jsonl").read_text() for answer in forget)


def test_an_unlearned_model_can_be_unlearned_further(tmp_path, tiny, data):
    """What the first method learnt is in the weights that the second one leaves, which hardly learns."""
    exact = "--dtype", "float32"  # a bfloat16 weight keeps three digits: too few to see what a step of 1e-9 leaves alone
    train("10_ga.py", tiny, data, tmp_path / "first", "--epochs", 1, *exact)
    train("11_npo.py", tmp_path / "first", data, tmp_path / "second", "--epochs", 1, "--lr", 1e-9, *exact)
    first, second = (unlearn.load_model(tmp_path / name, "float32")[0] for name in ("first", "second"))
    first, second, base = first.merge_and_unload().state_dict(), second.state_dict(), unlearn.load_model(tiny, "float32")[0].state_dict()
    moved = max((first[name] - base[name]).abs().max() for name in base)
    assert moved > 1e-3 and max((first[name] - second[name]).abs().max() for name in base) < 1e-2 * moved


def test_probes_are_the_nll_of_validation_pairs_on_the_way(tmp_path, tiny, data):
    train("10_ga.py", tiny, data, tmp_path / "out", "--epochs", 2, "--probes", 2)
    found = json.loads((tmp_path / "out/training.json").read_text())
    updates = len(found["updates"])
    assert [point["update"] for point in found["probes"]] == [0, round(updates / 2), updates]
    for at, folder in ((0, tiny), (-1, tmp_path / "out")):
        model, tokenizer = unlearn.load_model(folder, "float32")
        for side in ("forget", "retain"):
            pairs = unlearn.read_pairs(data / f"{side}_val.jsonl")
            chosen = pairs[::math.ceil(len(pairs) / 8)]
            assert 4 <= len(chosen) <= 8
            losses = torch.cat([-unlearn.answer_logprob(model.eval(), unlearn.collate([unlearn.encode(tokenizer, pair)], 0)) for pair in chosen])
            assert found["probes"][at][f"{side}_nll"] == pytest.approx(losses.mean().item(), rel=1e-4)
    train("10_ga.py", tiny, data, tmp_path / "none", "--epochs", 1, "--probes", 0)
    assert json.loads((tmp_path / "none/training.json").read_text())["probes"] == []
