"""Two processes do what one does: on the CPU, started by torchrun, with all weights in each (ddp) and with a part in
each (fsdp).

Equal losses are asked for without dropout, whose draws differ. A process takes seconds to start, so this file is also
the program that torchrun starts: it runs a list of scripts one after another. What torchrun starts has loaded torch
already, but in one test, where all is as a user's.
"""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

from lib import parallel
from lib.batches import parts
from lib.likelihood import answer_tokens

import pytest
import torch
from conftest import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file


def run(script, *flags):
    """Runs a script in this process."""
    argv, sys.argv = sys.argv, [str(script), *map(str, flags)]
    try:
        runpy.run_path(str(REPOSITORY / script), run_name="__main__")
    finally:
        sys.argv = argv


def torchrun(*command, python=sys.executable):
    """Starts two processes of a Python; one that lies outside the repository's folders finds lib, too."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *map(str, command)]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "scripts"), "PYTHON_EXEC": str(python)}
    return subprocess.Popen(words, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, env=env)


def updates(folder):
    return json.loads((folder / "training.json").read_text())["updates"]


def assert_close(one, two):
    """The same losses and weights, to rounding."""
    assert [row["loss"] for row in updates(one)] == pytest.approx([row["loss"] for row in updates(two)], abs=1e-4)
    one, two = ({file.name: load_file(file) for file in folder.glob("*.safetensors")} for folder in (one, two))
    assert one.keys() == two.keys() and one
    for name, weights in one.items():
        torch.testing.assert_close(weights, two[name], atol=1e-4, rtol=0)


# 16 forget pairs: updates of 3, 4 or 6 rows do not divide among two processes and parts of 1 or 2 rows; the last has 1
# or 4
TRAIN = ("--epochs", 2, "--lr", 1e-3, "--lora-dropout", 0, "--dtype", "float32")
ODD, WIDE = ("--batch", 1, "--accumulation", 3), ("--batch", 2, "--accumulation", 3)
JOBS = {
    "npo": ("11_npo.py", *ODD, "--retain", "klr"),
    "answers": (
        "30_generate.py",
        "--model",
        "{npo}",
        "--max-new-tokens",
        6,
        "--dtype",
        "float32",
        "--batch",
        7,
    ),  # 3 batches
    "relearn": ("12_relearn.py", *WIDE, "--forget", "forget_train.jsonl"),
    "dpo": ("13_dpo.py", *WIDE, "--retain", "none"),
    "sure": ("15_sure.py", *ODD, "--loss", "npo", "--percentile", 50),
    "rkld": ("18_rkld.py", *WIDE, "--retain", "gdr", "--augmented", "{augmented}"),
    "finetuned": ("02_finetune.py", *WIDE, "--forget", "forget_train.jsonl"),
    "rmu": ("27_rmu.py", *WIDE, "--layer", 1),  # whose later blocks get no gradient
    "full-npo": ("11_npo.py", *ODD, "--retain", "klr", "--full", "--keep", 2),
    "full-dpo": ("13_dpo.py", *WIDE, "--retain", "none", "--full"),
    "full-sure": ("15_sure.py", *ODD, "--percentile", 50, "--full"),
    "full-rkld": ("18_rkld.py", *WIDE, "--augmented", "{augmented}", "--full"),
    "full-ta": ("19_ta.py", *WIDE, "--full"),
    "full-rmu": ("27_rmu.py", *WIDE, "--layer", 1, "--full"),
    "watched": (
        "40_in_out.py",
        *ODD,
        "--forget",
        "forget_train.jsonl",
        "--fresh",
        "forget_val.jsonl",
        "--generic",
        "retain_val.jsonl",
        "--watched",
        3,
        "--asked",
        2,
        "--max-new-tokens",
        4,
        "--every",
        6,
    ),
}
TRAINED = [name for name in JOBS if name != "answers"]


def jobs(folder, tiny, data, augmented, *shard):
    """[script, flags...] of each job."""
    places = {"augmented": augmented, "npo": folder / "npo"}
    for name, (script, *flags) in JOBS.items():
        common = (
            ("--questions", data / "forget_train.jsonl")
            if name == "answers"
            else ("--model", tiny, "--data", data, *TRAIN)
        )
        yield [
            str(word).format(**places)
            for word in (f"scripts/{script}", *common, *flags, "--out", folder / name, *shard)
        ]


@pytest.fixture(scope="module")
def augmented(tmp_path_factory, tiny, data):
    folder = tmp_path_factory.mktemp("augmented") / "adapter"
    run(
        "scripts/02_finetune.py",
        "--model",
        tiny,
        "--data",
        data,
        "--forget",
        "forget_train.jsonl",
        "--adapter",
        "--out",
        folder,
        *TRAIN,
        *WIDE,
    )
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory, tiny, data, augmented):
    """Everything in one process."""
    folder = tmp_path_factory.mktemp("alone")
    for script, *flags in jobs(folder, tiny, data, augmented):
        run(script, *flags)
    return folder


@pytest.mark.parametrize("shard", ["ddp", "fsdp"])
def test_two_processes_do_what_one_does(tmp_path, tiny, data, augmented, alone, warm_python, shard):
    (tmp_path / "jobs.json").write_text(json.dumps(list(jobs(tmp_path, tiny, data, augmented, "--shard", shard))))
    process = torchrun(__file__, tmp_path / "jobs.json", python=warm_python)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    for name in TRAINED:
        assert_close(tmp_path / name, alone / name)
        assert json.loads((tmp_path / name / "training.json").read_text())["processes"] == 2
        assert len(updates(tmp_path / name)) == len(updates(alone / name)) > 4
        assert said.count(f"wrote {tmp_path / name}\n") == 1, "only the first process speaks"
    (point,) = (tmp_path / "full-npo/points").iterdir()
    assert_close(point, alone / "full-npo/points" / point.name)
    assert (tmp_path / "answers/forget_train.jsonl").read_text() == (alone / "answers/forget_train.jsonl").read_text()
    ours, theirs = (json.loads((folder / "watched/curve.json").read_text())["points"] for folder in (tmp_path, alone))
    assert [point["update"] for point in ours] == [point["update"] for point in theirs] == [0, 6, 12]
    for our, their in zip(ours, theirs):
        assert our["retain_answers"] == their["retain_answers"] and our["retain_nll"] == pytest.approx(
            their["retain_nll"], abs=1e-4
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["jobs.json", *TRAINED, "answers"]), (
        "nothing half-written is left"
    )


@pytest.mark.parametrize("what", [(), ("--full",)], ids=("adapter", "all weights"))
def test_a_killed_pair_is_continued_by_one(tmp_path, tiny, data, warm_python, what):
    flags = ("--model", tiny, "--data", data, *TRAIN, *ODD, "--epochs", 8, "--checkpoint-every", 7, "--retain", "klr")
    flags += what
    run("scripts/11_npo.py", *flags, "--out", tmp_path / "whole")
    out = ("--out", tmp_path / "killed")
    process = torchrun("scripts/11_npo.py", *flags, *out, "--shard", "fsdp", python=warm_python)
    for _ in range(2400):
        if (tmp_path / "killed.partial/checkpoint.pt").exists() or process.poll() is not None:
            break
        time.sleep(0.025)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[1]), signal.SIGKILL)
    process.communicate(timeout=60)  # until nobody holds its stderr any more
    assert len(children) == 2 and process.returncode != 0, "the other process ends too"
    assert not (tmp_path / "killed").exists(), "killed too late to show anything"
    run("scripts/11_npo.py", *flags, *out)
    assert_close(tmp_path / "whole", tmp_path / "killed")
    assert json.loads((tmp_path / "killed/training.json").read_text())["processes"] == 1


def test_a_fault_of_one_process_ends_both(tmp_path, tiny, data):
    method = tmp_path / "mine.py"
    method.write_text(
        "from lib import parallel\nfrom lib.files import fail\nfrom lib.flags import arguments\n"
        "from lib.likelihood import nll\n"
        'from lib.trainer import start\nmodel, trainer = start(arguments("mine"))\nfor forget, _ in trainer:\n'
        "    loss = nll(model, forget)\n    loss.backward()\n    trainer.update(loss)\n"
        '    if parallel.rank == 1:\n        fail("of one")\n'
    )
    process = torchrun(method, "--model", tiny, "--data", data, "--out", tmp_path / "out", "--shard", "fsdp")
    said = process.communicate()[1]
    assert process.returncode != 0 and said.count("error: of one\n") == 1 and "exitcode  : 2" in said
    assert not (tmp_path / "out").exists()


@given(st.lists(st.integers(2, 6), min_size=1, max_size=9), st.integers(1, 3), st.integers(1, 5))
def test_the_rows_are_shared_out_once_each_and_in_as_many_passes(lengths, batch, processes):
    rows = [([row] * length, 1) for row, length in enumerate(lengths, 10)]
    counted, passes, means = [], set(), 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "count", processes)
        for rank in range(processes):
            patch.setattr(parallel, "rank", rank)
            cut = parts([(row,) for row in rows], batch, 0, "cpu")
            passes.add(len(cut))
            counted += [ids for part in cut if part.step_rows == len(rows) for ids in part.input_ids[:, 0].tolist()]
            means += sum(part.token_mean(answer_tokens(part).double()) for part in cut)
            assert all(
                part.row_mean(torch.ones(len(part.input_ids))) == 0 for part in cut if part.step_rows != len(rows)
            )
            assert all(1 <= len(part.input_ids) <= batch for part in cut)
    tokens = [token for ids, prompt in rows for token in ids[prompt:]]
    assert sorted(counted) == [ids[0] for ids, _ in rows] and len(passes) == 1
    assert means == pytest.approx(sum(tokens) / len(tokens)), "the shares add up to the mean of all"


if __name__ == "__main__":  # one of two processes; they part at the end of the last job
    *jobs, last = json.loads(Path(sys.argv[1]).read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "end", lambda: None)
        for job in jobs:
            run(*job)
            torch.distributed.barrier()  # the next job may read what the first process wrote
    run(*last)
