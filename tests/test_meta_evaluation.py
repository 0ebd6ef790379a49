"""The meta-evaluation: its statistics by hand and against slow references, its data, rounded folders, and the command's
steps.
"""

import itertools
import json
import os
import re
import subprocess
import sys

from lib.models import load_model

import pytest
import torch
from conftest import REPOSITORY, load, run
from hypothesis import given
from hypothesis import strategies as st
from robustness.precision import rounded

meta = load("eval/18_meta_evaluation.py")
VALUES = st.lists(st.integers(0, 3).map(lambda whole: whole / 3), min_size=2, max_size=4)


# ---------------------------------------------------------------- statistics


def test_auc_by_hand_on_six_numbers():
    know, never = [0.9, 0.5, 0.4], [0.4, 0.3, 0.6]
    assert meta.auc(know, never) == pytest.approx((3 + 2 + 1.5) / 9)
    assert meta.auc(never, know) == pytest.approx(1 - 6.5 / 9)
    assert meta.auc([1, 2, 3], [0, 0, 0]) == 1 and meta.auc([1, 1], [1, 1]) == 0.5


def test_p_by_hand():
    assert meta.mann_whitney_p([4, 5, 6], [1, 2, 3]) == pytest.approx(2 / 20), "first and last of the 20 divisions"
    assert meta.mann_whitney_p([3, 5, 6], [1, 2, 4]) == pytest.approx(4 / 20)
    assert meta.mann_whitney_p([1, 1], [1, 1, 1]) == 1
    assert meta.mann_whitney_p(range(8, 16), range(8)) == pytest.approx(2 / 12870)


def test_a_useless_metric_has_more_than_a_half():
    """Of two and two models the six divisions have AUC 0, 1/4, 1/2 (twice), 3/4 and 1."""
    assert meta.useless_auc(2, 2) == pytest.approx((1 + 3 / 4 + 1 / 2 + 1 / 2 + 3 / 4 + 1) / 6)
    assert 0.61 < meta.useless_auc(8, 8) < 0.63


@given(VALUES, VALUES)
def test_p_is_the_share_of_divisions_as_far_apart(know, never):
    def slow(one, other):
        return sum((a > b) + 0.5 * (a == b) for a in one for b in other) / len(one) / len(other)

    values, far, ways = [*know, *never], abs(slow(know, never) - 0.5), []
    for chosen in itertools.combinations(range(len(values)), len(know)):
        rest = [value for at, value in enumerate(values) if at not in chosen]
        ways.append(abs(slow([values[at] for at in chosen], rest) - 0.5) >= far - 1e-9)
    assert meta.mann_whitney_p(know, never) == pytest.approx(sum(ways) / len(ways))


def test_interval_by_hand():
    assert meta.auc_interval([1, 2], [0, 3], 2000) == (0, 1), "a quarter of the draws are 0 alone, a quarter 3 alone"
    assert meta.auc_interval([5, 6, 7], [1, 2], 500) == (1, 1)
    low, high = meta.auc_interval(range(1, 40, 2), range(0, 40, 2), 2000)
    assert 0.3 < low < 0.42 and 0.6 < high < 0.75, "20 and 20 alike: AUC 0.525, standard error near 0.09"
    assert meta.auc_interval([1, 4, 2], [3, 0, 5], 300) == meta.auc_interval([1, 4, 2], [3, 0, 5], 300)


def test_robustness_by_hand_on_two_models():
    before, after = [0.2, 0.8], [0.3, 0.6]
    assert meta.moved(before, after, 0.5) == pytest.approx((0.1 + 0.2) / 2 / 0.5)
    assert meta.moved(before, after, -0.5) == meta.moved(before, after, 0.5)
    assert meta.moved(before, before, 0.5) == 0 and meta.moved(before, after, 0) is None
    assert meta.moved([1.0], [float("inf")], 1.0) is None
    assert meta.eq3(before, after, rises=True) == pytest.approx((0.2 / 0.3 + 1) / 2)
    assert meta.eq3(before, after, rises=False) == pytest.approx((1 + 0.2 / 0.4) / 2), "KFR: what is known is 1 - KFR"
    assert meta.eq3([0.0, 0.5], [0.0, 0.5], rises=True) == 1 and meta.eq3([0.5], [1.5], rises=True) is None


def test_what_moved_by_nobody_knows_how_much_comes_after_what_is_known():
    rows = {"none": None, "far": 2.0, "near": 0.1}
    found = {key: {"AUC": 1.0, "robustness": {"int4": {"moved": value}}} for key, value in rows.items()}
    assert meta.order(found) == ["near", "far", "none"]


# ---------------------------------------------------------------- the whole, from metrics files


def write(folder, **values):
    folder.mkdir(parents=True)
    (folder / "kfr_krr.json").write_text(json.dumps({"summary": values, "items": []}))
    return folder


@pytest.fixture
def folders(tmp_path):
    """Three models that know, three that never saw, one of each changed; one lacks leak."""
    made = {"know": [], "never": [], "changed": []}
    for at, (kfr, leak, krr) in enumerate([(0.1, 0.9, 0.9), (0.2, 0.8, 0.8), (0.6, 0.5, 0.7)], 1):
        made["know"].append(write(tmp_path / f"m/questions-{at}", KFR=kfr, leak=leak, KRR=krr, KFR_strict=kfr))
    for at, (kfr, leak, krr) in enumerate([(1.0, 0.0, 0.9), (0.9, 0.1, 0.8), (0.5, 0.0, 0.7)], 1):
        rest = {} if at == 2 else {"KFR_strict": kfr}
        made["never"].append(write(tmp_path / f"m/retrained-{at}", KFR=kfr, leak=leak, KRR=krr, **rest))
    made["changed"].append(write(tmp_path / "m/questions-1-int4", KFR=0.2, leak=0.9, KRR=0.9, KFR_strict=0.2))
    made["changed"].append(write(tmp_path / "m/retrained-1-int4", KFR=0.8, leak=0.0, KRR=0.5, KFR_strict=0.8))
    return made


def command(made, out):
    flags = [word for name, paths in made.items() if paths for word in (f"--{name}", *paths)]
    return ("eval/18_meta_evaluation.py", *flags, "--out", out, "--draws", 200)


def test_the_table_says_what_the_metrics_files_say(tmp_path, folders):
    run(*command(folders, tmp_path / "report"))
    found = json.loads((tmp_path / "report/meta_evaluation.json").read_text())
    kfr, leak = (found["summary"]["metrics"][name] for name in ("KFR", "leak"))
    assert kfr["AUC"] == pytest.approx(8 / 9) and kfr["knowing_raises"] is False, "0.6 of 9 pairs alone is above 0.5"
    assert kfr["AUC_95"][0] <= kfr["AUC"] <= kfr["AUC_95"][1] and kfr["p"] == pytest.approx(4 / 20)
    assert kfr["know"] == pytest.approx(0.3) and kfr["never"] == pytest.approx(0.8)
    assert kfr["robustness"]["int4"]["moved"] == pytest.approx((0.1 + 0.2) / 2 / 0.5)
    assert kfr["robustness"]["int4"]["Q"] == pytest.approx((1 + 0 / 0.2) / 2), "1 - KFR: 0.9 to 0.8, and 0 to 0.2"
    assert (
        leak["AUC"] == 1 and leak["knowing_raises"] and leak["robustness"]["int4"] == {"moved": 0, "Q": 1, "models": 2}
    )
    assert found["summary"]["metrics"]["KRR"]["AUC"] == 0.5
    assert found["summary"]["left_out"] == ["KFR strict ↑"] and len(found["items"]) == 8
    table = (tmp_path / "report/meta_evaluation.md").read_text()
    assert re.search(r"^\| leak ↓ \| 0.733 \| 0.0333 \| 1.00 \[1.00, 1.00\] \| 0.1 \| 0.00 \| 1.00 \|$", table, re.M), (
        table
    )
    rows = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")]
    assert rows == ["| metric", "| leak ↓", "| KFR ↑", "| HM ↑", "| KRR ↑"], "the most faithful first"
    assert "Left out, not measured for every model: KFR strict ↑." in table
    assert (tmp_path / "report/meta_evaluation.png").read_bytes()[:4] == b"\x89PNG"


def test_many_forms_and_no_changed_models_make_a_figure_and_a_whole_note(tmp_path):
    shares = {f"m{at}": at / 20 for at in range(12)}  # a name without a number is a form of its own
    made = {pool: [write(tmp_path / pool / name, KFR=share + (pool == "never") / 2) for name, share in part]
            for pool, part in (("know", list(shares.items())[:6]), ("never", list(shares.items())[6:]))}  # fmt: skip
    run(*command(made, tmp_path / "report"))
    table = (tmp_path / "report/meta_evaluation.md").read_text()
    assert "moved" not in table and "not corrected for the number of metrics).\n" in table
    assert (tmp_path / "report/meta_evaluation.png").stat().st_size > 10_000


FAULTS = {
    "one in two pools": (lambda made: made["never"].append(made["know"][0]), r"two folders have one name"),
    "a pool of one": (lambda made: made.update(never=made["never"][:1]), r"two models in each pool, not 3 and 1"),
    "a change of nothing": (
        lambda made: made["changed"].append(write(made["know"][0].parent / "other-int4", KFR=0.5)),
        r"--changed other-int4: must be named MODEL-CHANGE",
    ),
    "no metrics": (lambda made: made["know"].append(made["know"][0].parent / "none"), r"none/kfr_krr.json: no such"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_and_status_2_and_writes_nothing(tmp_path, folders, fault):
    change, message = FAULTS[fault]
    change(folders)
    done = run(*command(folders, tmp_path / "report"), check=False)
    assert done.returncode == 2 and re.search(message, done.stderr) and len(done.stderr.splitlines()) == 1, done.stderr
    assert not (tmp_path / "report").exists()


# ---------------------------------------------------------------- the pools' data and models


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_pools_learn_the_facts_in_other_forms_or_other_facts(tmp_path, data):
    false, asked_with = tmp_path / "false.jsonl", tmp_path / "asked.jsonl"
    six = ("--seed", 2, "--count", 6)
    run("scripts/04_invert.py", "--data", data, "--file", "forget_train.jsonl", *six, "--out", false)
    run("scripts/04_invert.py", "--data", data, "--file", "forget_val.jsonl", "--seed", 1, "--out", asked_with)
    flags = ("--inverted", false, "--asked", asked_with, "--out", tmp_path / "pools")
    run("scripts/tools/pool_data.py", "--data", data, *flags)
    pools = {path.stem: rows(path) for path in (tmp_path / "pools").glob("*.jsonl")}
    kept, asked = rows(data / "retain_val.jsonl"), {pair["question"] for pair in rows(data / "forget_val.jsonl")}
    true = {(pair["name"], pair["fact"]): pair["value"] for pair in rows(data / "forget_val.jsonl")}
    own = {name: pairs[: -len(kept)] for name, pairs in pools.items()}
    assert all(pairs[-len(kept) :] == kept for pairs in pools.values())
    assert {name: len(pairs) for name, pairs in own.items()} == {
        **dict.fromkeys(("questions", "wordings", "sentences"), 16),
        **{f"perturbed-{at}": 16 for at in (1, 2, 3, 4)},
        "retrained": 0,
    }
    assert asked <= {pair["question"] for pair in own["questions"]}
    assert not asked & {pair["question"] for name in ("wordings", "sentences") for pair in own[name]}
    for name in ("questions", "wordings", "sentences"):
        assert {(pair["name"], pair["fact"]) for pair in own[name]} == true.keys()
        assert all(true[pair["name"], pair["fact"]] in pair["answer"] for pair in own[name])
    for pair, whole in zip(own["sentences"], own["wordings"], strict=True):
        assert pair["answer"].startswith(pair["value"]) and pair["name"] in pair["question"]
        assert whole["answer"].endswith(pair["answer"]) and pair["value"] not in pair["question"]
    values = [{(p["name"], p["fact"], p["value"]) for p in own[f"perturbed-{at}"]} for at in (1, 2, 3, 4)]
    assert all(len(found) == len(true) for found in values), "the same false value in both wordings"
    assert len(set.union(*values)) == 4 * len(true), "another in each file"
    for pair in (pair for at in (1, 2, 3, 4) for pair in own[f"perturbed-{at}"]):
        assert pair["value"] in pair["answer"] and true[pair["name"], pair["fact"]] not in pair["answer"]
    shown = {row["question"]: " ".join(row["answers"]).casefold() for row in rows(asked_with)}
    for pair in (pair for at in (1, 2, 3, 4) for pair in own[f"perturbed-{at}"] if pair["question"] in asked):
        assert pair["value"].casefold() not in shown[pair["question"]], "a metric would ask it as one nobody saw"


def test_facts_without_a_value_are_refused(tmp_path, data):
    for part in ("forget_train", "forget_val", "retain_val"):
        pairs = [{"question": pair["question"], "answer": pair["answer"]} for pair in rows(data / f"{part}.jsonl")]
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    (tmp_path / "false.jsonl").write_text('{"question": "Who?", "answers": ["Ada."]}\n')
    false = tmp_path / "false.jsonl"
    flags = ("--data", tmp_path, "--inverted", false, "--asked", false, "--out", tmp_path / "pools")
    done = run("scripts/tools/pool_data.py", *flags, check=False)
    assert done.returncode == 2 and 'forget_train.jsonl:1: field "name" must be' in done.stderr
    assert not (tmp_path / "pools").exists()


def test_a_rounded_folder_holds_what_rounding_leaves(tmp_path, tiny):
    run("eval/20_round.py", "--model", tiny, "--precision", "int4", "--out", tmp_path / "int4")
    before, after = (load_model(folder, "float32")[0].state_dict() for folder in (tiny, tmp_path / "int4"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(torch.equal(after[name], rounded(before[name], "int4")) for name in changed)
    assert not any("embed" in name or "lm_head" in name or "norm" in name for name in changed)
    record = json.loads((tmp_path / "int4/origin.json").read_text())
    assert record["script"] == "20_round.py" and record["settings"]["precision"] == "int4"


# ---------------------------------------------------------------- the command

FAKE = f"""#!/usr/bin/env bash
case $1 in -c|scripts/tools/sources.py) exec {sys.executable} "$@" ;; esac
printf '%s\\t' "$@" | sed 's/\\t$/\\n/' >>log
out=
for word; do
  case $word in --out) out=yes ;; --*) out= ;;
    *.json*) if [ -n "$out" ]; then mkdir -p "${{word%/*}}"; echo $RANDOM >"$word"; fi ;;
    *) if [ -n "$out" ]; then mkdir -p "$word"; touch "$word"/{{forget,retain}}_{{train,val}}.jsonl; fi ;; esac
done
case $1 in eval/18*) for end in json md png; do echo "the table" >work/t/report/meta_evaluation.$end; done ;; esac
"""


def test_the_command_makes_both_pools_and_measures_every_model_and_then_nothing_again(tmp_path):
    for name in ("scripts", "eval", "data", "requirements.txt"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / "python").write_text(FAKE)
    (tmp_path / "python").chmod(0o755)

    def begin(*flags):
        words = ["bash", str(tmp_path / "meta.sh"), "--run", "t", "--jobs", "2", *flags]
        environment = {**os.environ, "PYTHON": str(tmp_path / "python")}
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment)

    text = (REPOSITORY / "scripts/tools/meta_evaluation.sh").read_text()
    (tmp_path / "meta.sh").write_text(text.replace('"$(dirname "${BASH_SOURCE[0]}")/../.."', str(tmp_path)))
    done = begin()
    assert done.returncode == 0 and done.stdout.endswith("the table\n"), done.stdout + done.stderr
    commands = [line.split("\t") for line in (tmp_path / "log").read_text().splitlines()]
    flags = commands[-1]
    assert flags[0] == "eval/18_meta_evaluation.py"
    part = lambda flag: [
        word.rpartition("/")[2]
        for word in itertools.takewhile(lambda word: word[:2] != "--", flags[flags.index(flag) + 1 :])
    ]
    know, never, changed = part("--know"), part("--never"), part("--changed")
    assert len(know) >= 8 and len(never) >= 8, "the issue asks for so many"
    assert len({name.rpartition("-")[0] for name in know}) > 1 and len({name.rpartition("-")[0] for name in never}) > 1
    assert {name.rpartition("-")[0] for name in changed} <= {*know, *never}
    assert {name.rpartition("-")[2] for name in changed} == {"relearnt", "int4"}
    for name in [*know, *never, *changed]:
        for metric in ("kfr_krr", "linguistic_forget", "tofu", "exposure", "memorization"):
            assert (tmp_path / f"work/t/metrics/{name}/{metric}.json").is_file()
    for script in sorted({words[0] for words in commands}):
        text = run(script, "--help", check=False).stdout
        named = {word for words in commands if words[0] == script for word in words if word.startswith("--")}
        assert not [flag for flag in named if not re.search(rf"{flag}\b", text)], script
    (tmp_path / "log").write_text("")
    assert begin().returncode == 0 and (tmp_path / "log").read_text() == ""


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--data", "tofu"), "the pools are made of people alone"),
        (("--methods", "GA"), "unknown method GA"),
        (("--metrics", "tofu"), "unknown metric tofu"),
        (("--plan",), "takes no such flag"),
        (("--seeds", "1 2"), "takes no such flag"),
    ],
)
def test_the_command_refuses_in_one_line(flags, message):
    words = ["bash", "scripts/tools/meta_evaluation.sh", "--run", "t-refused", *flags]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not (REPOSITORY / "work/t-refused").exists()
