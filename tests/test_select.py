"""Points of a training and the choice among them: they are the models of those updates, the training does not notice
them, and the best by the criterion becomes the method's model.
"""

import json
import shutil
import types

from lib.criteria import harmonic, strict_hm, tuned_on_asked
from lib.files import read_json
from lib.trainer import Trainer

import pytest
import torch
from conftest import load, run, run_all
from report.figures import point_paths
from report.reading import Reader, command_line, read_paths
from report.table import budget, points_section, short_table, tried
from safetensors.torch import load_file
from test_presets import echo as echo
from test_presets import flag
from test_training import assert_same, interrupted, train_here

choose, tune = load("scripts/tools/choose.py"), load("scripts/tools/tune.py")
FILE = "adapter_model.safetensors"


def test_points_are_the_models_of_their_updates_and_training_does_not_notice(tmp_path, tiny, data, monkeypatch):
    flags = ("10_ga.py", tiny, data)  # dropout on: a draw more would move everything
    train_here(*flags, tmp_path / "plain")
    seen, update = {}, Trainer.update

    def noted(trainer, *args, **kwargs):
        update(trainer, *args, **kwargs)
        names = [name.replace(".default", "") for name, one in trainer.model.named_parameters() if one.requires_grad]
        seen[trainer.done] = {name: one.detach().clone() for name, one in zip(names, trainer.parameters)}

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", noted)
        train_here(*flags, tmp_path / "kept", "--keep", 5)
    updates = len(seen)
    assert updates == 24
    marks = sorted(int(path.name) for path in (tmp_path / "kept/points").iterdir())
    assert marks == [5, 10, 14, 19]
    for mark, folder in (*((mark, tmp_path / f"kept/points/{mark}") for mark in marks), (24, tmp_path / "kept")):
        found = load_file(folder / FILE)
        assert found.keys() == seen[mark].keys() and all(torch.equal(found[name], seen[mark][name]) for name in found)
        assert len(read_json(folder / "training.json")["updates"]) == mark
    assert (tmp_path / "plain" / FILE).read_bytes() == (tmp_path / "kept" / FILE).read_bytes()
    interrupted(*flags, tmp_path / "killed", "--keep", 5)
    assert [path.name for path in (tmp_path / "killed.partial/points").iterdir()] == ["5"]
    train_here(*flags, tmp_path / "killed", "--keep", 5)
    for name in (FILE, *(f"points/{mark}/{FILE}" for mark in marks)):
        assert (tmp_path / "kept" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name

    # unlearned further: a point holds all weights, as the finished folder does
    train_here("11_npo.py", tmp_path / "plain", data, tmp_path / "a", "--epochs", 1)
    train_here("11_npo.py", tmp_path / "plain", data, tmp_path / "b", "--epochs", 1, "--keep", 2)
    assert_same(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b/points/4/model.safetensors").is_file() and not (tmp_path / f"b/points/4/{FILE}").exists()
    with pytest.raises(AssertionError):
        assert_same(tmp_path / "b/points/4", tmp_path / "b")


def summary(strict, krr):
    return {"KFR": strict, "KFR_strict": strict, "leak": 0.0, "KRR": krr}


def test_the_best_point_by_hand():
    assert harmonic(0.5, 1.0) == pytest.approx(2 / 3) and harmonic(0.0, 0.0) == 0.0
    assert strict_hm({"KFR": 1.0, "KFR_strict": 0.25, "KRR": 0.75}) == pytest.approx(0.375)
    path = choose.path_of({6: summary(0.2, 0.9), 12: summary(0.6, 0.6), 24: summary(1.0, 0.1)})
    assert [point["HM_strict"] for point in path] == pytest.approx([0.36 / 1.1, 0.6, 0.2 / 1.1])
    assert choose.best(path)["update"] == 12
    same = choose.path_of({update: summary(0.5, 0.5) for update in (3, 6, 9)})
    assert choose.best(same)["update"] == 3, "of equal ones the earliest"


def test_a_point_is_chosen_and_becomes_the_model(tmp_path, tiny, data, minilm, warm_programs):
    """One program asks and one judges; the choice is checked against the verdicts on disk."""
    train_here("10_ga.py", tiny, data, tmp_path / "trained/GA", "--keep", 2, "--lr", 1e-2)
    judge, generate = f" --embedding {minilm}", " --max-new-tokens 4"
    places = (
        "--points",
        tmp_path / "trained/GA",
        "--out",
        tmp_path / "methods/GA",
        "--answers",
        tmp_path / "select/GA",
    )
    run(
        "scripts/tools/choose.py",
        *places,
        "--data",
        data,
        "--judge",
        judge,
        "--generate",
        generate,
        "--rates",
        3,
        "--points-a-rate",
        2,
    )
    found = read_json(tmp_path / "methods/GA/select.json")
    assert [point["update"] for point in found["points"]] == [12, 24] and found["budget"] == {
        "rates": 3,
        "points_a_rate": 2,
        "points": 2,
    }
    assert found["tuned_on_asked"] is False
    assert command_line(found).startswith("python scripts/tools/choose.py --points "), "as the report shows it"
    for point in found["points"]:
        verdicts = read_json(tmp_path / f"select/GA/{point['update']}/kfr_krr.json")
        assert point["KRR"] == verdicts["summary"]["KRR"] and point["HM_strict"] == strict_hm(verdicts["summary"])
        sides = [item["side"] for item in verdicts["items"]]
        for side in ("forget", "retain"):
            assert sides.count(side) == len((data / f"{side}_tune.jsonl").read_text().splitlines())
    folder = {12: tmp_path / "trained/GA/points/12", 24: tmp_path / "trained/GA"}[found["chosen"]]
    assert (tmp_path / "methods/GA" / FILE).read_bytes() == (folder / FILE).read_bytes()
    best = max(found["points"], key=lambda point: (point["HM_strict"], -point["update"]))
    assert found["chosen"] == best["update"] == len(read_json(tmp_path / "methods/GA/training.json")["updates"])
    assert not (tmp_path / "methods/GA/points").exists()
    done = run("scripts/tools/choose.py", *places[2:], "--points", data, "--data", data, check=False)
    assert done.returncode == 2 and "no training.json" in done.stderr

    paths = read_paths(tmp_path, ["vanilla", "GA"], Reader())
    rows = [{"model": name, "folder": name} for name in ("vanilla", "GA")]
    assert list(paths) == ["GA"] and budget(paths) in short_table(rows, {}, paths)
    (picture,) = point_paths(paths, rows)
    html, markdown = picture.part(files := {})
    assert "points.svg" in files and f">{found['chosen']}<" in html


def test_a_trial_rests_on_the_prompt_format_and_keep_is_seen_however_it_is_written(tmp_path, tiny, data):
    shutil.copytree(tiny, tmp_path / "model")
    args = types.SimpleNamespace(
        model=tmp_path / "model",
        data=data,
        judge="",
        generate="",
        out=tmp_path,
        command=["scripts/10_ga.py", "--keep=2"],
    )
    before = tune.basis(args)
    for name in ("chat_template.jinja", "config.json", "tokenizer.json"):
        path = tmp_path / "model" / name
        path.write_text(path.read_text() + "\n")
        after = tune.basis(args)
        assert before != after, name
        before = after
    path = tune.path_of({6: summary(0.6, 0.6), 12: summary(0.1, 0.1)})
    (tmp_path / "1e-4").mkdir()
    for name, value in (("basis", before), ("trial", {"points": path})):
        (tmp_path / f"1e-4/{name}.json").write_text(json.dumps(value))
    assert tune.trial("1e-4", args, before)["update"] == 6, "the best point, not the last"


@pytest.mark.parametrize("flag_", ["--generate", "--judge"])
def test_an_open_quote_is_one_line_before_anything_slow(tmp_path, tiny, data, flag_):
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained/training.json").write_text('{"updates": [{}]}')
    common = ("--data", data, "--out", tmp_path / "out", flag_, " --nli 'x")
    chosen = ("--points", tmp_path / "trained", "--answers", tmp_path / "a")
    tried_ = ("--name", "GA", "--rates", 1e-4, "--model", tiny)
    for done in (
        run("scripts/tools/choose.py", *chosen, *common, check=False),
        run("scripts/tools/tune.py", *tried_, *common, "--", "scripts/10_ga.py", check=False),
    ):
        assert done.returncode == 2 and done.stderr.splitlines() == [f"error: {flag_}  --nli 'x: a quote is open"]
    assert not (tmp_path / "out").exists() and not (tmp_path / "a").exists()


def test_it_is_said_where_the_questions_to_tune_on_are_those_of_the_table(tmp_path, tiny, data, capsys):
    assert not tuned_on_asked(data) and not tuned_on_asked(data, data / "retain_tune.jsonl")
    pair = {"question": "Who is Ada?", "answer": "A smith."}
    for name, rows in (("forget_train", [pair]), ("retain_train", [{**pair, "question": "Who is Bo?"}])):
        (tmp_path / "own").mkdir(exist_ok=True)
        (tmp_path / f"own/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run("scripts/01_data.py", "--data", tmp_path / "own", "--out", tmp_path / "data")
    capsys.readouterr()
    assert tuned_on_asked(tmp_path / "data") and "no questions to tune on but" in capsys.readouterr().out
    train_here("10_ga.py", tiny, tmp_path / "data", tmp_path / "ga")
    alone = ("--grid", 1, "--bisections", 0)
    run("scripts/20_uipe.py", "--model", tmp_path / "ga", "--data", tmp_path / "data", "--out", tmp_path / "x", *alone)
    assert read_json(tmp_path / "x/uipe.json")["tuned_on_asked"] is True


def test_the_report_says_what_was_chosen_of_how_many(tmp_path):
    made = lambda rates, chosen: {
        "chosen": chosen,
        "budget": {"rates": rates, "points": 2, "points_a_rate": 2 if rates == 3 else 1},
        "points": [{"update": at, **summary(at / 10, 0.5), "HM_strict": 0.1} for at in (4, 8)],
    }
    for name, rates, chosen in (("GA", 3, 4), ("GA@1", 3, 8), ("SURE", 5, 4)):
        (tmp_path / "methods" / name).mkdir(parents=True)
        (tmp_path / "methods" / name / "select.json").write_text(json.dumps(made(rates, chosen)))
    paths = read_paths(tmp_path, ["GA", "GA@1", "SURE", "retrained"], Reader())
    text = "5 rates, tried at the end of their trainings, then 2 points at the best for SURE."
    assert f"Budget: 3 rates × 2 points a method; {text}" in budget(paths)
    assert "HM strict on the questions to tune on (" in budget(paths)
    assert tried(3, 8, 4) == "3 rates, tried at 4 points each, then 8 points at the best"
    paths["SURE"]["tuned_on_asked"] = True
    assert "HM strict on the questions that this table asks, as the data has no others" in budget(paths)
    ((html, markdown),) = points_section(paths)
    rows = [line for line in markdown.splitlines() if "chosen |" in line][1:]
    assert len(rows) == 3 and all(
        f"| {name} | {at} of 8 |" in row for row, (name, at) in zip(rows, (("GA", 4), ("GA@1", 8), ("SURE", 4)))
    )
    (tmp_path / "methods/GA/select.json").write_text(json.dumps({**made(3, 4), "chosen": 5}))
    with pytest.raises(SystemExit):
        read_paths(tmp_path, ["GA"], Reader())


def test_the_steps_of_select(echo):
    plain, found = (echo("--methods", "GA+GDR GA TA GA+UIPE", "--seeds", 1, *flags) for flags in ((), ("--select", 4)))
    assert "--keep" not in plain["GA+GDR"] and not any(name.startswith("select") for name in plain)
    for name in ("GA+GDR", "GA+GDR@1", "TA"):
        out = flag(found[name], "--out")
        assert flag(found[name], "--keep") == "4" and out == f"work/people-smollm2/trained/{name}"
        chosen = found[f"select-{name}"]
        assert flag(chosen, "--points") == out and flag(chosen, "--out") == f"work/people-smollm2/methods/{name}"
        assert flag(chosen, "--rates") == {"GA+GDR": "4", "GA+GDR@1": "4", "TA": "4"}[name]
        assert flag(found[f"answers-{name}"], "--model") == flag(chosen, "--out")
    assert found["GA+UIPE"] == plain["GA+UIPE"] and "select-GA+UIPE" not in found
    other = echo("--methods", "GA", "--select", 2, "--set", "GA --lr 1")
    assert flag(other["select-GA"], "--rates") == "1", "another rate than the tuned one was not chosen among several"
    of_preset = lambda *flags: flag(echo("--preset", "all-methods", "--methods", "GA", *flags)["GA"], "--keep")
    assert of_preset() == "4" and of_preset("--select", 2) == "2", "the preset's SELECT, and what is given over it"


def test_flags_for_all_methods(echo):
    found = echo("--methods", "GA GA+UIPE NPO+GDR", "--set", "all --full --lr 1e-5", "--set", "GA --lr 2e-5")
    assert "--full" in found["GA"] and "--full" in found["NPO+GDR"] and "--full" not in found["GA+UIPE"]
    assert flag(found["GA"], "--lr") == "2e-5" and flag(found["NPO+GDR"], "--lr") == "1e-5"
    assert "--full" not in found["vanilla"]
    for words in (("--select", "0"), ("--select", "x"), ("--select", "1000")):
        done = run_all(*words, "--plan")
        assert done.returncode == 2 and "give a number of points" in done.stderr
