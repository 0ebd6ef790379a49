"""What the three trials of faults share (kills.py, damage.py, odd_inputs.py): a copy of the repository to break, a
small stock of models and data, commands in a session of their own, and what they leave behind.

They kill only processes of sessions that they have started. Steps run on tests/warm.py, which has loaded torch already;
with `cold`, on a Python of their own, as a user's do; with `hollow`, on one that only writes, a little at a time, files
of the names that a step would: what is tried then is run_all.sh alone, in seconds.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY / "scripts"), str(REPOSITORY / "tests")]

import warm  # noqa: E402

KEY = "sk-faults+a/b=c9d8e7f6"  # a key that must show nowhere
MEMORY, FILE = 16 << 30, 1 << 30  # bytes that a step may take, and that a file may have
QUICK = 'EMBEDDING=tiny-minilm TRAIN+=" --checkpoint-every 1"\n'  # the smoke preset offline, with checkpoints
TRAIN = "--epochs 1 --batch 4 --lora-r 2 --probes 1 --dtype float32 --checkpoint-every 1 --out {out}"
METHOD = f"--model s/vanilla --data s/data {TRAIN}"
EACH = {  # script: flags of a small run of it. s/ holds the stock, {out} is what it writes
    "scripts/00_models.py": "--model s/tiny --chat-template llama2 --out {out}",
    "scripts/01_data.py": "--data s/own --out {out}",
    "scripts/02_finetune.py": f"--model s/tiny --data s/data {TRAIN}",
    "scripts/03_augment.py": "--data s/data --out {out}.jsonl",
    "scripts/04_invert.py": "--data s/data --file forget_train.jsonl --out {out}.jsonl",
    "scripts/05_in_out_data.py": "--data s/data --size 2 --out {out}",
    "scripts/10_ga.py": f"{METHOD} --retain gdr",
    "scripts/11_npo.py": f"{METHOD} --retain klr",
    "scripts/12_relearn.py": f"{METHOD} --forget s/few_augmented.jsonl",
    "scripts/13_dpo.py": f"{METHOD} --prefer s/augmented.jsonl --retain gdr",
    "scripts/14_idk.py": f"{METHOD} --retain gdr",
    "scripts/15_sure.py": f"{METHOD} --loss ga --retain gdr",
    "scripts/16_memflex.py": f"{METHOD} --loss ga --retain gdr --magnitude 1e-6",
    "scripts/17_meow.py": f"{METHOD} --forget s/inverted.jsonl --memo s/memo.json",
    "scripts/18_rkld.py": f"{METHOD} --augmented s/known",
    "scripts/19_ta.py": METHOD,
    "scripts/20_uipe.py": "--model s/adapter --data s/data --out {out}",
    "scripts/21_simnpo.py": f"{METHOD} --retain gdr",
    "scripts/22_altpo.py": f"{METHOD} --alternatives s/inverted.jsonl --retain gdr",
    "scripts/23_undial.py": METHOD,
    "scripts/24_wga.py": f"{METHOD} --retain gdr",
    "scripts/25_ceu.py": METHOD,
    "scripts/26_pdu.py": f"{METHOD} --retain gdr",
    "scripts/27_rmu.py": METHOD,
    "scripts/28_me.py": f"{METHOD} --retain gdr",
    "scripts/29_idk_ap.py": METHOD,
    "scripts/31_ihl.py": f"{METHOD} --retain gdr",
    "scripts/30_generate.py": "--model s/adapter --questions s/data/forget_val.jsonl s/data/retain_val.jsonl "
    "--max-new-tokens 4 --out {out}",
    "scripts/40_in_out.py": f"--model s/vanilla --data s/study --max-new-tokens 4 {TRAIN} --every 1",
    "scripts/50_export.py": "--model s/adapter --metrics s/metrics/one --forget s/data/forget_train.jsonl "
    "--check s/data/forget_val.jsonl --count 2 --max-new-tokens 4 --out {out}",
    "scripts/tools/few_pairs.py": "--data s/data --like tofu --out {out}",
    "eval/01_kfr_krr.py": "--forget s/answers/forget_val.jsonl --retain s/answers/retain_val.jsonl --nli s/nli "
    "--embedding s/minilm --out {out}.json",
    "eval/02_linguistic.py": "--answers s/answers/forget_val.jsonl --model s/tiny --out {out}.json",
    "eval/03_tofu.py": "--model s/vanilla --forget s/data/forget_val.jsonl --perturbed s/inverted_val.jsonl "
    "--paraphrased s/data/forget_val.jsonl --max-new-tokens 4 --out {out}.json",
    "eval/04_memorization.py": "--model s/vanilla --pairs s/data/forget_val.jsonl --window 40 --max-new-tokens 4 "
    "--out {out}.json",
    "eval/05_exposure.py": "--forget s/data/forget_val.jsonl --models s/adapter --reference s/vanilla "
    "--fresh s/inverted_val.jsonl --out {out}.json",
    "eval/06_in_out.py": "--id s/curve/curve.json s/exposure.json --ood s/curve/curve.json s/exposure.json --out {out}",
    "eval/07_nli.py": "--pairs s/nli.jsonl --embedding s/minilm --nli s/nli --out {out}.jsonl",
    "eval/08_next_token.py": "--model s/adapter --questions s/data/forget_val.jsonl --out {out}.json",
    "eval/09_report.py": "--metrics s/metrics/one s/metrics/two --out {out}",
    "eval/10_robustness.py": "--models s/adapter --forget s/data/forget_val.jsonl --attacks int8 typos "
    "--relearn 1 --relearn-steps 1 --max-new-tokens 4 --nli s/nli --embedding s/minilm --out {out}",
    "eval/11_mechanism.py": "--models s/vanilla s/adapter --questions s/data/forget_val.jsonl --count 2 --out {out}",
    "eval/12_ability.py": "--models s/adapter --pairs s/general.jsonl --max-new-tokens 4 --out {out}",
    "eval/13_judge.py": "--answers s/answers/forget_val.jsonl --judge-model none --backend-flags "
    '" --retries 0 --timeout 1" --out {out}.json',
    "eval/14_agreement.py": "--judged s/judged.jsonl --nli s/nli --embedding s/minilm --out {out}.json",
}
SMALL = "--epochs 1 --batch 8 --lora-r 2 --probes 1 --dtype float32"
STOCK = rf"""
scripts/00_models.py --model tiny-random --out s/tiny
scripts/00_models.py --model tiny-minilm --out s/minilm
scripts/01_data.py --persons 2 --out s/data
scripts/02_finetune.py --model s/tiny --data s/data --out s/vanilla --lr 1e-3 {SMALL}
scripts/02_finetune.py --model s/vanilla --data s/data --forget forget_train.jsonl --adapter --out s/known {SMALL}
scripts/10_ga.py --model s/vanilla --data s/data --out s/adapter {SMALL}
scripts/03_augment.py --data s/data --out s/augmented.jsonl
scripts/04_invert.py --data s/data --file forget_train.jsonl --out s/inverted.jsonl
scripts/04_invert.py --data s/data --file forget_val.jsonl --seed 1 --out s/inverted_val.jsonl
eval/04_memorization.py --model s/vanilla --pairs s/inverted.jsonl --window 60 --max-new-tokens 4 --el 0 \
  --out s/memo.json
scripts/30_generate.py --model s/adapter --questions s/data/forget_val.jsonl s/data/retain_val.jsonl \
  --max-new-tokens 8 --out s/answers
eval/01_kfr_krr.py --forget s/answers/forget_val.jsonl --retain s/answers/retain_val.jsonl --embedding s/minilm \
  --out s/metrics/one/kfr_krr.json
eval/02_linguistic.py --answers s/answers/forget_val.jsonl s/answers/retain_val.jsonl --model s/tiny \
  --out s/metrics/one/linguistic_forget.json s/metrics/one/linguistic_retain.json
scripts/05_in_out_data.py --data s/data --size 2 --out s/study
scripts/40_in_out.py {EACH["scripts/40_in_out.py"].format(out="s/curve")}
eval/05_exposure.py --forget s/study/forget_id.jsonl --models s/vanilla --reference s/vanilla \
  --fresh s/study/fresh_id.jsonl --out s/exposure.json
"""
REFUSES = ("eval/13_judge.py",)  # no endpoint is there


def words_of(script, out):
    """The command of EACH, as words after the Python."""
    import shlex

    return [script, *shlex.split(EACH[script].format(out=out))]


HOLLOW = """#!{python} -IS
import signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
import hashlib, os, sys, time
words = sys.argv[1:]
if not words[0].endswith(".py") or "/tools/" in words[0] and not words[0].endswith("tune.py"):
    os.execv({python!r}, [{python!r}, *words])
def named(*flags):
    found, inside = [], False
    for word in words:
        inside = inside if not word.startswith("--") else word in flags
        found += [word] * (inside and not word.startswith("--"))
    return found
text = hashlib.sha256(" ".join(words).encode()).hexdigest() + "\\n"
def write(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".partial", "w") as file:
        for _ in range(3):
            file.write(text)
            file.flush()
            time.sleep(0.01)
    os.replace(path + ".partial", path)
time.sleep(0.05)
name = os.path.basename(words[0])[3:-3]
parts = [f"{{side}}_{{part}}.jsonl" for side in ("forget", "retain") for part in ("train", "tune", "val")]
try:
    for out in named("--out"):
        if os.path.splitext(out)[1].startswith(".json"):
            write(out)
        elif name in ("robustness", "ability"):
            for model in named("--models"):
                write(f"{{out}}/{{os.path.basename(model)}}/{{name}}.json")
        else:
            for part in (*parts, "full.jsonl", "full_without_forget.jsonl", "data.json", "table.md", "choice.sh"):
                write(f"{{out}}/{{part}}")
    for out in named("--report"):
        for ending in (".md", ".png"):
            write(f"{{out}}/{{name}}{{ending}}")
    if name == "augment":
        write(os.path.splitext(named("--out")[0])[0] + ".json")
except OSError as error:
    print(f"error: {{error}}", file=sys.stderr)
    sys.exit(2)
"""


class Shop:
    """A copy of the repository in a temporary folder, and Pythons to run it with."""

    def __init__(self, cold=False, hollow=False):
        self.folder, self.servers, self.pythons = Path(tempfile.mkdtemp(prefix="faults-")), [], []
        self.commands = []
        for name in ("scripts", "eval", "data"):
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / name, self.folder / name, symlinks=True, ignore=ignore)
        for name in ("run_all.sh", "requirements.txt"):
            shutil.copy(REPOSITORY / name, self.folder)
        with open(self.folder / "scripts/presets/smoke.sh", "a") as file:
            file.write(QUICK)
        if hollow:
            self.pythons.append(self.folder / "hollow")
            self.pythons[0].write_text(HOLLOW.format(python=sys.executable))
            self.pythons[0].chmod(0o755)
        if cold or hollow:
            self.pythons = self.pythons or [Path(sys.executable)]
            return
        for seed in ("1", "2"):  # by turns: what rests on the order of a set differs
            python, at = self.folder / f"python{seed}", self.folder / f"socket{seed}"
            server = subprocess.Popen(
                [sys.executable, REPOSITORY / "tests/warm.py", at],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
                preexec_fn=limit,
                env=self.environment(PYTHONHASHSEED=seed),
            )
            assert server.stdout.readline() == "ready\n"
            self.servers.append(server)
            warm.client(python, at)
            self.pythons.append(python)

    def python(self):
        self.pythons.append(self.pythons.pop(0))
        return str(self.pythons[-1])

    def environment(self, **more):
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LC_ALL") if name in os.environ}
        return {
            **kept,
            "OMP_NUM_THREADS": "1",
            "GOMP_SPINCOUNT": "10000",
            "HF_HUB_OFFLINE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
            **more,
        }

    def script(self, *words, **more):
        return Command(self, [self.python(), *map(str, words)], **more)

    def run_all(self, *words, **more):
        return Command(self, ["bash", "run_all.sh", *map(str, words)], **{"PYTHON": self.python(), **more})

    def quiet(self):
        """No step is left on a warm server, whose steps end a moment after those who asked for them."""
        return all(members(server.pid) <= {server.pid} for server in self.servers)

    def close(self):
        for command in self.commands:  # one that was under way when the trial was ended
            command.kill()
        for server in self.servers:  # stopped too while it still loads
            server.stdin.close()
            server.kill()
            server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def stock(self):
        """s/: what the commands of EACH read, made by the scripts themselves."""
        rows = lambda *texts: "".join(json.dumps(text) + "\n" for text in texts)
        at = self.folder / "s"
        (at / "own").mkdir(parents=True)
        pairs = [
            {"question": f"Where does Ada {n} live?", "answer": f"Ada {n} lives at {n} Mill Lane."} for n in range(6)
        ]
        (at / "own/forget_train.jsonl").write_text(rows(*pairs[:3]))
        (at / "own/forget_val.json").write_text(json.dumps(pairs[:2]))
        theirs = [{"text": pair["question"], "labels": pair["answer"]} for pair in pairs[3:]]
        (at / "own/retain_train.json").write_text(json.dumps(theirs, indent=1))
        (at / "nli.jsonl").write_text(
            rows(*({"premise": a["answer"], "hypothesis": b["answer"]} for a, b in zip(pairs, pairs[1:])))
        )
        (at / "nli").symlink_to("../data/nli")
        with open(self.folder / "data/general_heldout.jsonl") as file:
            (at / "general.jsonl").write_text("".join(line for _, line in zip(range(4), file)))
        with open(self.folder / "data/judged.jsonl") as file:
            mine = [line for line in file if json.loads(line).get("set", "people") == "people"]
            (at / "judged.jsonl").write_text("".join(mine[:6]))
        for line in STOCK.replace("\\\n", " ").strip().splitlines():
            done = self.script(*line.split()).end()
            assert done.status == 0, f"{line}: {done.err}"
        shutil.copytree(at / "metrics/one", at / "metrics/two")
        lines = (at / "augmented.jsonl").read_text().splitlines(keepends=True)
        (at / "few_augmented.jsonl").write_text("".join(lines[:12]))


def limit():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


# ---------------------------------------------------------------- commands and their processes


def members(session):
    """Numbers of the living processes of a session."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, its = path.read_text().rpartition(")")[2].split()[:4]
            if int(its) == session and state != "Z":
                found.add(int(path.parent.name))
    return found


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return bool(condition())


class Command:
    """A command in a session of its own, its output in files; killed at the end, with all of its session."""

    def __init__(self, shop, words, **more):
        self.shop, self.words, self.began = shop, words, time.time()
        self.out_file, self.err_file = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            words,
            cwd=shop.folder,
            stdin=subprocess.DEVNULL,
            stdout=self.out_file,
            stderr=self.err_file,
            env=shop.environment(**more),
            start_new_session=True,
            preexec_fn=limit,
        )
        self.session, self.timed_out = self.process.pid, False
        shop.commands.append(self)

    def left(self):
        """Living processes of its session, itself among them."""
        return members(self.session)

    def running(self):
        """Is the command itself at work? Its number stays its own: it is not reaped before the end."""
        return self.session in self.left()

    def end(self, seconds=300):
        """Waits for it, at most so long, and reaps it."""
        self.timed_out = not wait_for(lambda: not self.running(), seconds)
        if self.timed_out:
            self.kill()
        self.status = self.process.wait()
        self.shop.commands.remove(self)
        wait_for(self.shop.quiet, 10)
        for name in ("out", "err"):
            file = getattr(self, f"{name}_file")
            file.seek(0)
            setattr(self, name, file.read().decode(errors="replace"))
            file.close()
        return self

    def steps(self):
        """Processes of its session that run a script of ours, beside itself."""
        return [one for one in sorted(self.left()) if python_of(one) and one != self.session]

    def kill(self):
        """Kills all of its session, until nothing of it is left: a step may start another meanwhile."""

        def gone():
            found = self.left()
            for one in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            return not found

        wait_for(gone, 10)

    def send(self, number, target):
        """A signal to the command alone, to its process group, to all of its session, or to one of its steps."""
        with contextlib.suppress(ProcessLookupError, IndexError):
            if target == "alone":
                os.kill(self.session, number)
            elif target == "group":
                os.killpg(self.session, number)
            elif target == "all":
                for one in self.left():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(one, number)
            else:
                os.kill(self.steps()[0], number)


def python_of(process):
    """Does a process run a script of ours?"""
    with contextlib.suppress(OSError):
        return b".py\0" in Path(f"/proc/{process}/cmdline").read_bytes()
    return False


# ---------------------------------------------------------------- what a command leaves


def without_times(value):
    """Without seconds, and without hashes of JSON files, which hold seconds themselves."""
    if isinstance(value, dict):
        timed = lambda name, part: name == "seconds" or (name.endswith(".json") and isinstance(part, str))
        return {name: without_times(part) for name, part in value.items() if not timed(name, part)}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def digest(path):
    """SHA-256 of a file; of a JSON file without the seconds that it took."""
    content = path.read_bytes()
    if path.suffix == ".json":
        with contextlib.suppress(ValueError):
            content = json.dumps(without_times(json.loads(content))).encode()
    return hashlib.sha256(content).hexdigest()


def content(*places):
    """{path: digest} of files and of all files in folders, but a run's stamps, which hold dates, and the report's two
    pages, which show each step's seconds: their numbers are in its table.json and table.md."""
    files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*"))]
    shown = lambda file: ".steps" not in file.parts and file.name not in ("report.md", "report.html")
    return {str(file): digest(file) for file in sorted(files) if file.is_file() and shown(file)}


def scraps(*folders):
    """What an interrupted command may leave, and a finished one must not."""
    names = re.compile(r"(\.partial|\.tmp|\.old|^\.unfinished|^checkpoint\.pt)$")
    return [str(path) for folder in folders for path in folder.rglob("*") if names.search(path.name)]


def differences(one, two):
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))


def unlocked(run):
    """Can another run_all.sh take the run's lock?"""
    path = run / ".steps/.lock"
    if not path.exists():
        return True
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def key_forms():
    import base64
    import urllib.parse

    inside = [base64.b64encode(bytes(at) + KEY.encode()).decode()[4:-4] for at in range(3)]
    return [KEY, urllib.parse.quote(KEY, safe=""), *inside]


def faults_of(done, refused=None, shell=False):
    """What is wrong with how a command ended: a list of texts.

    Args:
        refused: True where it must have been refused (status 2 and one line), None where success will do as well.
    """
    text, wrong = done.out + done.err, []
    errors = [line for line in text.splitlines() if re.match(r"(\[\S+\] )?error: ", line)]
    if done.timed_out:
        return ["no end"]
    if "Traceback (most recent call last)" in text:
        wrong.append("traceback")
    if done.status not in (0, 2):
        wrong.append(f"status {done.status}")
    if done.status and len(errors) != 1:
        wrong.append(f"{len(errors)} error lines")
    if not done.status and refused:
        wrong.append("taken")
    if re.search(r"(run_all|pipeline|environment)\.sh: line \d+:|: command not found|bash: ", text):
        wrong.append("a raw line of the shell")
    if any(form in text for form in key_forms()):
        wrong.append("THE KEY")
    return wrong


# ---------------------------------------------------------------- the trials' own command line


class Tally:
    """Counts, by kind, what was tried and what held; keeps what failed."""

    def __init__(self):
        self.tried, self.held, self.failed = Counter(), Counter(), []

    def add(self, kind, what, wrong, detail=""):
        self.tried[kind] += 1
        self.held[kind] += not wrong
        if wrong:
            self.failed.append((kind, what, wrong, detail))
            print(f"FAILED {kind}: {what}: {'; '.join(wrong)}", flush=True)
            for line in detail.strip().splitlines()[-6:]:
                print(f"    {line[:300]}", flush=True)

    def told(self):
        for kind in self.tried:
            print(f"{kind:28} tried {self.tried[kind]:4}  held {self.held[kind]:4}")
        print(f"{'all':28} tried {sum(self.tried.values()):4}  held {sum(self.held.values()):4}")
        return 1 if self.failed else 0


def flags(doc, counted, **more):
    """--seed, --count, --only and --cold of a trial, and numbers of its own."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seed", type=int, default=0, help="of what is tried (default: 0)")
    made.add_argument("--count", type=int, default=counted, help=f"how many are tried (default: {counted})")
    made.add_argument("--only", default="", metavar="TEXT", help="only those whose name holds this text")
    made.add_argument("--cold", action="store_true", help="each step on a Python of its own: slow, as a user's")
    made.add_argument("--hollow", action="store_true", help="steps only write files of their names: run_all.sh alone")
    for name, (default, text) in more.items():
        made.add_argument(f"--{name}", type=type(default), default=default, help=text)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was mounted and started is put in order
    args = made.parse_args()
    return args, random.Random(args.seed)
