"""An exported folder answers alike under older transformers, which read other names in its files.

Opt-in, as it needs those versions, two downloads of 50 MB, and a minute:

    for v in 4.45.1 4.57.6; do
        pip install --target work/old/$v transformers==$v "huggingface_hub<1"   # torch is that of the environment
    done
    OLD_TRANSFORMERS=work/old/4.45.1:work/old/4.57.6 python -m pytest tests/test_export_versions.py
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import run

OLD = [folder for folder in os.environ.get("OLD_TRANSFORMERS", "").split(":") if folder]
pytestmark = pytest.mark.skipif(not OLD, reason="OLD_TRANSFORMERS names no folders of older transformers")
LOGITS = """
import json, sys, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
out = {"version": transformers.__version__}
for folder in sys.argv[1:]:
    words, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    turn = [{"role": "user", "content": "Where, after all , does Ada Lem live now? " * 30}]
    prompt = words.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([words(prompt, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        logits = model(ids).logits[0, -1].tolist()
    out[folder] = [prompt, ids.tolist(), words.decode(ids[0]), logits]
print(json.dumps(out))
"""


def logits(folders, path=None):
    env = {**os.environ, "PYTHONPATH": str(Path(path).resolve())} if path else None
    done = subprocess.run([sys.executable, "-c", LOGITS, *map(str, folders)], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def folders(tmp_path_factory, data):
    made, top = [], tmp_path_factory.mktemp("old")
    for name, theta in (("tiny-random", 100000.0), ("tiny-llama2", None), ("tiny-llama3", None), ("tiny-gemma2", None)):
        run("scripts/00_models.py", "--model", name, "--out", top / name)
        config = json.loads((top / name / "config.json").read_text())
        if theta:
            config["rope_parameters"]["rope_theta"] = theta  # SmolLM2's
            (top / name / "config.json").write_text(json.dumps(config))
        flags = ("--forget", data / "forget_train.jsonl", "--check", data / "forget_val.jsonl", "--count", 2)
        run("scripts/50_export.py", "--model", top / name, "--out", top / f"{name}-out", *flags)
        made.append(top / f"{name}-out")
    return made


@pytest.mark.parametrize("path", OLD)
def test_prompts_tokens_and_logits_are_the_same(folders, path):
    ours, theirs = logits(folders), logits(folders, path)
    assert theirs["version"] != ours["version"]
    for folder in map(str, folders):
        assert theirs[folder][:3] == ours[folder][:3], folder
        assert theirs[folder][3] == pytest.approx(ours[folder][3], abs=1e-4), folder
