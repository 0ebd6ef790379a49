"""Faults of input are one line and status 2, and lose nothing: outputs, damaged folders, full disks, keys."""

import base64
import contextlib
import json
import os
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
import urllib.parse
from pathlib import Path

import pytest
from conftest import REPOSITORY, run

TRAIN = ("--epochs", 1, "--batch", 8, "--probes", 0, "--dtype", "float32")


def status(script, *flags):
    """Runs a script in this process: its exit status."""
    argv, sys.argv = sys.argv, [script, *map(str, flags)]
    try:
        runpy.run_path(str(REPOSITORY / script), run_name="__main__")
        return 0
    except SystemExit as end:
        return end.code
    finally:
        sys.argv = argv


@pytest.fixture
def refused(capsys):
    """Asserts that a script ends with status 2 and one line, and returns the line."""

    def check(script, *flags):
        capsys.readouterr()
        assert status(script, *flags) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
        assert lines[-1].startswith("error: ") and sum(line.startswith("error: ") for line in lines) == 1, lines
        return lines[-1]

    return check


def content(folder):
    return {str(path): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


PAIR = {"question": "Who is Ada?", "answer": "Ada is a smith."}


@pytest.fixture
def place(tmp_path, tiny, data):
    """A folder with copies of model and data, a user's own folders, and a link."""
    shutil.copytree(tiny, tmp_path / "model")
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/a").write_text("years of work")
    shutil.copytree(tmp_path / "thesis", tmp_path / "new.partial")
    shutil.copytree(tmp_path / "thesis", tmp_path / "other.old")
    write(tmp_path / "thesis2/training.json", {"mine": 1})
    shutil.copytree(tmp_path / "thesis", tmp_path / "thesis3")
    (tmp_path / "thesis3/checkpoint.pt").write_text("of another project's training")
    (tmp_path / "link").symlink_to(tmp_path / "model")
    (tmp_path / "file").write_text("a file")
    return tmp_path


# ---------------------------------------------------------------- nothing lost, nothing overwritten


@pytest.mark.parametrize(
    "out",
    ["thesis", "thesis2", "thesis3", "model", "model/", "model/../model", "link", "data", "new", "other", "file",
     "file/x", "x" * 250],
)  # fmt: skip
def test_a_folder_is_replaced_only_if_it_is_ours_and_no_input(place, refused, monkeypatch, out):
    monkeypatch.chdir(place)
    before = content(place)
    for script, *flags in (
        ("scripts/11_npo.py", "--model", "model", "--data", "data"),
        ("scripts/00_models.py", "--model", "model"),
        ("scripts/50_export.py", "--model", "model", "--forget", "data/forget_train.jsonl"),
        ("scripts/20_uipe.py", "--model", "model", "--data", "data"),
        ("scripts/01_data.py", "--data", "data"),
        ("scripts/05_in_out_data.py", "--data", "data"),
        ("scripts/07_requests.py", "--data", "data", "--requests", "2"),
    ):
        assert "--out" in refused(script, *flags, "--out", out)
    assert content(place) == before


@pytest.mark.parametrize("out", ["", " ", ".", "..", "/", "a/..", "x/../.."])
def test_a_folder_without_a_name_is_refused(place, monkeypatch, out):
    from lib.files import check_files, check_folder

    monkeypatch.chdir(place / "data")
    for check in (
        lambda: check_folder(out, [], "data"),
        lambda: check_files([out], []),
    ):  # not by scripts: too dangerous
        with pytest.raises(SystemExit):
            check()


def test_an_adapters_base_is_an_input_too(place, refused):
    (place / "adapter").mkdir()
    (place / "adapter/adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(place / "model"), "peft_type": "LORA"})
    )
    before = content(place)
    for out in ("model", ".", "adapter"):
        refused("scripts/10_ga.py", "--model", place / "adapter", "--data", place / "data", "--out", place / out)
    assert content(place) == before


def test_our_own_and_empty_folders_are_replaced(place, capsys):
    (place / "empty").mkdir()
    for out in ("empty", "empty", "never"):
        assert status("scripts/00_models.py", "--model", place / "model", "--out", place / out) == 0
        assert (place / out / "origin.json").is_file() and not list(place.glob(f"{out}.*"))
        assert not list((place / out).glob(".*")), "the mark is gone"
    out = place / "people"
    assert status("scripts/01_data.py", "--persons", 2, "--out", out) == 0
    (out / "data.json").rename(out / ".unfinished")  # as a kill before the record leaves it
    assert status("scripts/01_data.py", "--persons", 2, "--out", out) == 0


def test_no_file_that_is_read_is_written(place, refused):
    data, answers = place / "data", place / "answers.jsonl"
    write(answers, {**PAIR, "reference": "Ada is a smith."})
    write(place / "a/forget_val.json", PAIR), write(place / "b/forget_val.jsonl", PAIR)
    before = content(place)
    model = ("--model", place / "model")
    for script, *flags in (
        ("scripts/30_generate.py", *model, "--questions", data / "forget_val.jsonl", "--out", data),
        ("scripts/30_generate.py", *model, "--questions", place / "a/forget_val.json", place / "b/forget_val.jsonl",
         "--out", place / "c"),
        ("scripts/03_augment.py", "--data", data, "--out", data / "forget_train.jsonl"),
        ("scripts/03_augment.py", "--data", data, "--out", data / "retain_val.jsonl"),
        ("scripts/03_augment.py", "--data", data, "--out", place / "one.json"),
        ("scripts/04_invert.py", "--data", data, "--out", data / "data.json"),
        ("scripts/04_invert.py", "--data", data, "--out", place / "thesis"),
        ("eval/01_kfr_krr.py", "--forget", answers, "--out", answers),
        ("eval/02_linguistic.py", "--answers", answers, "--no-ppl", "--out", answers),
        ("eval/02_linguistic.py", "--answers", answers, answers, "--no-ppl", "--out", place / "x", f"{place}/./x"),
        ("eval/02_linguistic.py", "--answers", answers, "--no-ppl", "--out", ""),
        ("eval/04_memorization.py", *model, "--pairs", answers, "--out", answers),
        ("eval/05_exposure.py", "--forget", answers, "--models", place / "model", "--fresh", answers, "--out", answers),
        ("eval/07_nli.py", "--pairs", answers, "--out", answers),
        ("eval/08_next_token.py", *model, "--questions", answers, "--out", place / "file/x.json"),
        ("eval/13_judge.py", "--answers", answers, "--judge-model", "x", "--out", answers),
    ):  # fmt: skip
        assert any(text in refused(script, *flags) for text in ("--out", "Is a directory")), script
    assert content(place) == before


def test_both_json_and_jsonl_of_one_part_are_refused(place, refused):
    shutil.copy(place / "data/forget_train.jsonl", place / "data/forget_train.json")
    assert "forget_train.json" in refused("scripts/01_data.py", "--data", place / "data", "--out", place / "out")


@pytest.mark.parametrize(
    "change", [str.upper, lambda text: text.rstrip("."), lambda text: unicodedata.normalize("NFD", text)]
)
def test_a_pair_in_both_sets_is_found_however_it_is_written(tmp_path, refused, change):
    pair = {"question": "Où est né José Café?", "answer": "À Orléans."}
    write(tmp_path / "own/forget_train.jsonl", pair)
    write(tmp_path / "own/retain_train.jsonl", PAIR, {name: change(text) for name, text in pair.items()})
    assert "to be forgotten" in refused("scripts/01_data.py", "--data", tmp_path / "own", "--out", tmp_path / "out")


@pytest.mark.parametrize(
    "field, value", [("value", 3200), ("value", ["a"]), ("fact", ["a"]), ("person", {}), ("name", 1)]
)
def test_fields_of_a_wrong_type_are_refused_where_they_are_read(tmp_path, refused, field, value):
    write(tmp_path / "own/forget_train.jsonl", PAIR, {**PAIR, field: value})
    write(tmp_path / "own/retain_train.jsonl", {**PAIR, "answer": "No."})
    line = refused("scripts/01_data.py", "--data", tmp_path / "own", "--out", tmp_path / "out")
    assert "forget_train.jsonl:2" in line and field in line


def test_byte_order_marks_are_read_over(tmp_path):
    from lib.formats import read_answers, read_pairs

    path = tmp_path / "x.jsonl"
    path.write_text("\ufeff" + json.dumps({**PAIR, "reference": "r"}) + "\n", encoding="utf-8")
    assert read_answers(path)[0]["reference"] == "r" and read_pairs(path)


# ---------------------------------------------------------------- damaged and odd model folders


def damaged(model, name, text):
    target = model / name
    target.unlink(missing_ok=True)
    target.write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    "name, text",
    [
        ("config.json", "[]"), ("config.json", "{"), ("config.json", '{"model_type": "llama", "hidden_size": "x"}'),
        ("config.json", "[" * 5000), ("config.json", '{"model_type": ' + "1" * 10000 + "}"),
        ("tokenizer_config.json", "[1]"),
        ("tokenizer_config.json", '"\\ud800"'), ("generation_config.json", "3"), ("tokenizer.json", "[]"),
        ("tokenizer.json", "{}"), ("model.safetensors", b"rubbish"), ("model.safetensors", b""),
        ("chat_template.jinja", "{% for %}"), ("chat_template.jinja", "{{ nothing.at.all }}"),
        ("chat_template.jinja", "hello"),
        ("chat_template.jinja", "{{ raise_exception('no') }}"), ("chat_template.jinja", "{{ strftime_now(x) }}"),
    ],
)  # fmt: skip
def test_a_damaged_model_folder_is_one_line(place, capsys, name, text):
    from lib.models import read_model

    damaged(place / "model", name, text)
    with pytest.raises(SystemExit) as end:
        read_model(str(place / "model"))
    assert end.value.code == 2 and str(place / "model") in capsys.readouterr().err or "strftime" in text


def test_a_vocabulary_beyond_the_embedding_is_told_at_the_start(place, capsys):
    from lib.models import read_model

    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(place / "model")
    words.add_special_tokens({"pad_token": "[PAD]"})
    words.save_pretrained(place / "model")
    with pytest.raises(SystemExit):
        read_model(str(place / "model"))
    assert "[PAD]" in capsys.readouterr().err
    words.add_special_tokens({"pad_token": "<|endoftext|>"})
    words.eos_token = None
    words.save_pretrained(place / "model")
    with pytest.raises(SystemExit):
        read_model(str(place / "model"))


def test_a_path_that_leads_nowhere_is_not_asked_of_the_hub(place, refused, monkeypatch):
    monkeypatch.chdir(place)
    from lib.hub import is_id as is_hub_id

    assert is_hub_id("owner/name") and not is_hub_id("data/name") and not is_hub_id("/tmp/x") and not is_hub_id("a/b/c")
    assert "no such model folder" in refused(
        "scripts/30_generate.py", "--model", "data/none", "--questions", "data/forget_val.jsonl", "--out", "o"
    )
    refused("scripts/00_models.py", "--model", "data/none", "--out", "o")


def test_templates_that_ask_for_the_date_get_one_and_the_same(place):
    from lib.models import fixed_date, prompt_text, read_model

    template = (
        "{%- if strftime_now is defined %}{%- set d = strftime_now('%d %b %Y') %}"
        "{%- else %}{%- set d = 'x' %}{%- endif %}"
        "{{ d }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    )
    damaged(place / "model", "chat_template.jinja", template)
    assert "strftime_now(" not in fixed_date(template) and fixed_date(None) is None
    _, words = read_model(str(place / "model"))
    assert prompt_text(words, "Q") == "26 Jul 2024Q"
    assert status("scripts/00_models.py", "--model", place / "model", "--out", place / "made") == 0
    assert "strftime_now(" not in (place / "made/chat_template.jinja").read_text()
    assert json.loads((place / "made/origin.json").read_text())["template_date"] == "2024-07-26"


# ---------------------------------------------------------------- training


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny, data):
    out = tmp_path_factory.mktemp("trained") / "ga"
    assert status("scripts/10_ga.py", "--model", tiny, "--data", data, "--out", out, *TRAIN) == 0
    return out


def test_an_adapter_is_found_from_anywhere_and_its_base_by_its_record(trained, tiny, data, monkeypatch, tmp_path):
    from lib.files import base_model

    from peft import AutoPeftModelForCausalLM

    monkeypatch.chdir(tmp_path)
    config = json.loads((trained / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny) and config["target_modules"] == sorted(
        config["target_modules"]
    )
    AutoPeftModelForCausalLM.from_pretrained(trained)
    assert "base_model_name_or_path" in json.loads((trained / "training.json").read_text())["base"]
    shutil.copytree(trained, tmp_path / "moved")
    config["base_model_name_or_path"] = "/gone/base"
    (tmp_path / "moved/adapter_config.json").write_text(json.dumps(config))
    assert base_model(tmp_path / "moved") == str(tiny)
    (tmp_path / "moved/training.json").unlink()
    assert base_model(tmp_path / "moved") == "/gone/base"


@pytest.mark.parametrize(
    "name, text",
    [("adapter_model.safetensors", b"rubbish"), ("adapter_config.json", b"[]"), ("adapter_config.json", b"{}")],
)
def test_a_damaged_adapter_is_one_line(trained, tmp_path, capsys, name, text):
    from lib.models import read_model

    shutil.copytree(trained, tmp_path / "adapter")
    (tmp_path / "adapter" / name).write_bytes(text)
    with pytest.raises(SystemExit):
        read_model(str(tmp_path / "adapter"))
    assert str(tmp_path / "adapter") in capsys.readouterr().err


def test_answers_that_are_cut_are_counted_before_and_recorded(tiny, data, tmp_path, capsys):
    flags = ("--model", tiny, "--data", data, *TRAIN)
    assert status("scripts/10_ga.py", *flags, "--out", tmp_path / "a", "--max-length", 80) == 0
    said = capsys.readouterr().err
    cut = json.loads((tmp_path / "a/training.json").read_text())["cut"]
    (name, lost), *_ = cut.items()
    assert name.endswith("forget_train.jsonl") and 0 < lost["answers"] <= lost["of"] == 16
    assert (
        f"{lost['answers']} of 16 answers are cut" in said
        and f"--max-length {lost['max_length']} would hold all" in said
    )
    longest = max(lost["max_length"] for lost in cut.values())
    assert status("scripts/10_ga.py", *flags, "--out", tmp_path / "a", "--max-length", longest) == 0
    assert json.loads((tmp_path / "a/training.json").read_text())["cut"] == {}


@pytest.mark.parametrize("state", ["{}", "rubbish", "part", "list"])
def test_a_damaged_checkpoint_is_one_line(tiny, data, tmp_path, refused, state):
    from lib.files import begin_folder

    import torch

    partial, flags = tmp_path / "out.partial", ("--model", tiny, "--data", data, "--out", tmp_path / "out", *TRAIN)
    begin_folder(partial)
    torch.save(
        {"settings": "other", "part": {}}.get(state) or ({} if state == "{}" else [1]), partial / "checkpoint.pt"
    )
    if state == "rubbish":
        (partial / "checkpoint.pt").write_bytes(b"rubbish")
    if state == "part":  # the very settings, and nothing else
        trainer = __import__("lib.trainer", fromlist=["Trainer"]).Trainer
        seen, real = {}, trainer._resume
        trainer._resume = lambda self: seen.update(settings=self.settings) or real(self)
        try:
            refused("scripts/10_ga.py", *flags)
            torch.save(seen, partial / "checkpoint.pt")
        finally:
            trainer._resume = real
    assert "checkpoint.pt: cannot be read" in refused("scripts/10_ga.py", *flags)


@contextlib.contextmanager
def full_disk(size):
    """No file can grow beyond `size` bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_names_the_file_and_costs_only_the_updates_since_the_last_checkpoint(tiny, data, tmp_path, refused):
    out, flags = (
        tmp_path / "out",
        ("--model", tiny, "--data", data, "--accumulation", 1, *TRAIN, "--checkpoint-every", 1),
    )
    with full_disk(200_000):
        assert "checkpoint.pt" in refused("scripts/10_ga.py", *flags, "--out", out)
    assert not list(tmp_path.rglob("checkpoint.tmp"))
    assert status("scripts/10_ga.py", *flags, "--out", out) == 0
    for script, *more in (
        ("scripts/20_uipe.py", "--alpha", 1, "--data", data),
        ("scripts/50_export.py", "--forget", data / "forget_train.jsonl"),
        ("scripts/00_models.py", "--model", "tiny-random"),
    ):
        with full_disk(20_000):
            assert "new.partial" in refused(script, "--model", out, *more, "--out", tmp_path / "new")  # the last counts
        assert not list(tmp_path.glob("new*"))


@pytest.mark.parametrize("field, value", [("use_dora", True), ("modules_to_save", ["lm_head"]), ("bias", "all")])
def test_an_adapter_that_is_more_than_a_product_is_not_extrapolated(trained, tmp_path, refused, field, value):
    shutil.copytree(trained, tmp_path / "more")
    config = json.loads((trained / "adapter_config.json").read_text())
    (tmp_path / "more/adapter_config.json").write_text(json.dumps({**config, field: value}))
    fault = refused("scripts/20_uipe.py", "--model", tmp_path / "more", "--alpha", 1, "--out", tmp_path / "out")
    assert f"an adapter with {field} is more than B·A" in fault and not (tmp_path / "out").exists()


def test_weights_that_are_no_numbers_are_not_written(trained, data, tmp_path, refused):
    flags = ("--model", trained, "--data", data, "--out", tmp_path / "out")
    assert "no numbers" in refused("scripts/20_uipe.py", *flags, "--alpha", "1e300")
    assert not (tmp_path / "out").exists()


def scaled(model, factor):
    """A model's weights times a number, in its folder."""
    from safetensors.torch import load_file, save_file

    path = model / "model.safetensors"
    save_file({name: weights * factor for name, weights in load_file(path).items()}, path, {"format": "pt"})


@pytest.mark.parametrize("factor, dtype", [(float("nan"), "auto"), (1e9, "float16")])
def test_weights_that_are_no_numbers_are_not_exported(place, data, refused, factor, dtype):
    scaled(place / "model", factor)
    flags = ("--model", place / "model", "--forget", data / "forget_train.jsonl", "--dtype", dtype)
    assert "no numbers" in refused("scripts/50_export.py", *flags, "--out", place / "new_one")
    assert not list(place.glob("new_one*"))


def test_memory_that_is_not_there_is_one_line(monkeypatch, capsys):
    from lib.files import report_faults

    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(os, "_exit", sys.exit)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    report_faults()
    for error in (
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: can't allocate memory: 9 bytes"),
        MemoryError(),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory.\nMore"),
    ):
        with pytest.raises(SystemExit) as end:
            sys.excepthook(type(error), error, None)
        said = capsys.readouterr().err
        assert end.value.code == 2 and said.startswith("error: not enough memory") and said.count("\n") == 1


def test_a_curve_that_was_interrupted_lacks_no_point(tiny, data, tmp_path, monkeypatch, refused):
    """Killed after a checkpoint, before that update's point is written; and without the points of before."""
    from lib.trainer import Trainer

    assert status("scripts/05_in_out_data.py", "--data", data, "--size", 2, "--out", tmp_path / "parts") == 0
    flags = ("--model", tiny, "--data", tmp_path / "parts", *TRAIN, "--accumulation", 1, "--batch", 1, "--epochs", 2)
    flags += ("--every", 1, "--watched", 2, "--asked", 1, "--max-new-tokens", 2, "--checkpoint-every", 2)
    points = lambda name: json.loads((tmp_path / name / "curve.json").read_text())["points"]
    assert status("scripts/40_in_out.py", *flags, "--out", tmp_path / "whole") == 0
    real = Trainer._checkpoint

    def interrupted(self):
        real(self)
        raise KeyboardInterrupt

    for lost in (False, True):
        monkeypatch.setattr(Trainer, "_checkpoint", interrupted)
        with pytest.raises(KeyboardInterrupt):
            status("scripts/40_in_out.py", *flags, "--out", tmp_path / "new")
        monkeypatch.setattr(Trainer, "_checkpoint", real)
        if lost:
            (tmp_path / "new.partial/curve.json").unlink()
            assert "start again" in refused("scripts/40_in_out.py", *flags, "--out", tmp_path / "new")
        else:
            assert status("scripts/40_in_out.py", *flags, "--out", tmp_path / "new") == 0
            assert points("new") == points("whole") and len(points("whole")) == 5


def test_sampling_from_a_model_of_no_numbers_is_one_line(place, data, refused):
    scaled(place / "model", float("nan"))
    flags = ("--model", place / "model", "--questions", data / "forget_val.jsonl", "--out", place / "o")
    assert "no numbers" in refused("scripts/30_generate.py", *flags, "--temperature", 0.7)


def test_positions_beyond_a_table_are_cut_and_told(tmp_path, tiny, capsys):
    from lib.generation import answers
    from lib.likelihood import answer_logprobs
    from lib.models import read_model

    import transformers

    words = transformers.AutoTokenizer.from_pretrained(tiny)
    words.save_pretrained(tmp_path / "gpt2")
    config = transformers.GPT2Config(
        vocab_size=len(words), n_embd=16, n_layer=1, n_head=2, n_positions=64, eos_token_id=2, bos_token_id=2
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    model, words = read_model(str(tmp_path / "gpt2"), "float32")
    model.eval()
    assert len(answers(["Who? " * 100, "Who?"], model, words, max_new_tokens=60)) == 2
    assert "1 of 2 prompts are too long" in capsys.readouterr().err
    scored = answer_logprobs([("Who?", "Ada. " * 100), ("Who?", "Ada.")], model, words, 2)
    assert "1 of 2 answers are cut at 64 tokens" in capsys.readouterr().err and len(scored[0][0]) > len(scored[1][0])
    with pytest.raises(SystemExit):
        answer_logprobs([("Who? " * 100, "Ada.")], model, words, 2)
    assert "64 positions" in capsys.readouterr().err


# ---------------------------------------------------------------- flags, environment, interrupts


@pytest.mark.parametrize(
    "script, flags",
    [
        ("scripts/10_ga.py", ("--seed", "9" * 23)), ("scripts/10_ga.py", ("--epochs", "inf")),
        ("scripts/10_ga.py", ("--epochs", "1e308")), ("scripts/10_ga.py", ("--batch", str(10**12))),
        ("scripts/10_ga.py", ("--lr", "inf")), ("scripts/10_ga.py", ("--lora-alpha", "0")),
        ("scripts/10_ga.py", ("--lora-alpha", "-5")), ("scripts/10_ga.py", ("--probes", "-1")),
        ("scripts/10_ga.py", ("--probes", "1000000000")), ("scripts/01_data.py", ("--persons", "²")),
        ("scripts/30_generate.py", ("--temperature", "nan", "--questions", "x")),
        ("scripts/30_generate.py", ("--temperature", "inf", "--questions", "x")),
        ("scripts/03_augment.py", ("--generic-ratio", "nan")), ("scripts/03_augment.py", ("--generic-ratio", "1e12")),
        ("scripts/03_augment.py", ("--generic-ratio", "inf")),
    ],
)  # fmt: skip
def test_numbers_without_sense_are_refused(tmp_path, tiny, data, refused, script, flags):
    more = () if "03" in script or "01" in script else ("--model", tiny)
    refused(
        script,
        *more,
        *(() if "01" in script or "30" in script else ("--data", data)),
        "--out",
        tmp_path / "out",
        *flags,
    )


def test_a_folder_of_questions_is_refused_before_any_is_asked(tmp_path, tiny, data, refused):
    flags = ("--model", tiny, "--questions", data, "--out", tmp_path / "out")
    assert "is a folder: name its files" in refused("scripts/30_generate.py", *flags)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE"])
def test_what_torchrun_would_set_must_be_a_number(warm_programs, name):
    here = {**os.environ, "LOCAL_RANK": "0", name: "abc"}
    done = run("scripts/10_ga.py", "--help", check=False, process=True, env=here)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {name}=abc") and "Traceback" not in done.stderr


def test_what_a_cluster_sets_without_torchrun_makes_no_process_one_of_several(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    for local, expected in ((None, (0, 1, True)), ("1", (3, 4, False))):
        if local:
            monkeypatch.setenv("LOCAL_RANK", local)
        found = runpy.run_path(str(REPOSITORY / "scripts/lib/parallel.py"))
        assert (found["rank"], found["count"], found["first"]) == expected


def test_an_interrupt_while_torch_is_loaded_is_one_line():
    for wait in (0.5, 1.3):
        process = subprocess.Popen(
            [sys.executable, "scripts/10_ga.py", "--model", "x", "--out", "y"], cwd=REPOSITORY, stderr=subprocess.PIPE
        )
        time.sleep(wait)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1].decode()
        assert "Traceback" not in said and process.returncode in (130, 2), said


# ---------------------------------------------------------------- keys

KEY = "sk-a+b/c=d"
SECRETS = [
    KEY,
    urllib.parse.quote(KEY, safe=""),
    *(base64.b64encode((p + KEY).encode()).decode() for p in ("", "u:", "Bearer ")),
]


@pytest.fixture
def client(monkeypatch, tmp_path):
    """Flags of the API back end, with a key that comes from a file with CRLF line ends."""
    from lib import llm
    from lib.flags import Parser

    monkeypatch.setenv("OPENAI_API_KEY", KEY + "\r")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    parser = Parser("")
    llm.add_flags(parser)
    flags = ("--backend", "api", "--backend-model", "m", "--cache", str(tmp_path), "--retries", "0")
    return llm, parser.parse_args(flags)


def test_a_key_shows_nowhere_however_it_is_echoed(client, monkeypatch, capsys):
    llm, args = client
    llm.check_flags(args)
    assert llm._client(args).api_key == KEY
    with pytest.raises(SystemExit):
        llm.ask(["x"], args)  # no such server
    said = capsys.readouterr().err
    echo = " ".join(SECRETS)
    monkeypatch.setattr(llm, "_request", lambda *_: (echo, 1, 1))
    reply = llm.ask(["y"], args)[0]
    kept = llm._file(args).read_text()

    def gone(*_):
        raise llm._Gone(f"HTTP 401: bad header {(KEY + chr(13))!r} {echo}")

    monkeypatch.setattr(llm, "_request", gone)
    with pytest.raises(SystemExit):
        llm.ask(["z"], args)
    said += capsys.readouterr().err
    core = base64.b64encode(KEY.encode()).decode()[:8]
    for text in (said, reply, kept):
        assert KEY not in text and core not in text and urllib.parse.quote(KEY, safe="") not in text, text
    assert "***" in said and "***" in reply


def test_a_key_that_is_a_mere_word_stays_in_replies(client, monkeypatch):
    llm, _ = client
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    assert llm.hidden("none of these", surely=False) == "none of these" and llm.hidden("key none") == "key ***"


@pytest.mark.parametrize(
    "name, value",
    [
        ("OPENAI_BASE_URL", "http://u:pw@host:port/v1"),
        ("OPENAI_API_KEY", "sk-\u00e9\u00e9\u00e9"),
        ("OPENAI_API_KEY", "a\nb"),
    ],
)
def test_addresses_and_keys_that_cannot_be_are_one_line(client, monkeypatch, capsys, name, value):
    llm, args = client
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        llm.check_flags(args)
    said = capsys.readouterr().err
    assert name in said and "pw" not in said and value not in said


def test_replies_with_odd_line_ends_are_kept(client, monkeypatch):
    llm, args = client
    monkeypatch.setattr(llm, "_request", lambda *_: ("one\u2028two\u0085three", 1, 1))
    first = llm.ask(["p"], args)
    monkeypatch.setattr(llm, "_request", None)
    assert llm.ask(["p"], args) == first


# ---------------------------------------------------------------- JSON


@pytest.mark.parametrize(
    "text",
    ["[" * 5000, "1" * 10000, '[{"a": "\\ud800"}]', '{"question": "\\ud800"}', "[1] rubbish", '[{"a": 1}', "[1],[2"],
)
def test_json_that_cannot_be_read_is_one_line(tmp_path, capsys, text):
    from lib.files import read_rows

    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(SystemExit):
        list(read_rows(path))
    assert f"{path}:" in capsys.readouterr().err


def test_lists_after_lists_are_all_read(tmp_path):
    from lib.files import read_rows

    path = tmp_path / "x.json"
    path.write_text("[1, 2]\n[3]\n")
    assert [row for _, row in read_rows(path)] == [1, 2, 3]
