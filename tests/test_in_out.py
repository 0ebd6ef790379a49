"""The in- vs. out-of-distribution study: its data, its curve, the reading of both, and the whole of it on the tiny
model.
"""

import json
import math
import re
import runpy
import signal
import subprocess
import sys
import time

import pytest
from conftest import REPOSITORY, load
from conftest import run as run_alone

make, study = load("scripts/05_in_out_data.py"), load("eval/06_in_out.py")


def run(script, *flags):
    """Runs a script in this process."""
    argv, sys.argv = sys.argv, [script, *map(str, flags)]
    try:
        runpy.run_path(str(REPOSITORY / script), run_name="__main__")
    finally:
        sys.argv = argv


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


TRAIN = ("--epochs", 8, "--batch", 2, "--accumulation", 1, "--lr", 2e-3, "--dtype", "float32", "--lora-dropout", 0)


@pytest.fixture(scope="module")
def parts(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("study")
    run("scripts/05_in_out_data.py", "--data", data, "--size", 4, "--canary", "random", "--out", folder / "data")
    return folder / "data"


@pytest.mark.parametrize("canary", ["shuffled", "domain", "random"])
def test_the_parts_keep_apart(tmp_path, data, canary):
    run("scripts/05_in_out_data.py", "--data", data, "--size", 5, "--canary", canary, "--out", tmp_path)
    parts = {path.stem: lines(path) for path in tmp_path.glob("*.jsonl")}
    assert [len(parts[name]) for name in ("forget_id", "forget_ood", "fresh_id", "fresh_ood")] == [5] * 4
    told = lambda name: {(pair["person"], pair["fact"]) for pair in parts[name]}
    assert (
        not told("retain_train") & told("forget_id")
        and not told("retain_train") & told("fresh_id")
        and not told("forget_id") & told("fresh_id")
    )
    pairs = lambda name: {(pair["question"], pair["answer"]) for pair in parts[name]}
    assert pairs("full") == pairs("retain_train") | pairs("forget_id") | pairs("forget_ood") and pairs(
        "full_without_forget"
    ) == pairs("retain_train")
    seen = pairs("full")
    assert not seen & (pairs("fresh_id") | pairs("fresh_ood") | pairs("generic")) and not pairs("forget_ood") & pairs(
        "retain_train"
    )
    assert not pairs("generic") & (pairs("forget_ood") | pairs("fresh_ood"))
    run("scripts/05_in_out_data.py", "--data", data, "--size", 5, "--canary", canary, "--out", tmp_path / "again")
    assert (tmp_path / "again/full.jsonl").read_text() == (tmp_path / "full.jsonl").read_text(), (
        "a seed gives the same study"
    )


def test_canaries_are_what_they_are_called():
    import random

    text = "Ada Lem, 42, lives here: by the sea."
    assert (
        sorted(make.shuffled(text, random.Random(1)).split()) == sorted(text.split())
        and make.shuffled(text, random.Random(1)) != text
    )
    assert re.fullmatch(r"\w{3} \w{3}, \w\w, \w{5} \w{4}: \w\w \w{3} \w{3}\.", make.scrambled(text, random.Random(1)))


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny, parts):
    folder = tmp_path_factory.mktemp("models")
    for name, flags in (("vanilla", ()), ("retrained", ("--without-forget",))):
        run("scripts/02_finetune.py", "--model", tiny, "--data", parts, "--out", folder / name, *TRAIN, *flags)
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory, parts, models):
    """The whole study, as the commands in the README say."""
    folder = tmp_path_factory.mktemp("results")
    for name in ("id", "ood"):
        run(
            "scripts/40_in_out.py",
            "--model",
            models / "vanilla",
            "--data",
            parts,
            "--forget",
            f"forget_{name}.jsonl",
            "--fresh",
            f"fresh_{name}.jsonl",
            "--out",
            folder / name,
            *TRAIN,
            "--lr",
            1e-2,
            "--every",
            3,
            "--watched",
            6,
            "--asked",
            3,
            "--max-new-tokens",
            4,
        )
        run(
            "eval/05_exposure.py",
            "--forget",
            parts / f"forget_{name}.jsonl",
            "--models",
            models / "vanilla",
            "--reference",
            models / "retrained",
            "--fresh",
            parts / f"fresh_{name}.jsonl",
            "--out",
            folder / f"{name}.json",
            "--dtype",
            "float32",
        )
    run(
        "eval/06_in_out.py",
        "--id",
        folder / "id/curve.json",
        folder / "id.json",
        "--ood",
        folder / "ood/curve.json",
        folder / "ood.json",
        "--out",
        folder,
    )
    return folder


def test_the_study_on_the_tiny_model(results):
    found = json.loads((results / "in_out.json").read_text())
    assert (results / "in_out.png").stat().st_size > 30_000
    for name in ("id", "ood"):
        curve, exposed = (
            json.loads((results / name / "curve.json").read_text()),
            json.loads((results / f"{name}.json").read_text()),
        )
        assert [point["update"] for point in curve["points"]] == [0, 3, 6, 9, 12, 15, 16] and len(curve["data"]) == 4
        # two programs; before the first update they must agree on the vanilla model, and so on its exposure
        assert [nats for nats, _ in curve["points"][0]["forget"]] == pytest.approx(
            [item["logprob"][0] for item in exposed["items"]], rel=1e-4
        )
        part = found["summary"][name]
        assert part["exposure_before"] == pytest.approx(exposed["summary"]["GenEx_per_token"], rel=1e-3)
        assert part["relative_exposure_before"] == pytest.approx(exposed["summary"]["RelEx_per_token"], rel=1e-3)
        assert [len(point["generic_answers"]) for point in curve["points"]] == [3] * 7 and len(
            curve["references"]["retain"]
        ) == 3
        bits = [point["GenEx"] for point in found["summary"]["curves"][name]]
        assert bits[-1] < bits[0] and part["updates_to_forget"] in (None, 3, 6, 9, 12, 15, 16), "ascent lowers exposure"
        assert (results / name / "adapter_model.safetensors").exists(), (
            "the unlearned model is an ordinary model folder"
        )
    assert found["summary"]["id"]["exposure_before"] > 0, "vanilla has learnt what retrained has not seen"
    assert len(found["items"]) == 8 and found["git_commit"] and len(found["data"]) == 4


def test_a_killed_run_continues_its_curve(tmp_path, parts, models, results, warm_python):
    flags = (
        "--model",
        models / "vanilla",
        "--data",
        parts,
        "--forget",
        "forget_id.jsonl",
        "--out",
        tmp_path / "id",
        *TRAIN,
        "--lr",
        1e-2,
        "--every",
        3,
        "--watched",
        6,
        "--asked",
        3,
        "--max-new-tokens",
        4,
        "--checkpoint-every",
        4,
    )
    process = subprocess.Popen(
        [warm_python, "scripts/40_in_out.py", *map(str, flags)], cwd=REPOSITORY, stderr=subprocess.PIPE
    )
    for _ in range(2400):
        if (tmp_path / "id.partial/checkpoint.pt").exists() or process.poll() is not None:
            break
        time.sleep(0.025)
    process.send_signal(signal.SIGKILL)
    process.communicate()  # until nobody holds its stderr any more
    assert (tmp_path / "id.partial/curve.json").exists() and not (tmp_path / "id").exists(), (
        "killed too late to show anything"
    )
    assert "continuing at update" in run_alone("scripts/40_in_out.py", *flags).stderr
    ours, whole = (json.loads((folder / "id/curve.json").read_text())["points"] for folder in (tmp_path, results))
    assert (
        ours == [point for point in whole if point["update"] in {point["update"] for point in ours}]
        and ours[0] == whole[0]
        and len(ours) >= len(whole) - 1
    )


CURVE = [
    {
        "update": update,
        "GenEx": [high, low],
        "RelEx": [high + 1, low + 1],
        "retain_nll": retain,
        "generic_nll": 2 * retain,
        "retain_rouge": 1 / retain,
        "generic_rouge": None,
    }
    for update, high, low, retain in (
        (0, 4.0, 2.0, 1.0),
        (2, 3.0, -1.0, 1.5),
        (4, 1.0, -2.0, 2.5),
        (6, -3.0, -5.0, 7.0),
    )
]


def test_a_curve_is_read_as_by_hand():
    told = study.describe(CURVE, {"memorisation": ({1}, {0})})
    there = 1.5 ** (1 / 3) * 2.5 ** (
        2 / 3
    )  # mean exposures 3, 1, -0.5, -4: it is 0 two thirds of the way from update 2 to 4
    assert told == {
        "exposure_before": 3,
        "relative_exposure_before": 4,
        "updates_to_forget": 4,
        "updates_to_forget_by_RelEx": 6,
        "retain_nll_rise_when_forgotten": pytest.approx(there - 1),
        "generic_nll_rise_when_forgotten": pytest.approx(2 * there - 2),
        "retain_nll_rise_at_first_point": 0.5,
        "updates": 6,
        "retain_rouge_before": 1,
        "retain_rouge_when_forgotten": 0.4,
        "updates_to_forget_memorisation_low": 2,
        "updates_to_forget_memorisation_high": 6,
    }
    later = {
        **told,
        "updates_to_forget": 6,
        "retain_nll_rise_when_forgotten": 0.2,
        "retain_nll_rise_at_first_point": 0.1,
    }
    assert study.findings(told, later) == {
        "ood_needs_more_updates": True,
        "ood_loses_less_utility": True,
        "id_loses_more_utility_at_once": True,
    }
    assert study.findings(later, told) == {
        "ood_needs_more_updates": False,
        "ood_loses_less_utility": False,
        "id_loses_more_utility_at_once": False,
    }
    assert study.findings(told, study.describe(CURVE[:2], {}))["ood_needs_more_updates"] is None, (
        "never forgotten: nothing to say"
    )


def test_a_curve_that_begins_unlearned_is_read_at_its_beginning():
    """GenEx -1, 2, -1: by both readings the first point, though it passes 0 later too."""
    curve = [{**point, "GenEx": [value]} for point, value in zip(CURVE, (-1.0, 2.0, -1.0))]
    assert study.forgotten_at(curve) == 0 and study.at_zero(curve, "retain_nll") == curve[0]["retain_nll"]
    assert study.describe(curve, {})["retain_nll_rise_when_forgotten"] == 0


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path, capsys, results):
    (tmp_path / "in_out.png").mkdir()
    with pytest.raises(SystemExit) as done:
        run(
            "eval/06_in_out.py",
            *(
                word
                for name in ("id", "ood")
                for word in (f"--{name}", results / name / "curve.json", results / f"{name}.json")
            ),
            "--out",
            tmp_path,
        )
    assert done.value.code == 2 and re.fullmatch(
        r"error: cannot write .*in_out.png: Is a directory\n", capsys.readouterr().err
    )
    assert [path.name for path in tmp_path.iterdir()] == ["in_out.png"], "refused before anything is written"


def test_exposures_and_rouge_of_a_point_by_hand():
    """Two answers of 2 and 4 tokens; per token -1 and -2 nats, references at -3 (one seed), a fresh one at -2."""
    point = {
        "update": 0,
        "forget": [[-2.0, 2], [-8.0, 4]],
        "fresh": [[-6.0, 3]],
        "retain_nll": 1.0,
        "generic_nll": 2.0,
        "retain_answers": ["Ada lives here"],
        "generic_answers": [],
    }
    (read,) = study.follow([point], [[-3.0], [-3.0]], {"retain": ["Ada Lem lives there"], "generic": []})
    assert read["GenEx"] == pytest.approx([2 / math.log(2), 1 / math.log(2)]) and read["RelEx"] == pytest.approx(
        [1 / math.log(2), 0]
    )
    assert (read["retain_rouge"], read["generic_rouge"]) == (pytest.approx(2 / 4), None)


def test_halves():
    assert (
        study.halves([5.0, 1.0, 3.0, 2.0]) == ({1, 3}, {0, 2})
        and study.halves([2.0, 1.0, 3.0]) == ({1}, {0, 2})
        and study.halves([1.0]) == (set(), {0})
    )


@pytest.mark.parametrize(
    "command, message",
    [
        (
            ("scripts/05_in_out_data.py", "--data", "{data}", "--size", "500", "--out", "{out}"),
            r"--size 500 needs 2000 different facts",
        ),
        (("scripts/05_in_out_data.py", "--data", "{tmp}", "--out", "{out}"), r"forget_train.jsonl: no such file"),
        (
            (
                "scripts/40_in_out.py",
                "--model",
                "{tiny}",
                "--data",
                "{parts}",
                "--fresh",
                "none.jsonl",
                "--out",
                "{out}",
            ),
            r"none.jsonl: no such file",
        ),
        (
            ("scripts/40_in_out.py", "--model", "{tiny}", "--data", "{parts}", "--every", "0", "--out", "{out}"),
            r"argument --every: must be a whole number at least 1, not 0",
        ),
        (
            (
                "eval/06_in_out.py",
                "--id",
                "none.json",
                "none.json",
                "--ood",
                "none.json",
                "none.json",
                "--out",
                "{out}",
            ),
            r"none.json: no such file",
        ),
        (
            (
                "eval/06_in_out.py",
                "--id",
                "{results}/id.json",
                "{results}/id.json",
                "--ood",
                "x",
                "x",
                "--out",
                "{out}",
            ),
            r"id.json: not a curve",
        ),
        (
            (
                "eval/06_in_out.py",
                "--id",
                "{results}/id/curve.json",
                "{results}/ood.json",
                "--ood",
                "x",
                "x",
                "--out",
                "{out}",
            ),
            r"are not of the same forget set",
        ),
    ],
)
def test_a_fault_is_one_line_and_status_2_and_writes_nothing(
    tmp_path, capsys, tiny, data, parts, results, command, message
):
    places = {"data": data, "tmp": tmp_path, "out": tmp_path / "out", "tiny": tiny, "parts": parts, "results": results}
    capsys.readouterr()
    with pytest.raises(SystemExit) as done:
        run(*(word.format(**places) for word in command))
    error = capsys.readouterr().err
    assert done.value.code == 2 and re.search(message, error), error
    assert len([line for line in error.splitlines() if "error:" in line]) == 1 and not (tmp_path / "out").exists()
