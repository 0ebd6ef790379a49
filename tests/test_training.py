"""Training as a user runs it: the same seed gives the same weights, a killed run continues to them, nothing is half-
written.
"""

import json
import math
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

from lib import files, trainer
from lib.batches import collate
from lib.files import begin_folder
from lib.formats import read_pairs
from lib.likelihood import answer_logprob, nll
from lib.models import encode, load_model

import pytest
import torch
from conftest import REPOSITORY, run
from safetensors.torch import load_file

FLAGS = ("--epochs", 3, "--batch", 2, "--accumulation", 1, "--lr", 1e-3)


def train(script, tiny, data, out, *flags):
    return run(f"scripts/{script}", "--model", tiny, "--data", data, "--out", out, *FLAGS, *flags)


def run_here(script, *flags):
    """Runs a script in this process, where its modules can be patched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"scripts/{script}", *map(str, flags)])
        runpy.run_path(str(REPOSITORY / "scripts" / script), run_name="__main__")


def train_here(script, model, data, out, *flags):
    run_here(script, "--model", model, "--data", data, "--out", out, *FLAGS, "--checkpoint-every", 5, *flags)


def interrupted(*command):
    """Trains until the first checkpoint is written."""
    whole = trainer.Trainer._checkpoint

    def last(training):
        whole(training)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer.Trainer, "_checkpoint", last)
        train_here(*command)


def weights(folder):
    file = folder / "adapter_model.safetensors"
    return load_file(file if file.exists() else folder / "model.safetensors")


def assert_same(one, two):
    one, two = weights(one), weights(two)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


@pytest.mark.parametrize(
    "script, flags",
    [
        ("10_ga.py", ("--retain", "gdr")),
        ("11_npo.py", ("--retain", "klr")),
        ("12_relearn.py", ("--forget", "forget_train.jsonl")),
        ("02_finetune.py", ()),
    ],
)
def test_a_seed_gives_the_same_weights_twice_and_other_weights_than_another(tmp_path, tiny, data, script, flags):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(script, tiny, data, tmp_path / name, "--seed", seed, "--epochs", 1, *flags)
    assert_same(tmp_path / "a", tmp_path / "b")
    with pytest.raises(AssertionError):
        assert_same(tmp_path / "a", tmp_path / "c")


def test_a_killed_run_continues_to_the_same_weights(tmp_path, tiny, data, warm_python):
    flags = (
        "--epochs",
        12,
        "--checkpoint-every",
        5,
        "--retain",
        "klr",
    )  # dropout on: the random state must continue too
    train("11_npo.py", tiny, data, tmp_path / "whole", *flags)
    command = [
        warm_python,
        "scripts/11_npo.py",
        "--model",
        tiny,
        "--data",
        data,
        "--out",
        tmp_path / "killed",
        *FLAGS,
        *flags,
    ]
    process = subprocess.Popen(list(map(str, command)), cwd=REPOSITORY, stderr=subprocess.PIPE)
    checkpoint = tmp_path / "killed.partial/checkpoint.pt"
    for _ in range(2400):
        if checkpoint.exists() or process.poll() is not None:
            break
        time.sleep(0.025)
    process.send_signal(signal.SIGKILL)
    process.communicate()  # until nobody holds its stderr any more
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
    partial = begin_folder(tmp_path / "out.partial")
    torch.save({"settings": "others"}, partial / "checkpoint.pt")
    assert "starting afresh" in train("10_ga.py", tiny, data, tmp_path / "out").stderr


@pytest.mark.parametrize("other", ["nothing", "method", "model", "base", "code", "prompt format"])
def test_another_method_or_model_does_not_continue_a_checkpoint(tmp_path, tiny, data, capsys, monkeypatch, other):
    shutil.copytree(tiny, tmp_path / "model")
    model, file = tmp_path / "model", tmp_path / "model/model.safetensors"
    if other == "base":
        model = tmp_path / "adapter"
        train_here("10_ga.py", tmp_path / "model", data, model, "--epochs", 1)
    flags = (model, data, tmp_path / "out", "--forget", "forget_train.jsonl", "--retain", "none")
    read = trainer.sources("scripts/10_ga.py")
    assert {"10_ga.py", "losses.py", "trainer.py"} <= {path.name for path in read}
    monkeypatch.setattr(trainer, "sources", lambda script: [*read, tmp_path / "module.py"])
    (tmp_path / "module.py").write_text("x = 1")
    interrupted("10_ga.py", *flags)
    if other == "code":
        (tmp_path / "module.py").write_text("x = 2")
    if other == "prompt format":
        tokenizer = tmp_path / "model/tokenizer_config.json"
        tokenizer.write_text(tokenizer.read_text() + " ")
    if other in ("model", "base"):  # the same name and size
        os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    capsys.readouterr()
    train_here("12_relearn.py" if other == "method" else "10_ga.py", *flags)
    error = capsys.readouterr().err
    assert ("continuing at update 5" in error) == (other == "nothing") and ("starting afresh" in error) == (
        other != "nothing"
    )


def test_a_checkpoint_is_continued_with_other_probes(tmp_path, tiny, data, capsys):
    """They take no part in training."""
    train_here("10_ga.py", tiny, data, tmp_path / "whole")
    interrupted("10_ga.py", tiny, data, tmp_path / "out", "--probes", 2)
    capsys.readouterr()
    train_here("10_ga.py", tiny, data, tmp_path / "out", "--probes", 0)
    assert "continuing at update 5" in capsys.readouterr().err
    assert_same(tmp_path / "whole", tmp_path / "out")


def test_a_continued_rkld_draws_the_same_dropout(tmp_path, tiny, data):
    train_here(
        "02_finetune.py", tiny, data, tmp_path / "learnt", "--forget", "forget_train.jsonl", "--adapter", "--epochs", 1
    )
    flags = ("--augmented", tmp_path / "learnt", "--lora-dropout", 0.1)
    train_here("18_rkld.py", tiny, data, tmp_path / "whole", *flags)
    interrupted("18_rkld.py", tiny, data, tmp_path / "killed", *flags)
    train_here("18_rkld.py", tiny, data, tmp_path / "killed", *flags)
    assert_same(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("script", ["10_ga.py", "02_finetune.py"])
def test_a_full_disk_at_the_end_costs_no_more_than_the_last_updates(tmp_path, tiny, data, capsys, monkeypatch, script):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(trainer, "save_model", full)
        train_here(script, tiny, data, tmp_path / "out")
    (tmp_path / "out.partial/checkpoint.tmp").write_text("half of one")
    assert not (tmp_path / "out").exists()
    train_here(script, tiny, data, tmp_path / "out")
    assert "continuing at update" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("checkpoint*")) and not (tmp_path / "out.partial").exists()


def test_a_checkpoint_made_without_a_gpu_is_continued_with_one(tmp_path, tiny, data, capsys, monkeypatch):
    interrupted("10_ga.py", tiny, data, tmp_path / "out")
    load, there = torch.load, []

    def loaded(*args, **kwargs):  # from here on there is a GPU, as far as the next question goes
        there.append(True)
        return load(*args, **kwargs)

    monkeypatch.setattr(torch, "load", loaded)
    monkeypatch.setattr(trainer.Trainer, "_checkpoint", lambda _: None)
    monkeypatch.setattr(torch.optim.lr_scheduler.LambdaLR, "load_state_dict", lambda *_: there.append(True))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: len(there) == 2 and not there.append(True))
    train_here("10_ga.py", tiny, data, tmp_path / "out")
    assert len(there) == 3 and "continuing at update 5" in capsys.readouterr().err and (tmp_path / "out").is_dir()


def test_what_another_run_left_is_not_in_the_finished_folder(tmp_path, tiny, data):
    for script, model in (("10_ga.py", tiny), ("20_uipe.py", tmp_path / "10_ga.py")):
        partial = tmp_path / f"{script}.partial"
        partial.mkdir()
        (partial / ".unfinished").touch()  # the mark of a folder that a script here was making
        (partial / "model-00001-of-00002.safetensors").write_text("another's")
        flags = ("--data", data, "--alpha", 1) if script == "20_uipe.py" else ("--data", data, "--epochs", 1)
        run_here(
            script, "--model", model, "--out", f"{tmp_path / script}/", *flags
        )  # with a slash, as completion leaves it
        assert (tmp_path / script / "adapter_model.safetensors").is_file() and not list(
            (tmp_path / script).glob("model-*")
        )
        assert not partial.exists()


def test_a_damaged_checkpoint_is_one_line(tmp_path, tiny, data):
    partial = begin_folder(tmp_path / "out.partial")
    (partial / "checkpoint.pt").write_text("not a checkpoint")
    done = run("scripts/10_ga.py", "--model", tiny, "--data", data, "--out", tmp_path / "out", check=False)
    assert done.returncode == 2 and "checkpoint.pt: cannot be read" in done.stderr and "Traceback" not in done.stderr


def test_the_record_says_what_made_it(tmp_path, tiny, data):
    train("10_ga.py", tiny, data, tmp_path / "out")
    record = json.loads((tmp_path / "out/training.json").read_text())
    assert record["settings"]["seed"] == 0 and record["settings"]["lr"] == 1e-3 and record["versions"]["torch"]
    assert len(record["data"]) == 2 and all(len(digest) == 64 for digest in record["data"].values())
    assert [row["update"] for row in record["updates"]] == list(range(1, 25))  # 16 pairs, 2 an update, 3 epochs


def test_a_name_is_a_file_in_the_data_folder_before_one_from_here(tmp_path, monkeypatch):
    for folder in ("data", "here"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "both.jsonl").touch()
    (tmp_path / "here/one.jsonl").touch()
    monkeypatch.chdir(tmp_path / "here")
    found = lambda name: trainer.data_file(types.SimpleNamespace(data="../data"), name)
    assert found("both.jsonl") == Path("../data/both.jsonl") and found("./both.jsonl") == Path("both.jsonl")
    assert found("one.jsonl") == Path("one.jsonl") and found("none.jsonl") == Path("../data/none.jsonl")


def test_a_machine_without_git_records_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert files.record(types.SimpleNamespace())["git_commit"] is None


@pytest.mark.parametrize(
    "content, message",
    [
        (b"{}", "names no base model"),
        (b'{"base_model_name_or_path": null}', "names no base model"),
        (b"{", "adapter_config.json:1: not valid JSON"),
        (b'{"a": "\xe9"}', "not UTF-8 text"),
    ],
)
def test_a_broken_adapter_is_one_line(tmp_path, capsys, content, message):
    (tmp_path / "adapter_config.json").write_bytes(content)
    with pytest.raises(SystemExit) as done:
        load_model(tmp_path)
    assert done.value.code == 2 and message in capsys.readouterr().err


def test_a_model_with_code_of_its_own_is_refused_without_a_question(tmp_path, tiny, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr("builtins.input", lambda *_: asked.append(1) or "n")
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}})
    )
    for file in tiny.glob("*token*"):
        shutil.copy(file, tmp_path)
    with pytest.raises(SystemExit) as done:
        load_model(tmp_path)
    assert done.value.code == 2 and "custom code" in capsys.readouterr().err and not asked


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--top-p", 0), "--top-p: must be a number above 0 and at most 1"),
        (("--top-p", 1.5), "--top-p: must be a number above 0"),
        (("--top-k", -1), "--top-k: must be a whole number at least 0"),
    ],
)
def test_sampling_from_nothing_is_one_line(tmp_path, tiny, data, capsys, flags, message):
    with pytest.raises(SystemExit) as done:
        run_here(
            "30_generate.py",
            "--model",
            tiny,
            "--questions",
            data / "forget_val.jsonl",
            "--out",
            tmp_path / "out",
            "--temperature",
            1,
            *flags,
        )
    assert done.value.code == 2 and message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_ga_raises_and_finetuning_lowers_the_forget_loss(tmp_path, tiny, data):
    def losses(folder):
        updates = [row["loss"] for row in json.loads((folder / "training.json").read_text())["updates"]]
        return sum(updates[:8]) / 8, sum(updates[-8:]) / 8

    train("02_finetune.py", tiny, data, tmp_path / "vanilla", "--lr", 1e-2)
    train("10_ga.py", tmp_path / "vanilla", data, tmp_path / "ga", "--retain", "none", "--lr", 1e-2)
    for name in ("vanilla", "ga"):
        first, last = losses(tmp_path / name)
        assert last < first - 0.2, name


@pytest.mark.parametrize("script", ["02_finetune.py", "17_meow.py", "19_ta.py"])
def test_what_reads_no_retain_set_takes_none(tmp_path, script, capsys):
    with pytest.raises(SystemExit) as done:
        run_here(script, "--model", "x/y", "--out", tmp_path / "out", "--retain-data", "retain_train.jsonl")
    assert done.value.code == 2 and "unrecognized arguments: --retain-data" in capsys.readouterr().err


def test_the_retrained_model_learns_no_file_by_name(tmp_path, tiny, data, capsys):
    with pytest.raises(SystemExit) as done:
        train_here("02_finetune.py", tiny, data, tmp_path / "out", "--without-forget", "--forget", "forget_train.jsonl")
    assert done.value.code == 2 and "--without-forget: give one of them" in capsys.readouterr().err


def test_the_retrained_model_never_reads_the_forget_set(tmp_path, tiny, data):
    train("02_finetune.py", tiny, data, tmp_path / "retrained", "--without-forget", "--epochs", 1)
    (read,) = json.loads((tmp_path / "retrained/training.json").read_text())["data"]
    seen = Path(read).read_text()
    forget = [row["answer"] for part in ("train", "val") for row in read_pairs(data / f"forget_{part}.jsonl")]
    assert seen and not any(answer in seen for answer in forget)
    assert all(answer in (data / "full.jsonl").read_text() for answer in forget)


def test_an_unlearned_model_can_be_unlearned_further(tmp_path, tiny, data):
    """What the first method learnt is in the weights that the second one leaves, which hardly learns."""
    exact = (
        "--dtype",
        "float32",
    )  # a bfloat16 weight keeps three digits: too few to see what a step of 1e-9 leaves alone
    train("10_ga.py", tiny, data, tmp_path / "first", "--epochs", 1, *exact)
    train("11_npo.py", tmp_path / "first", data, tmp_path / "second", "--epochs", 1, "--lr", 1e-9, *exact)
    first, second = (load_model(tmp_path / name, "float32")[0] for name in ("first", "second"))
    first, second, base = (
        first.merge_and_unload().state_dict(),
        second.state_dict(),
        load_model(tiny, "float32")[0].state_dict(),
    )
    moved = max((first[name] - base[name]).abs().max() for name in base)
    assert moved > 1e-3 and max((first[name] - second[name]).abs().max() for name in base) < 1e-2 * moved


def test_small_updates_outlast_unlearning_further_where_the_hardware_has_bfloat16(tmp_path, tiny, data, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    kinds = lambda name: {value.dtype for value in load_file(tmp_path / name / "model.safetensors").values()}
    train_here("10_ga.py", tiny, data, tmp_path / "first", "--epochs", 1)
    train_here("10_ga.py", tmp_path / "first", data, tmp_path / "second", "--epochs", 1, "--lr", 1e-9)
    train_here("02_finetune.py", tiny, data, tmp_path / "vanilla", "--epochs", 1)
    train_here("10_ga.py", tmp_path / "first", data, tmp_path / "asked", "--epochs", 1, "--dtype", "bfloat16")
    assert kinds("second") == {torch.float32} and kinds("vanilla") == kinds("asked") == {torch.bfloat16}
    first, second = (load_model(tmp_path / name, "float32")[0] for name in ("first", "second"))
    first, second, base = (
        first.merge_and_unload().state_dict(),
        second.state_dict(),
        load_model(tiny, "float32")[0].state_dict(),
    )
    moved = max((first[name] - base[name]).abs().max() for name in base)
    assert moved > 1e-3 and max((first[name] - second[name]).abs().max() for name in base) < 1e-2 * moved


@pytest.mark.parametrize("count", [None, 3])
def test_task_arithmetic_probes_what_it_leaves_and_not_what_it_learns(tmp_path, tiny, data, count):
    train_here(
        "19_ta.py", tiny, data, tmp_path / "out", "--epochs", 1, "--lr", 1e-2, *(("--probes", count) if count else ())
    )
    found = json.loads((tmp_path / "out/training.json").read_text())
    assert [point["update"] for point in found["probes"]] == [0, len(found["updates"])]
    model, tokenizer = load_model(tmp_path / "out")
    pairs = read_pairs(data / "forget_val.jsonl")
    batch = collate(
        [encode(tokenizer, pair["question"], pair["answer"]) for pair in pairs[:: math.ceil(len(pairs) / 8)]],
        tokenizer.pad_token_id,
    )
    with torch.no_grad():
        assert found["probes"][1]["forget_nll"] == pytest.approx(nll(model.eval(), batch).item(), rel=1e-4)
    assert found["probes"][1]["forget_nll"] > found["probes"][0]["forget_nll"], "it goes the other way"


def test_memflex_logs_the_loss_that_it_lowers(tmp_path, tiny, data):
    """Without a retain loss -0.4 times the NLL, of which gradient ascent logs the whole."""
    for script in ("10_ga.py", "16_memflex.py"):
        train_here(script, tiny, data, tmp_path / script, "--epochs", 1, "--retain", "none", "--lora-dropout", 0)
    ga, memflex = (
        json.loads((tmp_path / script / "training.json").read_text())["updates"][0]["loss"]
        for script in ("10_ga.py", "16_memflex.py")
    )
    assert memflex == pytest.approx(0.4 * ga, rel=1e-5) and ga < 0


def test_probes_are_the_nll_of_validation_pairs_on_the_way(tmp_path, tiny, data):
    train("10_ga.py", tiny, data, tmp_path / "out", "--epochs", 2, "--probes", 2)
    found = json.loads((tmp_path / "out/training.json").read_text())
    updates = len(found["updates"])
    assert [point["update"] for point in found["probes"]] == [0, round(updates / 2), updates]
    for at, folder in ((0, tiny), (-1, tmp_path / "out")):
        model, tokenizer = load_model(folder, "float32")
        for side in ("forget", "retain"):
            pairs = read_pairs(data / f"{side}_val.jsonl")
            chosen = pairs[:: math.ceil(len(pairs) / 8)]
            assert 4 <= len(chosen) <= 8
            losses = torch.cat(
                [
                    -answer_logprob(model.eval(), collate([encode(tokenizer, pair["question"], pair["answer"])], 0))
                    for pair in chosen
                ]
            )
            assert found["probes"][at][f"{side}_nll"] == pytest.approx(losses.mean().item(), rel=1e-4)
    train("10_ga.py", tiny, data, tmp_path / "none", "--epochs", 1, "--probes", 0)
    assert json.loads((tmp_path / "none/training.json").read_text())["probes"] == []


def test_probes_are_of_the_data_that_is_trained_on_and_a_long_question_costs_none(tmp_path, tiny, data):
    def probes(name, *flags):
        train("10_ga.py", tiny, tmp_path / "run/data", tmp_path / name, "--epochs", 1, "--retain", "none", *flags)
        return json.loads((tmp_path / name / "training.json").read_text())["probes"]

    shutil.copytree(data, tmp_path / "run/data")
    for name in ("run/made", "elsewhere"):
        (tmp_path / name).mkdir()
        shutil.copy(data / "forget_train.jsonl", tmp_path / name)
    assert probes("a", "--forget", tmp_path / "run/made/forget_train.jsonl"), "what is made of the data lies beside it"
    assert probes("b", "--forget", tmp_path / "elsewhere/forget_train.jsonl") == [], "other facts than those of --data"
    whole = probes("c")
    path = tmp_path / "run/data/forget_val.jsonl"
    path.write_text(json.dumps({"question": "word " * 300, "answer": "Yes."}) + "\n" + path.read_text())
    found = probes("d", "--max-length", 128)
    assert len(found) == len(whole) and found[0]["retain_nll"] == pytest.approx(whole[0]["retain_nll"])
