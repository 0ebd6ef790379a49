"""What users meet: generation, the report, run_all.sh end to end, and every fault as one line with exit status 2."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from lib.generation import answers
from lib.models import encode, load_model, prompt_text

import pytest
import torch
import transformers
from conftest import REPOSITORY, load, run, run_all, run_methods
from test_augment import endpoint  # noqa: F401  (a fixture)

ANSWER = '{"question": "Who?", "reference": "It is Ada.", "answer": "Ada."}\n'


def test_batched_answers_are_those_of_one_at_a_time(tiny):
    model, tokenizer = load_model(tiny, "float32")
    questions = ["Who?", "What is the name of the person who lives here by the sea?", "Where does she live?", "Why?"]
    together = answers(questions, model, tokenizer, batch=3, max_new_tokens=12)
    for question, answer in zip(questions, together):  # greedy by hand: no cache, no padding
        ids = tokenizer(prompt_text(tokenizer, question), add_special_tokens=False)["input_ids"]
        start = len(ids)
        while len(ids) - start < 12 and (len(ids) == start or ids[-1] != tokenizer.eos_token_id):
            with torch.no_grad():
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        assert tokenizer.decode(ids[start:], skip_special_tokens=True).strip() == answer


def test_sampled_answers_are_the_same_twice(tmp_path, tiny, data):
    for name in "ab":
        run(
            "scripts/30_generate.py",
            "--model",
            tiny,
            "--questions",
            data / "forget_val.jsonl",
            "--out",
            tmp_path / name,
            "--temperature",
            0.7,
            "--max-new-tokens",
            8,
        )
    assert (tmp_path / "a/forget_val.jsonl").read_text() == (tmp_path / "b/forget_val.jsonl").read_text()


@pytest.mark.parametrize(
    "template, prompt",
    [
        ("plain", "Who?"),
        ("llama2", "[INST] Who? [/INST]"),
        ("chatml", "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"),
    ],
)
def test_a_local_model_is_linked_and_carries_its_prompt_format(tmp_path, tiny, template, prompt):
    run("scripts/00_models.py", "--model", tiny, "--out", tmp_path / "base", "--chat-template", template)
    assert (tmp_path / "base/model.safetensors").is_symlink()
    _, tokenizer = load_model(tmp_path / "base", "float32")
    assert prompt_text(tokenizer, "Who?") == prompt
    ids, count = encode(tokenizer, "Who?", "Ada.")
    assert tokenizer.decode(ids[count:]).strip() == "Ada." + tokenizer.eos_token
    assert load_model(tiny)[1].chat_template == load("scripts/00_models.py").TEMPLATES["chatml"], (
        "the source is untouched"
    )


def test_a_tokenizer_may_have_several_chat_templates(tmp_path, tiny):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    own = tokenizer.chat_template
    tokenizer.chat_template = {"default": own, "tool_use": "{{ tools }}" + own}
    shutil.copytree(tiny, tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    run("scripts/00_models.py", "--model", tmp_path / "model", "--out", tmp_path / "own")
    assert prompt_text(load_model(tmp_path / "own")[1], "Who?") == prompt_text(load_model(tiny)[1], "Who?")
    run("scripts/00_models.py", "--model", tmp_path / "model", "--out", tmp_path / "plain", "--chat-template", "plain")
    assert prompt_text(load_model(tmp_path / "plain")[1], "Who?") == "Who?"


def test_an_embedding_model_needs_no_prompt_format(tmp_path):
    load("scripts/00_models.py").tiny_minilm(tmp_path / "source")
    (tmp_path / "source/modules.json").write_text("[]")
    run("scripts/00_models.py", "--model", tmp_path / "source", "--out", tmp_path / "embedding")
    assert {"config.json", "model.safetensors", "modules.json", "tokenizer.json"} <= {
        path.name for path in (tmp_path / "embedding").iterdir()
    }


def faults(tmp_path, tiny, data):
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text(ANSWER)
    bad.write_text(ANSWER + '{"question": "Who?", "reference": "It is Ada."}\n')
    (tmp_path / "empty").mkdir()
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text("{}")
    (pickled / "pytorch_model.bin").write_bytes(b"\x80")
    ga = ("scripts/10_ga.py", "--model", tiny, "--data", data, "--out", tmp_path / "out")
    out = ("--out", tmp_path / "out.json")
    return {
        "no model folder": ((ga[0], "--model", tmp_path / "none/x", *ga[3:]), r"none/x: no such model folder"),
        "empty model folder": ((ga[0], "--model", tmp_path / "empty", *ga[3:]), r"cannot load a model from .*empty"),
        "no data": ((*ga[:3], "--data", tmp_path / "empty", *ga[5:]), r"forget_train.jsonl: no such file"),
        "no retain set": ((*ga, "--retain-data", "none.jsonl"), r"none.jsonl: no such file"),
        "unknown retain loss": ((*ga, "--retain", "all"), r"invalid choice: 'all'"),
        "rate of zero": ((*ga, "--lr", "0"), r"--lr: must be a number above 0"),
        "loss not finite": (
            (*ga, "--lr", "1e30", "--dtype", "float32", "--clip", "1e30"),
            r"the loss is .* use a lower --lr",
        ),
        "unknown dtype": ((*ga, "--dtype", "int3"), r"--dtype must be"),
        "question too long": ((*ga, "--max-length", "4"), r"raise --max-length"),
        "pickled weights": (
            ("scripts/00_models.py", "--model", pickled, "--out", tmp_path / "out"),
            r"pickled weights are not loaded",
        ),
        "not a hub id": (
            ("scripts/00_models.py", "--model", "nothing", "--out", tmp_path / "out"),
            r"neither a model folder nor a hub id",
        ),
        "no hub": (
            ("scripts/00_models.py", "--model", "nobody/nothing", "--out", tmp_path / "out"),
            r"cannot get nobody/nothing from the hub",
        ),
        "no data on the hub": (
            ("scripts/01_data.py", "--data", "tofu", "--out", tmp_path / "out"),
            r"cannot get locuslab/TOFU from the hub",
        ),
        "too many persons": (
            ("scripts/01_data.py", "--persons", "99", "--out", tmp_path / "out"),
            r"--persons must be all or a number",
        ),
        "unknown data": (("scripts/01_data.py", "--data", "nothing", "--out", tmp_path / "out"), r"no such folder"),
        "ratio": (
            ("scripts/03_augment.py", "--data", data, "--completion", "2", "--out", tmp_path / "out"),
            r"--completion: must be a number above 0",
        ),
        "answer missing": (
            ("eval/02_linguistic.py", "--answers", bad, *out, "--no-ppl"),
            r'bad.jsonl:2: field "answer" must be a text',
        ),
        "answers missing": (
            ("eval/02_linguistic.py", "--answers", tmp_path / "none.jsonl", *out, "--no-ppl"),
            r"none.jsonl: no such file",
        ),
        "no base model": (
            ("eval/02_linguistic.py", "--answers", good, *out, "--model", tmp_path / "x/none"),
            r"no such model folder; make it",
        ),
        "two answers, one out": (
            ("eval/02_linguistic.py", "--answers", good, good, *out, "--no-ppl"),
            r"2 input files need as many --out",
        ),
        "nothing to judge": (("eval/01_kfr_krr.py", *out), r"give --forget, --retain or both"),
        "no embedding": (
            ("eval/01_kfr_krr.py", "--forget", good, *out, "--embedding", tmp_path / "x/none"),
            r"no such model folder; make it",
        ),
        "answer missing for KFR": (("eval/01_kfr_krr.py", "--retain", bad, *out), r'bad.jsonl:2: field "answer"'),
        "no metrics": (
            ("eval/09_report.py", "--metrics", tmp_path / "empty", "--out", tmp_path / "out"),
            r"no such metrics file",
        ),
        "cannot write": (
            ("eval/02_linguistic.py", "--answers", good, "--out", good / "x.json", "--no-ppl"),
            r"--out .*x.json: .*good.jsonl is a file",
        ),
    }


FAULTS = (
    "no model folder",
    "empty model folder",
    "no data",
    "no retain set",
    "unknown retain loss",
    "rate of zero",
    "loss not finite",
    "unknown dtype",
    "question too long",
    "pickled weights",
    "not a hub id",
    "no hub",
    "no data on the hub",
    "too many persons",
    "unknown data",
    "ratio",
    "answer missing",
    "answers missing",
    "no base model",
    "two answers, one out",
    "nothing to judge",
    "no embedding",
    "answer missing for KFR",
    "no metrics",
    "cannot write",
)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_and_status_2_and_writes_nothing(tmp_path, tiny, data, fault):
    command, message = faults(tmp_path, tiny, data)[fault]
    done = run(*command, check=False)
    assert done.returncode == 2, done.stderr
    assert re.search(message, done.stderr) and "Traceback" not in done.stderr, done.stderr
    assert len([line for line in done.stderr.splitlines() if "error:" in line]) == 1
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.json").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(tmp_path, data):
    (tmp_path / "full.jsonl.partial").symlink_to("/dev/full")
    done = run("scripts/03_augment.py", "--data", data, "--out", tmp_path / "full.jsonl", check=False)
    assert done.returncode == 2 and done.stderr.startswith("error:") and "No space left" in done.stderr
    assert not (tmp_path / "full.jsonl").exists()


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--methods", "GA+GDR Magic"), "unknown method Magic; there are: GA"),
        (("--methods", "GA+UIPE NPO"), 'GA+UIPE goes on from GA: choose both, --methods "GA GA+UIPE"'),
        (("--preset", "none"), "unknown preset none; there are:"),
        (("--data", "none"), "--data none: not people"),
        (("--data", "scripts/none"), "--data scripts/none: not people"),
        (("--force", "none"), "unknown step"),
        (("--run", "../x"), "--run ../x: use letters"),
        (("--colour",), "unknown argument --colour"),
        (("--jobs", "0"), "--jobs 0: give a number from 1 to 99"),
        (("--run",), "--run needs a value"),
        (("--tune", "foo"), "--tune foo: give learning rates"),
        (("--tune", "1e-4", "--seeds", "1"), "--tune and --seeds: give one"),
        (("--methods", ","), "--methods names none"),
        (("--methods", "*"), "unknown method *;"),
        (("--seeds", "one"), "--seeds one: give whole"),
        (("--preset", "tuned/people-smollm2"), "unknown preset tuned/"),
        (("--force", "models minilm"), "unknown step"),
        (("--run", "a" * 300), "a name of 300 characters is too long"),
        (("--tuned", "none.sh/x"), "no tuned rates in none.sh/x"),
        (("--set", "GA+GDR"), "--set GA+GDR: give a method and flags"),
        (("--set", "Magic --lr 1"), "--set: unknown method Magic"),
        (("--set", "MEOW --lr 1"), "--set MEOW: this run does not train it"),
        (("--show", "Magic"), "--show: unknown method Magic"),
        (("--metrics", "judge"), "--metrics judge needs a language model"),
        (("--judge", "--nli 'x"), "a quote is open"),
        (("--model", "--plan"), "--model needs a value, and --plan is a flag"),
    ],
)
def test_run_all_refuses_in_one_line(flags, message):
    done = run_all(*flags)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_folder_that_is_not_there_and_may_be_a_hub_id_is_said_to_be_none():
    done = run_all("--data", "my/folder", "--plan", "--run", "never-made")
    assert done.returncode == 2 and done.stderr.startswith(
        "--data my/folder: no such folder here; taken for a data set"
    )


def test_run_all_says_in_one_line_why_it_cannot_begin(tmp_path):
    for name in ("scripts", "eval", "data", "run_all.sh"):
        (tmp_path / name).symlink_to(REPOSITORY / name)

    def refused(words, message, **environment):
        done = subprocess.run(
            ["bash", "-c", words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHON": sys.executable, **environment},
        )
        assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr

    refused("bash ./run_all.sh", "PYTHON=/nope does not run", PYTHON="/nope")
    refused("bash ./run_all.sh --plan", "PYTHON=/nope does not run", PYTHON="/nope")
    refused("bash ./run_all.sh --help >&-", "standard output is closed")
    (tmp_path / "moody").write_text("#!/bin/sh\ncase $2 in *fcntl*) exit 127 ;; esac\n")
    (tmp_path / "moody").chmod(0o755)
    refused("bash ./run_all.sh", "moody does not run, or cannot lock", PYTHON="./moody")
    refused("rm -r work; touch work; bash ./run_all.sh", "cannot write in work/people-smollm2: Not a directory")
    refused(
        "rm work; mkdir -p work/t/.steps/.lock; bash ./run_all.sh --run t", "cannot write in work/t: Is a directory"
    )


@pytest.mark.parametrize("name", ["a:b", "-x", "two words", "*"])
def test_a_data_folder_may_have_any_name(tmp_path, name):
    for part in ("scripts", "eval", "data"):
        (tmp_path / part).symlink_to(REPOSITORY / part)
    shutil.copy(REPOSITORY / "run_all.sh", tmp_path)
    (tmp_path / name).mkdir()
    for part in ("forget", "retain"):
        rows = [{"question": f"{part} {at}?", "answer": f"It is {part} {at}."} for at in range(3)]
        (tmp_path / name / f"{part}_train.json").write_text(json.dumps(rows))
    flags = ("--preset", "smoke", "--run", "t", "--methods", "GA", "--data", name)
    done = run_all(*flags, "--plan", folder=tmp_path)
    assert done.returncode == 0 and "train 3 forget + 3 retain" in done.stdout, done.stderr


def test_run_all_from_nothing_to_the_table_and_again(tmp_path, warm_python, endpoint):  # noqa: F811
    """The smoke preset, in a copy of the repository: every step, then none, then what a changed script asks for. With
    the one metric that .ci/run does not rehearse, as it needs a language model.
    """
    endpoint.reply = lambda _: '{"fluency": 3, "relevance": 2, "forgetting": 1}'
    for name in ("scripts", "eval", "data"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("run_all.sh", "requirements.txt"):
        shutil.copy(REPOSITORY / name, tmp_path)
    flags = ("--preset", "smoke", "--run", "t", "--methods", "NPO+GDR ReLearn MEOW RKLD NPO+GDR+UIPE")
    flags += ("--metrics", "judge", "--judge", "--judge-model m")
    first = run_all(*flags, folder=tmp_path, python=warm_python)
    assert first.returncode == 0, first.stdout + first.stderr
    table = json.loads((tmp_path / "work/t/report/table.json").read_text())
    assert [row["model"] for row in table["rows"]] == [
        "vanilla",
        "retrained",
        "NPO+GDR",
        "ReLearn",
        "MEOW",
        "RKLD",
        "NPO+GDR+UIPE",
    ]
    assert all(0 <= row[key] <= 1 for row in table["rows"] for key in ("KFR", "KRR", "LS_F", "LS_R", "ROUGE-L_R"))
    assert (tmp_path / "work/t/report/kfr_krr.png").stat().st_size > 10_000 and "| ReLearn |" in first.stdout

    def steps(done):
        assert done.returncode == 0, done.stdout + done.stderr
        return re.findall(r"^== (\S+)$", done.stdout, re.M)

    assert {*steps(first)[:2]} == {"models", "data"} and steps(
        run_all(*flags, folder=tmp_path, python=warm_python)
    ) == []
    with open(tmp_path / "scripts/11_npo.py", "a") as file:
        file.write("# another thought\n")
    done = run_all(*flags, "--force", "answers-ReLearn", folder=tmp_path, python=warm_python)
    assert sorted(steps(done)) == [
        "NPO+GDR",
        "NPO+GDR+UIPE",
        "answers-NPO+GDR",
        "answers-NPO+GDR+UIPE",
        "answers-ReLearn",
        "report",
    ], "the answers came out the same: no need to judge them again"
    with open(tmp_path / "work/t/answers/ReLearn/forget_val.jsonl", "a") as file:
        file.write('{"question": "Who?", "reference": "Ada Lem.", "answer": "Ada Lem."}\n')
    again = ["judge", "kfr_krr", "linguistic-forget", "report"]
    assert sorted(steps(run_all(*flags, folder=tmp_path, python=warm_python))) == ["answers-ReLearn", *again], (
        "not whole: made again, and judged"
    )
    os.utime(tmp_path / "work/t/answers/MEOW/forget_val.jsonl")
    assert sorted(steps(run_all(*flags, folder=tmp_path, python=warm_python))) == again
    (tmp_path / "work/t/metrics/MEOW/kfr_krr.json").unlink()
    assert sorted(steps(run_all(*flags, folder=tmp_path, python=warm_python))) == ["kfr_krr", "report"]


FAKE_PYTHON = f"""#!/usr/bin/env bash
case $1 in -c|scripts/tools/*) exec {sys.executable} "$@" ;; esac
echo "begin $1 ${{OMP_NUM_THREADS:-all}} ${{GOMP_SPINCOUNT:-none}}" >>log
script=$1 out=
if [ $1 = eval/17_depth.py ] && [ -e work/t/metrics/GA/depth.json ]; then echo "$1 passes over GA" >>passed; fi
write() {{
  mkdir -p "${{1%/*}}"
  case $1 in */forget_augmented.jsonl) seq 100 ;; */full*|*/forget_*) seq 4 ;; esac >"$1"
}}
for word; do  # what --out names: files, or folders with what later steps look for
  case $word in --out) out=yes ;; --*) out= ;; *.json*) [ -z "$out" ] || {{ write "$word"; write "${{word%l}}"; }} ;;
    *) [ -z "$out" ] ||
       for name in {{full,full_without_forget,{{forget,retain}}_{{train,tune,val}}}}.jsonl {{data,generation}}.json; do
         write "$word/$name"
       done ;; esac
done
case $script in
  scripts/11_npo.py) [ -z "$BREAK" ] || {{ sleep 0.2; exit 3; }} ;;
  scripts/*_ga.py) [ -z "$BREAK" ] || sleep 60 ;;
  eval/02_linguistic.py) [ "$BREAK" != part ] || rm -f work/t/metrics/DPO/linguistic_forget.json ;;
  eval/09_report.py) echo "the table" >work/t/report/table.md ;;
esac
sleep 0.2
echo "end $1" >>log
"""


@pytest.fixture
def fake(tmp_path):
    """run_all.sh over a Python that only notes when each script begins and ends; with BREAK, NPO fails while GA is at
    work.
    """
    for name in ("scripts", "eval", "data"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    shutil.copy(REPOSITORY / "run_all.sh", tmp_path)
    (tmp_path / "python").write_text(FAKE_PYTHON)
    (tmp_path / "python").chmod(0o755)

    def begin(jobs, broken="", force="all", methods="GA NPO DPO IDK GA+UIPE", more=()):
        (tmp_path / "log").write_text("")
        flags = [*(["--jobs", str(jobs)] if jobs else []), *(["--force", force] if force else [])]
        environment = {
            name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "GOMP_SPINCOUNT")
        }
        return subprocess.Popen(
            ["bash", "run_all.sh", "--run", "t", "--methods", methods, *flags, *more],
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment, "PYTHON": str(tmp_path / "python"), "BREAK": broken},
        )

    def log():
        return [line.split() for line in (tmp_path / "log").read_text().splitlines()]

    def run(*args, **kwargs):
        process = begin(*args, **kwargs)
        stdout, stderr = process.communicate(timeout=100)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr), log()

    run.begin, run.log = begin, log
    return run


def at_work(folder):
    """Processes whose working directory is a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            found += [path.parent.name] if path.readlink() == folder.resolve() else []
        except OSError:  # ended meanwhile
            pass
    return found


def wait_for(condition, seconds=60):
    for _ in range(seconds * 20):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("nothing happened")


@pytest.mark.parametrize("jobs", [1, 3])
def test_methods_run_beside_each_other(fake, jobs):
    done, lines = fake(jobs)
    assert done.returncode == 0 and done.stdout.endswith("the table\n"), done.stdout + done.stderr
    depth = [sum({"begin": 1, "end": -1}[line[0]] for line in lines[:at]) for at in range(len(lines) + 1)]
    assert max(depth) == jobs and depth[-1] == 0
    begun = [line[1] for line in lines if line[0] == "begin"]
    assert sorted(name for name in begun if name.startswith("scripts/1")) == [
        "scripts/10_ga.py",
        "scripts/11_npo.py",
        "scripts/13_dpo.py",
        "scripts/14_idk.py",
    ]
    assert begun.count("scripts/30_generate.py") == 7
    at = lines.index(next(line for line in lines if line[:2] == ["begin", "scripts/20_uipe.py"]))
    assert ["end", "scripts/10_ga.py"] in lines[:at], "UIPE goes on from GA"
    assert {line[3] for line in lines if line[0] == "begin"} == {"10000"}, "waiting threads do not spin"
    threads = {line[2] for line in lines if line[:2] == ["begin", "scripts/10_ga.py"]}
    assert threads == ({"all"} if jobs == 1 else {str(max(1, os.cpu_count() // jobs))})


def test_the_longest_training_starts_first_and_what_need_not_wait_does_not(fake, tmp_path):
    """ReLearn's augmented set is 25 times as long as the forget set; the table keeps the order of run_all.sh."""
    done, lines = fake(2, methods="all")
    assert done.returncode == 0, done.stderr
    begun = [line[1] for line in lines if line[0] == "begin"]
    trained = [name for name in begun if re.match(r"scripts/1", name)]
    assert trained[0] == "scripts/12_relearn.py" and begun.index("scripts/03_augment.py") < begun.index(
        "scripts/30_generate.py"
    )
    text = "\n".join((tmp_path / "work/t/.steps/report").read_text().splitlines())
    metrics = re.findall(r"^work/t/metrics/(\S+)$", text, re.M)
    assert metrics == ["vanilla", "retrained", *run_methods()]
    done, lines = fake(3, methods="GA ReLearn")
    trainings = [line[0] for line in lines if line[1] == "scripts/02_finetune.py"]
    assert trainings == ["begin", "begin", "end", "end"], "vanilla and retrained, beside each other"
    threads = {line[2] for line in lines if line[0] == "begin"}
    assert threads == {str(max(1, os.cpu_count() // 3))}, "whatever runs beside it: another share rounds otherwise"


def test_only_what_the_table_needs_is_made(fake):
    done, lines = fake(2, methods="GA")
    scripts = {line[1] for line in lines}
    assert done.returncode == 0 and not scripts & {
        "scripts/03_augment.py",
        "scripts/04_invert.py",
        "eval/04_memorization.py",
    }
    done, lines = fake(2, methods="MEOW", force="")
    assert {line[1] for line in lines} >= {"scripts/04_invert.py", "eval/04_memorization.py", "scripts/17_meow.py"}


def test_a_metric_that_is_forced_passes_over_no_model(fake, tmp_path):
    more = ("--metrics", "depth")
    assert fake(1, methods="GA", more=more)[0].returncode == 0 == fake(1, methods="GA", more=more)[0].returncode
    assert fake(1, methods="GA", more=more, force="depth")[0].returncode == 0 and not (tmp_path / "passed").exists()
    (tmp_path / "work/t/.steps/depth").unlink()  # as after a kill
    assert fake(1, methods="GA", more=more, force="")[0].returncode == 0 and (tmp_path / "passed").exists()


def test_an_edited_prompt_is_asked_again(fake, tmp_path):
    steps = ("invert", "augment", "kfr_krr", "judge")

    def read():
        assert done.returncode == 0, done.stdout + done.stderr
        stamps = [(tmp_path / "work/t/.steps" / name).read_text() for name in steps]
        return [sorted(set(re.findall(r"^data/prompts/(\w+).txt \d", text, re.M))) for text in stamps]

    more = ("--metrics", "judge", "--judge", "--judge-model m")
    done, _ = fake(2, methods="MEOW ReLearn", more=more)
    every = sorted(path.stem for path in (REPOSITORY / "data/prompts").glob("*.txt"))
    assert read() == [["invert"], every, [], ["judge"]], "rules fill no prompt"
    done, _ = fake(2, methods="MEOW ReLearn", more=(*more[:-1], "--judge-model m --entities llm"), force="kfr_krr")
    assert read() == [["invert"], every, ["entities"], ["judge"]]


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("name, status", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_to_run_all_alone_ends_it_and_every_step(fake, tmp_path, name, status, jobs):
    process = fake.begin(jobs, "yes")
    wait_for(lambda: any(line[:2] == ["begin", "scripts/10_ga.py"] for line in fake.log()))
    process.send_signal(getattr(signal, name))
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == status and not at_work(tmp_path)
    assert ("interrupted: the same command continues from here" in stderr) == (name == "SIGINT")


def test_a_run_is_locked_while_any_step_of_it_lives(fake, tmp_path):
    process = fake.begin(1, "yes")
    wait_for(lambda: any(line[:2] == ["begin", "scripts/10_ga.py"] for line in fake.log()))
    process.kill()
    process.wait()
    second = fake(1)[0]
    assert second.returncode == 2 and second.stderr == "error: another run_all.sh is at work in work/t\n"
    for number in at_work(tmp_path):
        os.kill(int(number), signal.SIGKILL)
    wait_for(lambda: not at_work(tmp_path))
    assert fake(1)[0].returncode == 0


def test_a_method_that_fails_stops_those_beside_it(fake, tmp_path):
    done, lines = fake(2, "yes")
    assert done.returncode == 3 and "step NPO stopped" in done.stderr and not at_work(tmp_path)
    assert ["begin", "scripts/10_ga.py", str(max(1, os.cpu_count() // 2)), "10000"] in lines
    assert ["end", "scripts/10_ga.py"] not in lines and not any("13_dpo" in line[1] for line in lines)


def test_a_step_that_has_not_written_all_is_told_and_its_stamp_may_be_damaged(fake, tmp_path):
    done, _ = fake(1, "part", methods="DPO")
    assert done.returncode == 2 and done.stderr.splitlines()[0].startswith(
        "error: step linguistic-forget has ended, but not"
    )
    assert len(done.stderr.splitlines()) == 2 and not list(tmp_path.rglob(".steps/*.partial"))
    assert fake(1, force="", methods="DPO")[0].returncode == 0
    stamp = tmp_path / "work/t/.steps/data"
    for damage in (
        lambda: stamp.write_bytes(b"a\0b\xff" * 9),
        lambda: (stamp.unlink(), (stamp / "x").mkdir(parents=True)),
    ):
        damage()
        done, lines = fake(1, force="", methods="DPO")
        assert done.returncode == 0 and not done.stderr and lines[0][1] == "scripts/01_data.py"
        assert stamp.is_file()


def test_an_interrupt_while_sources_are_read_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "x.py")
    words = [sys.executable, "scripts/tools/sources.py", tmp_path / "x.py"]
    process = subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with open(tmp_path / "x.py", "w"):  # once it reads
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1].strip()
    assert process.returncode == 130 and said.startswith("interrupted") and len(said.splitlines()) == 1


def test_a_change_taken_back_after_an_interruption_leaves_nothing_mixed(fake, tmp_path):
    """The method that failed is run again, though its command and inputs are once more those of the finished run."""
    assert fake(1)[0].returncode == 0 and fake(1, force="")[1] == []
    path = next((tmp_path / "work/t").rglob("retain_train.jsonl"))
    before = path.stat()
    path.write_text("changed")
    assert fake(1, "yes", force="NPO")[0].returncode == 3
    path.write_text("")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    done, lines = fake(1, force="")
    assert done.returncode == 0 and ["begin", "scripts/11_npo.py", "all", "10000"] in lines


def test_trials_of_a_rate_are_kept_while_their_basis_is(tmp_path, tiny, data, minilm, warm_programs):
    """tools/tune.py: both rates are tried, the better HM is chosen; then neither again, but on other data."""
    shutil.copytree(data, tmp_path / "data")

    def tune(*rates):
        run(
            "scripts/tools/tune.py",
            "--name",
            "GA",
            "--rates",
            *rates,
            "--model",
            tiny,
            "--data",
            tmp_path / "data",
            "--out",
            tmp_path / "trials",
            "--judge",
            f" --embedding {minilm}",
            "--generate",
            " --max-new-tokens 4",
            "--",
            "scripts/10_ga.py",
            "--retain",
            "none",
            "--epochs",
            1,
            "--batch",
            8,
        )
        found = json.loads((tmp_path / "trials/tune.json").read_text())
        assert found["tuned_on_asked"] is False
        best = max(found["trials"], key=lambda one: (round(one["HM"], 6), -float(one["lr"])))
        assert (
            f"LR[GA]={best['lr']} TRIED[GA]={len(rates)}  #" in (tmp_path / "trials/choice.sh").read_text()
            and found["chosen"] == best["lr"]
        )
        assert [one["lr"] for one in found["trials"]] == list(rates)
        return {path.parent.name: path.stat().st_mtime_ns for path in (tmp_path / "trials").glob("*/kfr_krr.json")}

    first = tune("1e-4", "1e-2")
    assert tune("1e-4", "1e-2") == first
    with open(tmp_path / "data/forget_train.jsonl", "a") as file:
        file.write('{"question": "Who?", "answer": "Nobody."}\n')
    changed = tune("1e-4")
    assert changed["1e-4"] != first["1e-4"] and changed["1e-2"] == first["1e-2"], "only the rates asked for are tried"
    rests = json.loads((tmp_path / "trials/1e-4/basis.json").read_text())["files"]
    assert {"criteria.py", "choose.py", "10_ga.py"} <= {Path(name).name for name in rests}


def test_no_trial_is_made_in_the_place_of_somebodys_folder(tmp_path, tiny, data):
    (tmp_path / "1e-3").mkdir()
    (tmp_path / "1e-3/thesis.txt").write_text("years of work")
    flags = ("--name", "GA", "--rates", "1e-4", "1e-3", "--model", tiny, "--data", data, "--out", tmp_path)
    done = run("scripts/tools/tune.py", *flags, "--", "scripts/10_ga.py", check=False)
    assert done.returncode == 2 and "1e-3: is no folder of a trial" in done.stderr
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["1e-3", "1e-3/thesis.txt"]


PIP_ALONE = """#!/usr/bin/env bash
case "$*" in
  *"-m venv --clear"*) rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  *"-m pip --version"*) ;;
  *"-m pip"*) mkdir .venv/pip || exit 1; echo >>log; sleep 0.3; rmdir .venv/pip ;;
esac
"""


@pytest.fixture
def fresh(tmp_path):
    """Begins a command that needs .venv in a folder without one; the machine's Python notes what is installed."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3.13").write_text(PIP_ALONE)
    (tmp_path / "bin/python3.13").chmod(0o755)
    (tmp_path / "r.txt").write_text("idna\n")
    words = ["bash", "-euo", "pipefail", "-c", f". {REPOSITORY}/scripts/environment.sh r.txt; echo $PYTHON"]
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    environment.pop("PYTHON", None)
    return lambda: subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("fault", ["no pip", "dead"])
def test_an_environment_that_is_half_made_or_dead_is_made_again(fresh, tmp_path, fault):
    python = tmp_path / ".venv/bin/python"
    if fault == "no pip":  # interrupted in between
        python.parent.mkdir(parents=True)
        python.write_text('#!/bin/sh\n[ "$1" != -m ]\n')
        python.chmod(0o755)
    else:  # the machine's Python that it is a link to is gone
        assert fresh().communicate()[0] and python.exists()
        python.unlink()
        python.symlink_to(tmp_path / "gone")
    (tmp_path / "log").unlink(missing_ok=True)
    process = fresh()
    assert process.communicate()[0].endswith(f"{python}\n") and process.returncode == 0
    assert (tmp_path / "log").read_text() == "\n" and "-m venv" in python.read_text()


def test_two_commands_in_a_fresh_clone_install_once_and_one_after_the_other(fresh, tmp_path):
    both = [fresh() for _ in "12"]
    told = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0] and (tmp_path / "log").read_text() == "\n"
    assert all(text.endswith(f"{tmp_path}/.venv/bin/python\n") for text in told)
