"""The house itself: what may import what, what an import may change, how programs end, and that all of them start."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from lib import files

import pytest
from conftest import REPOSITORY, run

SCRIPTS = sorted(path for folder in ("scripts", "scripts/tools", "eval") for path in REPOSITORY.glob(f"{folder}/*.py"))
LIB = sorted((REPOSITORY / "scripts/lib").glob("*.py"))
HEAVY = {"torch", "transformers", "peft", "sentence_transformers", "numpy", "rouge_score", "nltk"}


def imports(path, top_level=False):
    """(line, module) of every import in a file, `from lib import losses` as lib.losses; or of those at its top."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)


def lib_modules(path):
    """The modules of lib that a file imports."""
    names = {path.stem for path in LIB}
    found = (module.split(".") for _, module in imports(path) if module.split(".")[0] == "lib")
    return {parts[1] for parts in found if len(parts) > 1 and parts[1] in names}


def test_eval_never_imports_trainer_or_losses_not_even_through_another_module():
    for path in sorted((REPOSITORY / "eval").rglob("*.py")):
        seen, waiting = set(), lib_modules(path)
        while waiting:
            seen |= waiting
            reached = {name for module in waiting for name in lib_modules(REPOSITORY / f"scripts/lib/{module}.py")}
            waiting = reached - seen
        assert not seen & {"trainer", "losses"}, f"{path.relative_to(REPOSITORY)} reaches {sorted(seen)}"
    reached = {module for path in (REPOSITORY / "eval").rglob("*.py") for module in lib_modules(path)}
    assert {"files", "formats", "models", "generation"} <= reached, "the search does find what is imported"


def test_lib_imports_nothing_of_the_scripts_and_scripts_nothing_of_eval():
    for path in LIB:
        assert not {module.split(".")[0] for _, module in imports(path)} & {"report", "robustness", "mechanism"}, path
    for path in REPOSITORY.glob("scripts/**/*.py"):
        assert not {module.split(".")[0] for _, module in imports(path)} & {"report", "robustness", "mechanism"}, path


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_lib_comes_before_torch(path):
    """It sets the environment that torch reads when it is loaded."""
    lines = [(line, module.split(".")[0]) for line, module in imports(path, top_level=True)]
    heavy = [line for line, name in lines if name in HEAVY]
    ours = [line for line, name in lines if name in ("lib", "report", "robustness", "mechanism")]
    assert not heavy or ours and min(ours) < min(heavy)


def test_lib_is_one_package_under_either_folder():
    """eval/lib is a link: a module that were loaded once under each path would have its state twice."""
    places = {}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path and Path(path).resolve().is_relative_to(REPOSITORY / "scripts/lib"):
            assert name == "lib" or name.startswith("lib."), name
            assert places.setdefault(Path(path).resolve(), name) == name
    assert "lib.files" in places.values() and (REPOSITORY / "eval/lib").resolve() == REPOSITORY / "scripts/lib"


SNAPSHOT = """
import builtins, importlib, json, locale, logging, os, pathlib, random, signal, sys, threading, warnings
sys.path.insert(0, sys.argv[1])
import jinja2, matplotlib, nltk, numpy, peft, peft.tuners.lora, rouge_score.rouge_scorer, rouge_score.tokenizers
import safetensors.torch, sentence_transformers, torch, torch.distributed.fsdp, tqdm, transformers
import nltk.stem.snowball, transformers.models.auto.modeling_auto
try:
    import openai
except ImportError:
    pass

def state():
    found = {
        "hooks": [sys.excepthook, sys.displayhook, sys.unraisablehook, threading.excepthook, sys.settrace],
        "environment": dict(os.environ), "folder": os.getcwd(), "path": list(sys.path), "arguments": list(sys.argv),
        "warnings": list(warnings.filters), "showwarning": warnings.showwarning,
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "logging": [logging.root.level, list(logging.root.handlers), logging.getLogger("transformers").level],
        "random": [random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()],
        "torch": [torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(),
                  torch.is_inference_mode_enabled(), torch.distributed.is_initialized()],
        "streams": [sys.stdin, sys.stdout, sys.stderr], "locale": locale.setlocale(locale.LC_ALL),
        "recursion": sys.getrecursionlimit(), "digits": sys.get_int_max_str_digits(),
    }
    for module in (builtins, os, sys, json, torch, torch.nn.functional, peft.tuners.lora.layer, peft.tuners.lora.Linear,
                   torch.nn.Linear, transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase):
        found[f"in {module.__name__}"] = {name: id(value) for name, value in vars(module).items()
                                          if not name.startswith("__") and name not in ("modules", "path", "last_exc")}
    return found

before, changes = state(), []
for path in sorted(pathlib.Path(sys.argv[1], "lib").glob("*.py")):
    name = "lib" if path.stem == "__init__" else f"lib.{path.stem}"
    importlib.import_module(name)
    after = state()
    for key, value in after.items():
        if value != before[key]:
            if isinstance(value, dict):
                value = {name: other for name, other in value.items() if other != before[key].get(name)}
            changes.append([name, key, str(value)[:300]])
    before = after
print(json.dumps(changes))
"""


def test_importing_lib_changes_nothing_but_three_environment_variables():
    environment = {name: value for name, value in os.environ.items() if name not in THREE}
    command = [sys.executable, "-c", SNAPSHOT, str(REPOSITORY / "scripts")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    changes = json.loads(done.stdout)
    assert [change[:2] for change in changes] == [["lib", "environment"]], changes
    assert ast.literal_eval(changes[0][2]) == THREE


THREE = {"GOMP_SPINCOUNT": "10000", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1"}


@pytest.mark.parametrize("name", THREE)
def test_what_the_user_has_set_is_kept(name):
    code = "import os, sys; sys.path.insert(0, 'scripts'); import lib; print({n: os.environ[n] for n in sys.argv[1:]})"
    done = subprocess.run(
        [sys.executable, "-c", code, *THREE], capture_output=True, text=True, cwd=REPOSITORY,
        env={**os.environ, **THREE, name: "7"},
    )  # fmt: skip
    assert ast.literal_eval(done.stdout) == {**THREE, name: "7"}, done.stderr


EACH = """
import os, pathlib, runpy, sys, threading
import matplotlib, nltk, peft, sentence_transformers, torch, transformers  # once, for all
for script in map(pathlib.Path, sys.argv[1:]):
    assert threading.active_count() == 1, "a fork with threads may stand still"
    if not (child := os.fork()):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.path[0], sys.argv = str(script.parent), [str(script), "--help"]
        sys.modules["__main__"].__file__ = str(script)
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as end:
            os._exit(0 if end.code in (0, None) else 1)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(3)  # --help has to end it
    print(script, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_every_script_starts_by_itself_and_has_help():
    """In a process that has only its own folder to import from, as a user's: the tests' has scripts/ and eval/."""
    scripts = [str(path) for path in SCRIPTS if "from lib.flags import" in path.read_text(encoding="utf-8")]
    done = subprocess.run([sys.executable, "-c", EACH, *scripts], capture_output=True, text=True, cwd="/")
    assert len(scripts) > 40 and done.stdout.split() == [word for path in scripts for word in (path, "0")], done.stderr


# ---------------------------------------------------------------- how programs end


def last_line(done):
    return done.stderr.strip().splitlines()[-1]


def test_debug_shows_a_traceback_where_a_user_sees_one_line():
    flags = ("scripts/01_data.py", "--persons", "none", "--out", "/dev/null/x")
    done = run(*flags, check=False, env={**os.environ, "DEBUG": ""})
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: ")
    done = run(*flags, check=False, env={**os.environ, "DEBUG": "1"})
    assert done.returncode == 1 and "Traceback" in done.stderr and last_line(done).startswith("RuntimeError: ")


@pytest.mark.parametrize(
    "error, status, line",
    [
        (ZeroDivisionError("a bug"), 1, "ZeroDivisionError: a bug"),
        (KeyError("a bug"), 1, "KeyError: 'a bug'"),
        (RuntimeError("a bug"), 1, "RuntimeError: a bug"),
        (OSError(28, "No space left on device", "x"), 2, "error: [Errno 28] No space left on device: 'x'"),
        (KeyboardInterrupt(), 130, "interrupted: give the same command again to continue"),
    ],
)
def test_a_bug_shows_its_traceback_and_what_is_none_one_line(tmp_path, monkeypatch, error, status, line):
    def broken(*_):
        raise error

    monkeypatch.setattr(files, "write_jsonl", broken)
    done = run("scripts/01_data.py", "--persons", 2, "--out", tmp_path / "out", check=False)
    assert done.returncode == status and last_line(done) == line
    assert ("Traceback" in done.stderr) == (status == 1)
    monkeypatch.setenv("DEBUG", "1")
    assert "Traceback" in run("scripts/01_data.py", "--persons", 2, "--out", tmp_path / "out", check=False).stderr


def test_every_methods_script_is_in_the_lists_that_are_written_by_hand():
    declared = re.findall(r"^(?:method|each_retain) .*?(\d\d_\w+)\.py", (REPOSITORY / "run_all.sh").read_text(), re.M)
    assert len(set(declared)) >= 20
    places = {
        "tests/test_full.py": declared,
        "tests/test_architectures.py": declared,
        "bench/faults.py": declared,
        "scripts/README.md": declared,
        "tests/test_more_methods.py": [name for name in declared if name > "20"],  # the papers' own: test_methods.py
    }
    for place, names in places.items():
        text = (REPOSITORY / place).read_text()
        assert not [name for name in names if name not in text], place


def test_an_editors_files_are_no_code(tmp_path):
    from lib.sources import direct

    for name in ("__init__.py", "page.py", "page.css", ".page.py.swp", "page.py.orig", "4913"):
        (tmp_path / name).write_text("")
    assert direct(tmp_path / "page.py") == {tmp_path / "page.css"}


def test_a_damaged_embedding_model_is_one_line(tmp_path, capsys):
    from lib.entailment import sentence_model

    module = {"idx": 0, "name": "0", "path": "", "type": "no_such_package.Module"}
    (tmp_path / "modules.json").write_text(json.dumps([module]))
    with pytest.raises(SystemExit) as done:
        sentence_model(tmp_path)
    assert done.value.code == 2 and f"cannot load {tmp_path}" in capsys.readouterr().err
