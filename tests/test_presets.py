"""The papers' tables: what they published, the presets that repeat them, their plan, their rehearsal, and three runs
averaged.
"""

import json
import re
import shutil
import subprocess
import sys

from lib.generation import answers
from lib.models import encode, load_model, prompt_text

import pytest
import torch
from conftest import REPOSITORY, load, run, run_all, run_methods

pytestmark = pytest.mark.xdist_group("presets")
PRESETS = sorted(path.stem for path in (REPOSITORY / "scripts/presets").glob("*.sh"))
PUBLISHED = json.loads((REPOSITORY / "data/published.json").read_text())
METHODS = run_methods()


def commands_of(text):
    """{step: its script and flags} of the lines that tools/plan.py is given."""
    return {name: words for name, *words in (line.split("\t") for line in text.strip().splitlines())}


@pytest.fixture(scope="session")
def echo(tmp_path_factory):
    """A PYTHON that prints the command lines it is to plan: {step: its script and flags}. Of this repository, which no
    test changes, the same flags are asked once.
    """
    path = tmp_path_factory.mktemp("echo") / "python"
    path.write_text('#!/bin/sh\n[ "$1" = -c ] || cat\n')  # run_all.sh asks first whether it runs
    path.chmod(0o755)
    known = {}

    def commands(*flags, folder=REPOSITORY):
        if folder == REPOSITORY and flags in known:
            return known[flags]
        done = run_all(*flags, "--plan", python=path, folder=folder)
        assert done.returncode == 0, done.stderr
        found = commands_of(done.stdout)
        if folder == REPOSITORY:
            known[flags] = found
        return found

    return commands


def flag(words, name):
    """The value that counts: the last."""
    return words[max(at for at, word in enumerate(words) if word == name) + 1]


# ---------------------------------------------------------------- what was published


@pytest.mark.parametrize(
    "preset, row, key, value",
    [
        ("knowundo-llama2", "vanilla", "KFR", 0.02),
        ("knowundo-llama2", "NPO+GDR", "KRR", 0.45),
        ("knowundo-llama2", "ReLearn", "PPL_F", 13.23),
        ("knowundo-llama2", "GA+KLR+SURE", "ROUGE-L_R", 0.0),
        ("knowundo-llama2", "NPO+KLR", "relevance_R", 3.56),
        ("tofu-llama2", "ReLearn", "KFR", 0.81),
        ("tofu-llama2", "ReLearn", "KRR", 0.98),
        ("tofu-llama2", "NPO+GDR", "PPL_F", ">=1e7"),
        ("tofu-llama2", "NPO+KLR", "LS_R", 6e-9),
        ("knowundo-gemma2", "GA+KLR", "LS_F", 0.13),
        ("knowundo-gemma2", "ReLearn", "fluency_F", 4.87),
        ("tofu-forget01", "RKLD", "forget_quality", 0.9659),
        ("tofu-forget01", "IDK", "model_utility", 0.4445),
        ("tofu-forget05", "RKLD+KLR", "model_utility", 0.6118),
        ("tofu-forget05", "FKLD", "forget_quality", 2.96e-5),
        ("tofu-forget10", "NPO+GDR", "forget_quality", 0.3958),
        ("tofu-forget10", "RKLD", "forget_quality", 0.5182),
    ],
)
def test_published_values_by_hand(preset, row, key, value):
    assert PUBLISHED[preset]["rows"][row][key] == value


def test_published_rows_and_columns_are_those_of_a_run(echo):
    for preset, table in PUBLISHED.items():
        assert preset in PRESETS and table["source"] and table["model"] and table["data"]
        ours = {"vanilla", *echo("--preset", preset)}
        for name, row in table["rows"].items():
            assert name in ours, f"{preset} does not run {name}"
            for key, value in row.items():
                assert re.fullmatch(
                    r"(ROUGE-L|PPL|LS|fluency|relevance)_[FR]|KFR|KRR|forget_quality|model_utility|"
                    r"forget_truth_ratio_min",
                    key,
                )
                assert isinstance(value, (int, float)) and value >= 0 or re.fullmatch(r">=?1e\d+", value)


# ---------------------------------------------------------------- the presets

HYPERPARAMETERS = {  # learning rate, epochs, batch, accumulation: read off the papers' tables once more
    "knowundo-llama2": {
        "GA+GDR": "5e-6 10 1 8",
        "GA+GDR+SURE": "5e-6 10 1 8",
        "GA+KLR": "3e-4 10 1 8",
        "GA+KLR+SURE": "1e-5 10 1 8",
        "NPO+GDR": "1e-5 10 1 8",
        "NPO+GDR+SURE": "5e-6 10 1 8",
        "NPO+KLR": "5e-6 10 1 8",
        "NPO+KLR+SURE": "1e-5 10 1 8",
        "ReLearn": "1e-5 3 1 4",
        "vanilla": "3e-4 10 16 4",
    },
    "tofu-llama2": {
        "GA+GDR": "1e-4 5 1 8",
        "GA+KLR": "1e-4 5 1 8",
        "NPO+GDR": "3e-4 5 1 8",
        "NPO+GDR+SURE": "3e-4 5 1 8",
        "NPO+KLR": "1e-4 5 1 8",
        "NPO+KLR+SURE": "1e-4 5 1 8",
        "ReLearn": "1e-5 2 1 4",
    },
    "knowundo-gemma2": {
        "GA+GDR": "1e-5 10 1 8",
        "GA+KLR+SURE": "1e-5 10 1 8",
        "NPO+GDR": "3e-4 10 1 8",
        "NPO+KLR+SURE": "3e-4 10 1 8",
        "ReLearn": "1e-5 4 1 4",
    },
}


@pytest.mark.parametrize("preset", HYPERPARAMETERS)
def test_a_papers_preset_gives_its_hyperparameters(echo, preset):
    commands = echo("--preset", preset)
    for name, values in HYPERPARAMETERS[preset].items():
        assert [float(flag(commands[name], f"--{key}")) for key in ("lr", "epochs", "batch", "accumulation")] == [
            float(v) for v in values.split()
        ], name
        assert [flag(commands[name], f"--lora-{key}") for key in ("r", "alpha", "dropout")] == ["8", "16", "0.1"]
    answers = commands["answers-ReLearn"]
    assert [flag(answers, f"--{key}") for key in ("temperature", "top-p", "top-k", "max-new-tokens", "samples")] == [
        "0.7",
        "0.9",
        "5",
        "128",
        "3",
    ]
    assert flag(commands["models"], "--model") == (
        "google/gemma-2-2b-it" if "gemma" in preset else "meta-llama/Llama-2-7b-chat-hf"
    )
    assert flag(commands["models"], "--chat-template") == ("llama2" if "tofu" in preset else "plain")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_names_known_methods_and_every_step_of_it_is_planned(echo, preset):
    commands = echo("--preset", preset)
    values = subprocess.run(
        ["bash", "-c", f"declare -A SET=() LR=(); . scripts/presets/{preset}.sh; echo $METHODS; echo ${{!SET[@]}}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    methods, settings = METHODS if values[0] == "all" else values[0].split(), values[1].split()
    assert set(methods) <= set(METHODS) and set(settings) <= set(METHODS)
    assert ("augment" in commands) == bool({"ReLearn", "ReLearn-DPO"} & set(methods)), "only what is needed is made"
    assert {
        "models",
        "data",
        "vanilla",
        "retrained",
        *methods,
        *(f"answers-{name}" for name in ("vanilla", "retrained", *methods)),
        "kfr_krr",
        "linguistic-forget",
        "linguistic-retain",
        "report",
    } <= set(commands)
    table = {"knowundo-smollm2": "knowundo-llama2", "letters-smollm2": "none"}.get(preset, preset)  # the paper's data
    assert flag(commands["report"], "--published") == table, "the report itself looks whether there is such a table"


def test_a_published_vanilla_model_goes_with_its_own_base_model(echo):
    commands = lambda *flags: echo("--preset", "tofu-forget01", *flags)["vanilla"]
    retrained = lambda *flags: echo("--preset", "tofu-forget01", *flags)["retrained"]
    assert commands()[0] == "scripts/00_models.py" and flag(commands(), "--model") == "locuslab/tofu_ft_llama2-7b"
    assert flag(commands("--vanilla", "my/model"), "--model") == "my/model"
    assert commands("--vanilla", "none")[0] == commands("--model", "my/base")[0] == "scripts/02_finetune.py"
    assert commands("--model", "my/base", "--vanilla", "my/model")[0] == "scripts/00_models.py"
    assert retrained()[0] == retrained("--retrained", "none")[0] == "scripts/02_finetune.py"
    assert flag(retrained("--retrained", "my/other"), "--model") == "my/other"


def test_rmus_block_is_open_unlearnings_counted_from_one(echo):
    for preset in ("tofu-llama3.2-1b-forget01", "tofu-llama3.2-1b-forget10"):
        assert flag(echo("--preset", preset)["RMU"], "--layer") == "8"


def test_seeds_are_those_beside_0_each_once(echo):
    names = [name for name in echo("--methods", "GA GA+UIPE", "--seeds", "0 2, 1 2") if name.startswith("GA")]
    assert names == ["GA", "GA@1", "GA@2", "GA+UIPE"]


def test_a_plan_knows_that_tofu_brings_its_false_answers(echo):
    commands = echo("--preset", "tofu-forget10", "--run", "never-made")
    assert "tofu" in commands and not {"invert-forget", "invert-retain"} & set(commands)
    assert flag(commands["tofu"], "--world-facts").endswith("world_facts_perturbed.jsonl")


# ---------------------------------------------------------------- which setting wins


@pytest.fixture
def copy(tmp_path):
    """run_all.sh in a folder of its own, with presets that a test may add to."""
    shutil.copytree(REPOSITORY / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("eval", "data"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    shutil.copy(REPOSITORY / "run_all.sh", tmp_path)
    return tmp_path


LEVELS = {  # from the weakest: what a preset or a command adds, and the rate that then counts
    "line": ("", (), None),
    "TRAIN": ('TRAIN+=" --lr 1"', (), "1"),
    "BASELINE": ('BASELINE+=" --lr 2"', (), "2"),
    "tuned": ("LR[NPO+GDR]=3", (), "3"),
    "SET": ('SET[NPO+GDR]="--lr 4"', (), "4"),
    "--tuned": ("", ("--tuned", "mine"), "3"),
    "--set": ("", ("--set", "NPO+GDR --lr 5"), "5"),
    "--set again": ("", ("--set", "NPO+GDR --epochs 9 --lr 6"), "6"),
}


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_of_settings_beats_those_before_it_and_leaves_their_other_flags(copy, echo, level):
    names = [*LEVELS][: [*LEVELS].index(level) + 1]
    presets = copy / "scripts/presets"
    (presets / "mine.sh").write_text(
        '. scripts/presets/people-smollm2.sh\nTRAIN="--lora-r 7"\nBASELINE="--warmup 0.3"\nTUNED=mine\nSET=()\n'
        + "".join(f"{LEVELS[name][0]}\n" for name in names if name != "tuned")
    )
    (presets / "tuned/mine.sh").write_text((LEVELS["tuned"][0] if "tuned" in names else "") + "\n")
    flags = [flag for name in names for flag in LEVELS[name][1]]
    words = echo("--preset", "mine", "--methods", "NPO+GDR", *flags, folder=copy)["NPO+GDR"]
    assert flag(words, "--lora-r") == "7" and flag(words, "--warmup") == "0.3" and flag(words, "--retain") == "gdr"
    rate = LEVELS[level][2]
    assert (flag(words, "--lr") if "--lr" in words else None) == rate
    assert "--epochs" not in words or level == "--set again"
    shown = run_all("--preset", "mine", "--show", "NPO+GDR", *flags, folder=copy).stdout.splitlines()
    origin = {
        "TRAIN": "TRAIN of preset mine",
        "BASELINE": "BASELINE of preset mine",
        "tuned": "scripts/presets/tuned/mine.sh",
        "--tuned": "scripts/presets/tuned/mine.sh",
        "SET": "SET[NPO+GDR] of preset mine",
    }.get(level, "--set")
    assert [line for line in shown if line.startswith("--lr ")] == [
        line for line in shown if re.match(rf"--lr {rate} +{re.escape(origin)}( \(over|$)", line)
    ]
    assert (
        len(shown) == 4 + ("--lr" in words) + ("--epochs" in words) and "python scripts/11_npo.py --help" in shown[-1]
    )


def test_a_check_sees_the_length_that_is_set_for_all():
    code = '. scripts/pipeline.sh "$@"; PYTHON=echo embedding=e planned=; check_data'
    command = ["bash", "-euo", "pipefail", "-c", code, "run_all.sh", "--check", "--set", "all --max-length 1024"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0 and flag(done.stdout.split(), "--max-length") == "1024", done.stderr


def test_the_prompt_format_is_the_presets_unless_given(echo):
    template = lambda *flags: flag(echo(*flags)["models"], "--chat-template")
    assert template("--preset", "knowundo-llama2", "--model", "my/model") == "plain"
    assert template("--preset", "knowundo-llama2", "--model", "my/model", "--template", "own") == "own"


def test_an_empty_value_is_a_word_like_others(copy, echo):
    (copy / "scripts/presets/mine.sh").write_text('. scripts/presets/people-smollm2.sh\nPERSONS=""\n')
    flags = ("--preset", "mine", "--methods", "GA", "--requests", "2", "--judge", "--backend-flags '' --nli data/nli")
    commands = echo(*flags, folder=copy)
    assert flag(commands["data"], "--persons") == "" == flag(commands["kfr_krr"], "--backend-flags")
    assert flag(commands["requests-kfr_krr"], "--backend-flags") == "", "and after each request"
    assert flag(echo(*flags, "--set", "GA --note= --lr 1e-4", folder=copy)["GA@request2"], "--note") == ""


def test_a_flag_and_its_value_may_be_one_word(echo):
    flags = ("--methods", "GA+GDR", "--set", "GA+GDR --lr=5e-5")
    commands = echo(*flags, "--select", "2", "--metrics", "judge", "--judge", "--nli=my/nli --judge-model=M")
    assert flag(commands["GA+GDR"], "--lr") == "5e-5" and flag(commands["select-GA+GDR"], "--rates") == "1"
    assert flag(commands["kfr_krr"], "--nli") == "my/nli" and flag(commands["judge"], "--judge-model") == "M"
    assert re.search(
        r"^--lr 5e-5 +--set \(over .* from scripts/presets/tuned/", run_all(*flags, "--show", "GA+GDR").stdout, re.M
    )


def test_a_copied_preset_keeps_its_tuned_rates_and_an_edited_method_its_edit(copy, echo):
    """README's recipe: copy a preset, edit SET[NPO+GDR]."""
    preset = copy / "scripts/presets/mine.sh"
    preset.write_text((copy / "scripts/presets/people-smollm2.sh").read_text() + 'SET[NPO+GDR]="--lr 1e-4"\n')
    before, after = echo("--preset", "people-smollm2"), echo("--preset", "mine", folder=copy)
    assert flag(after["NPO+GDR"], "--lr") == "1e-4" and flag(after["NPO+GDR"], "--epochs") == "1"
    assert flag(after["GA+GDR"], "--lr") == flag(before["GA+GDR"], "--lr") == "9e-4"
    assert flag(echo("--preset", "mine", "--tuned", "none", folder=copy)["GA+GDR"], "--lr") == "5e-4"


def test_a_new_metric_is_one_file_one_line_and_its_columns(copy, echo):
    """The recipe of scripts/README.md, word for word."""
    recipe = (REPOSITORY / "scripts/README.md").read_text()
    found = re.search(
        r"\*\*A metric\.\*\*.*?`(eval/[^`]+)`.*?```python\n(.*?)```.*?`(metric [^`]+)`.*?columns\.py`: `([^`]+)`",
        recipe,
        re.S,
    )
    script, code, line, columns = found.groups()
    (copy / "eval").unlink()
    shutil.copytree(REPOSITORY / "eval", copy / "eval", ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
    (copy / script).write_text(code)
    for path, before, new in (
        (copy / "run_all.sh", "\nstep report ", f"\n{line}\nstep report "),
        (copy / "eval/report/columns.py", "\n}\nALL = ", f"\n{columns}\n}}\nALL = "),
    ):
        text = path.read_text()
        assert text.count(before) == 1
        path.write_text(text.replace(before, new))
    command = echo("--metrics", line.split()[1], folder=copy)[line.split()[1]]
    assert command[0] == script and flag(command, "--out").startswith("work/people-smollm2/metrics/vanilla/")

    answers = [{"question": "Who?", "reference": "Ada.", "answer": text} for text in ("It was Ada Lem.", "No.")]
    (copy / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    made = f"metrics/GA/{flag(command, '--out').rsplit('/', 1)[1]}"
    (copy / "metrics/GA").mkdir(parents=True)
    (copy / "metrics/GA/kfr_krr.json").write_text('{"summary": {"KFR": 0.5}}')
    for words in ((script, "--answers", "answers.jsonl", "--out", made),
                  ("eval/09_report.py", "--metrics", "metrics/GA", "--out", "report")):  # fmt: skip
        subprocess.run([sys.executable, *words], cwd=copy, check=True, capture_output=True)
    assert json.loads((copy / made).read_text())["summary"] == {"words": 2.5}
    assert re.search(r"\| GA \|.* 2\.5 \|", (copy / "report/report.md").read_text())


def test_no_published_numbers_are_set_beside_those_of_other_pairs(copy, echo):
    published = lambda *flags: flag(echo("--preset", "knowundo-smollm2", *flags, folder=copy)["report"], "--published")
    for name, file in (("own", "forget_train.jsonl"), ("theirs", "unlearn_train.json")):
        (copy / name).mkdir()
        (copy / name / file).write_text("[]")
    assert published() == published("--data", "theirs") == "knowundo-llama2"
    assert published("--data", "knowundo") == "knowundo-llama2" and published("--data", "people") == "none"
    assert published("--data", "own") == published("--data", "invented/pairs") == "none"


def test_a_setting_for_what_is_no_method_is_refused(copy):
    preset = copy / "scripts/presets/mine.sh"
    preset.write_text('. scripts/presets/people-smollm2.sh\nSET[NPO+GRD]="--lr 1e-4"\n')
    done = run_all("--preset", "mine", "--plan", folder=copy)
    assert done.returncode == 2 and "SET of preset mine: unknown method NPO+GRD" in done.stderr
    preset.write_text("MODEL=smollm2\n")
    done = run_all("--preset", "mine", "--plan", folder=copy)
    assert done.returncode == 2 and done.stderr == "error: scripts/presets/mine.sh gives no TEMPLATE\n"


def test_the_judge_of_a_preset_judges_everywhere(copy, echo):
    preset = copy / "scripts/presets/mine.sh"
    preset.write_text(
        ". scripts/presets/people-smollm2.sh\n"
        'JUDGE="--nli my/nli --embedding my/minilm --entities llm --judge-model M '
        "--backend-flags ' --backend local'\"\n"
    )
    everything = ("--metrics", "robustness judge", "--preset", "mine")
    commands = echo(*everything, folder=copy)
    for step in ("kfr_krr", "robustness"):
        assert flag(commands[step], "--nli") == "my/nli" and flag(commands[step], "--embedding") == "my/minilm"
    assert commands["judge"][-7:-3] != [] and flag(commands["judge"], "--judge-model") == "M"
    assert flag(commands["judge"], "--backend-flags") == " --backend local" and "--nli" not in commands["judge"]
    assert "minilm" not in commands, "the default embedding model is not needed"
    assert flag(echo(*everything, "--judge", "--nli other", folder=copy)["kfr_krr"], "--nli") == "other"
    released = echo("--metrics", "robustness", "--judge", "--as-released")
    assert all("--as-released" in released[step] for step in ("kfr_krr", "robustness"))
    assert flag(released["robustness"], "--max-new-tokens") == "64", "as many as the table's answers"
    ours = echo("--metrics", "all")
    assert (
        "judge" not in ours
        and {"ability", "robustness"} <= set(ours)
        and flag(ours["kfr_krr"], "--embedding").endswith("models/minilm")
    )


# ---------------------------------------------------------------- the plan


def planned(*flags, python=sys.executable):
    """The plan's rows, {step: [model and data, updates, tokens, GB, hours]}, and what stands below."""
    done = run_all(*flags, python=python)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    rule = [at for at, line in enumerate(lines) if line.startswith("─")]
    rows = {}
    for line in lines[rule[0] + 1 : rule[1]] + [lines[rule[1] + 1]]:
        step, *_ = line.split("  ")
        at = lines[0].index("model"), lines[0].index("updates"), lines[0].index("tokens") - 2
        text, numbers = line[at[0] : at[1]].strip(), line[at[1] :]
        cells = numbers.split()
        rows[step.strip()] = {
            "text": " ".join(text.split()),
            "updates": int(numbers[:7]) if numbers[:7].strip() else None,
            **dict(zip(("tokens", "memory", "hours"), cells[-3:] if len(cells) >= 3 else ())),
        }
    return rows, "\n".join(lines[rule[1] + 2 :])


def number(text):
    return float(text.rstrip("kMGT")) * {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}.get(text[-1], 1)


def test_a_plan_by_hand(tmp_path):
    """KnowUnDo has 400 + 110 and 441 + 108 pairs, of 51 + 155 characters to forget and 51 + 156 to retain; 4 characters
    a token.
    """
    bare = tmp_path / "python"  # no installed package can be found
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    rows, below = planned("--preset", "knowundo-llama2", "--run", "planned", "--plan", python=bare)
    assert not (REPOSITORY / "work/planned").exists()
    assert rows["models"]["text"] == "Llama-2-7b-chat-hf 6.74G weights, 13.5 GB in bfloat16"
    assert rows["data"]["text"] == "knowundo train 400 forget + 441 retain, ask 110 + 108"
    # 10 epochs of 400 / 8 updates; each of 10 × 400 forget pairs beside one to retain
    assert rows["GA+GDR"] == {
        "text": "vanilla 400 forget + 441 retain",
        "updates": 500,
        "tokens": "413k",
        "memory": rows["GA+GDR"]["memory"],
        "hours": "0.060",
    }  # 2 × 2 passes × 4000 over 13.48e9 bytes at 1e12 a second: 215.6 s; 4 × 6.74e9 × 413e3 FLOPs at 2e14: 56 s
    assert (
        rows["vanilla"]["updates"] == 10 * 17 and rows["vanilla"]["tokens"] == "572k"
    )  # 1059 / 64 → 17; 10 × 1059 × 54 tokens
    assert rows["retrained"]["text"] == "base 549 full_without_forget" and rows["retrained"]["updates"] == 90
    assert rows["ReLearn"]["updates"] == 3 * 6400 // 4  # 4 variants, as many completions, as many generic as both
    assert rows["answers-ReLearn"]["text"].endswith("110 forget_val + 108 retain_val, 3 answers each")
    assert 13.5 < float(rows["NPO+GDR"]["memory"]) < 20 and 27 < float(rows["vanilla"]["memory"]) < 45
    total = rows["total: 30 steps"]
    steps = [row for name, row in rows.items() if not name.startswith("total")]
    assert (
        len(steps) == 30 and total["updates"] == sum(row["updates"] or 0 for row in steps) == 170 + 90 + 8 * 500 + 4800
    )
    assert number(total["tokens"]) == pytest.approx(
        sum(number(row["tokens"]) for row in steps if "tokens" in row), rel=0.01
    )
    assert float(total["hours"]) == pytest.approx(sum(float(row["hours"]) for row in steps if "hours" in row), abs=0.02)
    assert float(total["memory"]) == max(float(row["memory"]) for row in steps if "memory" in row)
    assert (
        "meta-llama/Llama-2-7b-chat-hf, revision f5db02db724555f92da89c216ac04704f23d4590" in below
        and "200 TFLOP/s" in below
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_a_plan(tmp_path, preset):
    noting = tmp_path / "python"  # what it is given, too
    noting.write_text(f'#!/bin/sh\n[ "$1" = -c ] || tee {tmp_path}/given | {sys.executable} "$@"\n')
    noting.chmod(0o755)
    rows, below = planned("--preset", preset, "--plan", "--methods", "all", python=noting)
    commands = commands_of((tmp_path / "given").read_text())
    assert [*rows][:-1] == [*commands] and [*rows][-1] == f"total: {len(commands)} steps"
    trained = [name for name in METHODS if not name.endswith("UIPE")]
    assert all(rows[name]["updates"] >= 1 and number(rows[name]["tokens"]) > 0 for name in trained)
    assert all(
        float(rows[name]["memory"]) >= (0 if preset == "smoke" else 0.3)
        for name in (*METHODS, "linguistic-forget", "memo")
    )


def test_a_plan_of_requests_at_their_best_points_and_of_a_copy_of_tofu(tmp_path):
    rows, _ = planned("--requests", "3", "--select", "2", "--methods", "NPO+GDR", "--plan")
    assert rows["select-NPO+GDR@request2"]["text"] == "2 2 points × 22 forget_tune + 117 retain_tune"
    for name in ("forget10", "retain90", "forget10_perturbed", "retain_perturbed"):
        pairs = [{"question": f"{name} {at}?", "answer": f"{name} {at}."} for at in range(4)]
        wrong = {"perturbed_answer": ["No."], "paraphrased_answer": "Yes."} if "perturbed" in name else {}
        (tmp_path / f"{name}.json").write_text("\n".join(json.dumps({**pair, **wrong}) for pair in pairs))
    rows, _ = planned("--preset", "tofu-forget10", "--data", tmp_path, "--plan")
    assert "tofu" in rows


def test_a_slower_machine_takes_longer_and_a_folder_is_counted(tmp_path):
    (tmp_path / "unlearn_train.json").write_text(
        json.dumps([{"text": "q" * 40, "labels": "a" * 120}, {"text": "p" * 40, "labels": "b" * 120}])
    )
    (tmp_path / "retention_train.json").write_text(
        json.dumps([{"text": "r" * 40, "labels": f"{at}" * 80} for at in range(6)])
    )
    flags = ("--preset", "knowundo-llama2", "--data", tmp_path, "--methods", "GA+GDR")
    rows, _ = planned(*flags, "--plan=--tflops 0.001 --bandwidth 1e9 --params 1e9")
    assert rows["data"]["text"] == f"{tmp_path.name} train 2 forget + 6 retain, ask 2 + 6"
    assert rows["GA+GDR"] | {"memory": 0} == {
        "text": "vanilla 2 forget + 6 retain",
        "updates": 10,
        "tokens": "1.4k",
        "memory": 0,
        "hours": "1.556",
    }  # 20 rows of 40 + 30 tokens; 4 × 1e9 × 1400 FLOPs at 1e9 a second: 5600 s


def test_a_plan_counts_what_a_run_does(tmp_path, tiny, data):
    """The augmented rows, the updates, the model's weights and the adapter's: of real files and a real training."""
    plan, script = load("scripts/tools/plan.py").Plan(None), load("scripts/tools/plan.py")
    steps = {
        "01_data.py": (
            "scripts/01_data.py",
            "--data",
            "people",
            "--persons",
            "3",
            "--forget-persons",
            "1",
            "--out",
            data,
        ),
        "03_augment.py": (
            "scripts/03_augment.py",
            "--data",
            data,
            "--completion-share",
            "0.5",
            "--generic-ratio",
            "0.7",
            "--out",
            tmp_path / "more.jsonl",
        ),
        "10_ga.py": (
            "scripts/10_ga.py",
            "--model",
            tiny,
            "--data",
            data,
            "--out",
            tmp_path / "ga",
            "--epochs",
            "1.4",
            "--batch",
            "2",
            "--accumulation",
            "3",
            "--lora-r",
            "4",
        ),
    }
    takes = {"00_models.py": plan.models({"model": str(tiny), "out": "base"})}
    for name, (path, *words) in steps.items():
        takes[name] = plan.step(name, script.flags(REPOSITORY / path, [str(word) for word in words]))
    for part in ("forget_train", "retain_train", "retain_tune", "full", "full_without_forget"):
        rows = [json.loads(line) for line in (data / f"{part}.jsonl").read_text().splitlines()]
        found = plan.pairs[f"{data}/{part}.jsonl"]
        assert found.count == len(rows) and found.answer == pytest.approx(
            sum(len(row["answer"]) for row in rows) / len(rows)
        )
    run(*steps["03_augment.py"])
    rows = [json.loads(line) for line in (tmp_path / "more.jsonl").read_text().splitlines()]
    assert plan.pairs[str(tmp_path / "more.jsonl")].count == len(rows)
    run(*steps["10_ga.py"])
    updates = json.loads((tmp_path / "ga/training.json").read_text())["updates"]
    assert takes["10_ga.py"]["updates"] == len(updates) > 1
    model, _ = load_model(tmp_path / "ga", "float32")
    lora = sum(parameter.numel() for name, parameter in model.named_parameters() if "lora_" in name)
    norms = sum(parameter.numel() for name, parameter in model.named_parameters() if "norm" in name)
    assert (
        plan.shape.adapter(4) == lora
        and plan.shape.weights == sum(parameter.numel() for parameter in model.parameters()) - lora - norms
    )


@pytest.mark.parametrize(
    "name, weights",
    [
        ("smollm2", 134.515e6),
        ("google/gemma-2-2b-it", 2.614e9),
        ("NousResearch/Llama-2-7b-chat-hf", 6.738e9),
        ("meta-llama/Llama-3.1-8B-Instruct", 8.030e9),
        ("meta-llama/Llama-3.2-1B-Instruct", 1.236e9),
    ],
)
def test_the_sizes_of_known_models(name, weights):
    assert load("scripts/tools/plan.py").Shape(name, None).weights == pytest.approx(weights, rel=1e-3)


def test_rmus_plan_has_the_blocks_that_it_computes_and_its_reference():
    plan, script = load("scripts/tools/plan.py").Plan(None), load("scripts/tools/plan.py")
    plan.models({"model": "meta-llama/Llama-2-7b-chat-hf", "out": "base"})
    plan.pairs |= {f"d/{side}_train.jsonl": script.Pairs(40, 40, 160, 200) for side in ("forget", "retain")}
    words = "--model vanilla --data d --out rmu --epochs 2".split()
    takes = plan.step("27_rmu.py", script.flags(REPOSITORY / "scripts/27_rmu.py", words))
    # 7 of 32 blocks; 2 × 40 rows of 50 tokens on each side, forward and back, and the 40 to retain once more
    assert takes["tokens"] == 8000 and takes["flops"] == pytest.approx(
        7 / 32 * plan.shape.weights * (4 * 8000 + 2 * 2000)
    )
    whole = plan.step("10_ga.py", script.flags(REPOSITORY / "scripts/10_ga.py", [*words, "--retain", "gdr"]))
    assert takes["memory"] < whole["memory"]


def test_a_name_that_holds_a_known_ones_is_not_of_its_size(capsys):
    with pytest.raises(SystemExit):
        load("scripts/tools/plan.py").Shape("HuggingFaceTB/SmolLM2-1.7B-Instruct", None)
    assert "the size of HuggingFaceTB/SmolLM2-1.7B-Instruct is not known here" in capsys.readouterr().err
    plan = load("scripts/tools/plan.py").Plan(None)
    plan.models({"model": "meta-llama/Llama-3.2-1B-Instruct", "out": "base"})
    plan.models({"model": "no/embedder", "out": "work/t/models/minilm"})  # has no part in it
    takes = plan.models({"model": "open-unlearning/tofu_Llama-3.2-1B-Instruct_retain90", "out": "retrained"})
    assert takes["data"].startswith("1.24G weights"), "its base model's"


# ---------------------------------------------------------------- tiny models of real architectures


@pytest.fixture(scope="module")
def tinies(tmp_path_factory):
    """{name: folder} of the tiny models, made in one process; each as its own command is made in the rehearsal."""
    folder, script = tmp_path_factory.mktemp("tinies"), load("scripts/00_models.py")
    for name in script.TINY:
        script.tiny_random(name, folder / name)
    return folder


@pytest.mark.parametrize(
    "name, prompt",
    [
        ("tiny-llama2", "<s>[INST] Who? [/INST]"),
        (
            "tiny-llama3",
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWho?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        ("tiny-gemma2", "<bos><start_of_turn>user\nWho?<end_of_turn>\n<start_of_turn>model\n"),
    ],
)
def test_a_tiny_model_has_its_familys_architecture_and_prompt_format(tinies, name, prompt):
    model, tokenizer = load_model(tinies / name, "float32")
    config = model.config
    assert prompt_text(tokenizer, "Who?") == prompt
    ids, count = encode(tokenizer, "Who?", "Ada.")
    assert (
        ids[0] == tokenizer.bos_token_id
        and ids.count(tokenizer.bos_token_id) == 1
        and ids[-1] == tokenizer.eos_token_id
    )
    assert tokenizer.decode(ids[count:-1]).strip() == "Ada."
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits
    assert logits.shape == (1, len(ids), len(tokenizer)) and logits.isfinite().all()
    assert config.num_hidden_layers == 2 and config.hidden_size == 64
    if name == "tiny-llama2":
        assert (
            config.model_type == "llama"
            and config.num_key_value_heads == config.num_attention_heads
            and tokenizer.pad_token == "</s>"
        )
    elif name == "tiny-llama3":
        assert config.model_type == "llama" and config.num_key_value_heads < config.num_attention_heads
        plain = type(model)(
            type(config)(**{**config.to_dict(), "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}})
        )
        plain.load_state_dict(model.state_dict())
        with torch.no_grad():  # the scaled rotation does something
            assert not torch.allclose(
                plain(input_ids=torch.tensor([ids * 4])).logits,
                model(input_ids=torch.tensor([ids * 4])).logits,
                atol=1e-6,
            )
    else:
        assert config.model_type == "gemma2" and config.layer_types == ["sliding_attention", "full_attention"]
        with torch.no_grad():
            model.model.norm.weight.fill_(1e3)  # Gemma's norm multiplies by 1 + weight
            assert 29 < model(input_ids=torch.tensor([ids])).logits.abs().max() <= 30


# ---------------------------------------------------------------- three runs averaged


def test_samples_are_the_runs_of_the_following_seeds(tmp_path, tiny, data):
    few = tmp_path / "few.jsonl"
    few.write_text("".join((data / "forget_val.jsonl").read_text().splitlines(keepends=True)[:3]))
    flags = (
        "scripts/30_generate.py",
        "--model",
        tiny,
        "--questions",
        few,
        "--temperature",
        1.5,
        "--top-p",
        1,
        "--top-k",
        0,
        "--max-new-tokens",
        6,
    )
    read = lambda name: [json.loads(line) for line in (tmp_path / name / "few.jsonl").read_text().splitlines()]
    run(*flags, "--samples", 2, "--seed", 4, "--out", tmp_path / "both")
    model, tokenizer = load_model(tiny)
    pairs, expected = [json.loads(line) for line in few.read_text().splitlines()], []
    for sample in range(2):
        torch.manual_seed(4 + sample)
        found = answers(
            [pair["question"] for pair in pairs],
            model,
            tokenizer,
            max_new_tokens=6,
            do_sample=True,
            temperature=1.5,
            top_p=1.0,
            top_k=0,
        )
        expected += [
            {"question": pair["question"], "reference": pair["answer"], "answer": answer, "sample": sample}
            for pair, answer in zip(pairs, found, strict=True)
        ]
    fields = ("question", "reference", "answer", "sample")
    assert [{field: row[field] for field in fields} for row in read("both")] == expected and [
        row["answer"] for row in expected[:3]
    ] != [row["answer"] for row in expected[3:]]


# ---------------------------------------------------------------- the rehearsal


def test_the_rehearsal_of_a_preset_from_nothing_to_the_report(tmp_path, warm_python):
    """Table 8's preset in full, in a copy of the repository, without network or package index."""
    for name in ("scripts", "eval", "data"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("run_all.sh", "requirements.txt"):
        shutil.copy(REPOSITORY / name, tmp_path)
    flags = ("--preset", "knowundo-gemma2", "--rehearse")
    done = run_all(*flags, folder=tmp_path, python=warm_python)
    assert done.returncode == 0, done.stdout + done.stderr
    work = tmp_path / "work/knowundo-gemma2-rehearsal"
    methods = [*PUBLISHED["knowundo-gemma2"]["rows"]][1:]
    assert [path.name for path in tmp_path.glob("work/*")] == [work.name]
    rows = json.loads((work / "report/table.json").read_text())["rows"]
    assert {row["model"] for row in rows} == {"vanilla", "retrained", *methods} and all(
        0 <= row["KFR"] <= 1 for row in rows
    )
    assert json.loads((work / "models/base/config.json").read_text())["model_type"] == "gemma2"
    assert [*json.loads((work / "few/unlearn_train.json").read_text())[0]] == ["text", "labels"]
    for name, values in HYPERPARAMETERS["knowundo-gemma2"].items():
        training = json.loads((work / f"methods/{name}/training.json").read_text())
        rate, _, batch, accumulation = map(float, values.split())
        assert [training["settings"][key] for key in ("lr", "batch", "accumulation", "lora_r")] == [
            rate,
            batch,
            accumulation,
            8,
        ]
        assert len(training["updates"]) == 1
    answers = [json.loads(line) for line in (work / "answers/ReLearn/forget_val.jsonl").read_text().splitlines()]
    assert [row["sample"] for row in answers] == [0] * 4 + [1] * 4 + [2] * 4
    again = run_all(*flags, folder=tmp_path, python=warm_python)
    assert again.returncode == 0 and not re.findall(r"^== \S+$", again.stdout, re.M), again.stdout + again.stderr


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--plan", "--rehearse"), "give one of them"),
        (("--plan", "--set", "GA+GDR --bogus 1"), "scripts/10_ga.py: unrecognized arguments: --bogus 1"),
        (("--plan", "--vanilla", "/no/such"), "/no/such: no such model folder"),
        (("--plan", "--tune", "1e-4"), "give one of them"),
        (("--plan", "--model", "nobody/nothing"), "the size of nobody/nothing is not known here"),
        (("--plan=--tflops 0",), "must be a number above 0"),
        (("--plan=--params -1",), "must be a number above 0"),
        (("--plan", "--vanilla"), "--vanilla needs a value"),
        (("--preset", "tofu-llama2", "--plan", "--data", "data"), "holds no forget_train"),
    ],
)
def test_run_all_refuses_in_one_line(flags, message):
    done = run_all(*flags)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_no_rehearsal_without_a_tiny_model(tmp_path):
    for name in ("run_all.sh", "scripts"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    done = run_all("--rehearse", "--model", "nobody/nothing", folder=tmp_path)
    assert done.returncode == 2 and done.stderr == (
        "error: --rehearse: no tiny model has the architecture of nobody/nothing; name one with "
        "--model tiny-llama2, tiny-llama3 or tiny-gemma2\n"
    )


@pytest.mark.parametrize(
    "command, message",
    [
        (
            ("scripts/30_generate.py", "--model", "x/y", "--questions", "q", "--samples", 2),
            "--samples above 1 needs --temperature",
        ),
        (("scripts/00_models.py", "--model", "{tiny}", "--tokenizer", "x/none"), "cannot get x/none from the hub"),
        (("scripts/tools/few_pairs.py", "--data", "none", "--like", "tofu"), "none/forget_train.jsonl: no such file"),
        (("scripts/tools/few_pairs.py", "--data", "none", "--like", "mine"), "invalid choice: 'mine'"),
    ],
)
def test_a_fault_is_one_line_and_status_2_and_writes_nothing(tmp_path, tiny, command, message):
    done = run(*(str(word).format(tiny=tiny) for word in command), "--out", tmp_path / "out", check=False)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert len([line for line in done.stderr.splitlines() if "error:" in line]) == 1 and not (tmp_path / "out").exists()


def test_a_plan_of_nothing_is_one_line():
    done = run("scripts/tools/plan.py", check=False, input="")
    assert done.returncode == 2 and done.stderr.startswith("error: no step on standard input")


def test_a_plan_counts_alternatives_and_refusals_beside_the_retain_set():
    done = run_all("--plan", "--methods", "AltPO+GDR IDK+AP")
    planned = {line.split()[0]: line for line in done.stdout.splitlines() if line.startswith(("AltPO+GDR ", "IDK+AP "))}
    assert re.search(r"512 forget \+ 192 retain +128 ", planned["AltPO+GDR"]), (
        "four alternatives to each of 128 questions"
    )
    assert re.search(r"128 forget \+ 192 retain +32 ", planned["IDK+AP"]), planned
