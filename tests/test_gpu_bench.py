"""bench/gpu.sh on a CPU, with models of two small layers: that it runs, and what its lines hold, not how large."""

import json

import torch
from conftest import run


def test_the_gpu_script_prints_a_line_of_json_a_measurement(warm_programs):
    done = run("bench/gpu.py", "--tiny", "--only", "train 1b", "generate 7b", process=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [(row["measurement"], row.get("method"), row.get("batch")) for row in found]
    assert kinds[:3] == [("machine", None, None), ("matrix rate", None, None), ("copy rate", None, None)]
    both = [("training", "ReLearn", size) for size in (2, 1)] + [("training", "NPO+KLR", size) for size in (2, 1)]
    assert sorted(kinds[3:-1], key=str) == sorted([*both, ("generation", None, 4)], key=str)
    for row in found:
        if row["measurement"] == "training":
            assert row["updates"] == 3 and row["tokens_a_second"] > 0 and 0 < row["needed_share"] < row["share_6n"]
    assert found[-1]["status"] == 0


def test_without_a_gpu_and_without_tiny_it_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = run("bench/gpu.py", check=False)
    assert done.returncode == 2 and "no GPU: --tiny" in done.stderr
