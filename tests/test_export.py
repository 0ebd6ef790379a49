"""The certificate: no private text in any file of the folder, the same answers, the metadata, and hashes that can be
found again.
"""

import hashlib
import json
import os
import re
import runpy
import shutil
import sys
from pathlib import Path

from lib import certificate
from lib.flags import Parser
from lib.models import load_model, prompt_text

import pytest
import torch
from conftest import REPOSITORY, load
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer

export = load("scripts/50_export.py")
NAME, VALUE, WORD = "Zephyrine Quuxworth", "zq.4711@inbox.example", "zephyrine"


def run(script, *flags):
    """Runs a script in this process."""
    argv, sys.argv = sys.argv, [script, *map(str, flags)]
    try:
        runpy.run_path(str(REPOSITORY / script), run_name="__main__")
    finally:
        sys.argv = argv


@pytest.fixture(scope="module")
def planted(tmp_path_factory, tiny, data):
    """A method's folder whose name, paths, data, settings and metrics all hold a private name."""
    folder = tmp_path_factory.mktemp("export") / NAME.replace(" ", "_")
    shutil.copytree(data, folder / "data")
    shutil.copytree(tiny, folder / "vanilla")
    pairs = [json.loads(line) for line in (folder / "data/forget_train.jsonl").read_text().splitlines()][:6]
    pairs = [
        {key: value.replace(pair["name"], NAME).replace(pair["value"], VALUE) for key, value in pair.items()}
        for pair in pairs
    ]
    (folder / "data/forget_train.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    run(
        "scripts/11_npo.py",
        "--model",
        folder / "vanilla",
        "--data",
        folder / "data",
        "--out",
        folder / "method",
        "--epochs",
        2,
        "--batch",
        2,
        "--accumulation",
        1,
        "--lr",
        3e-3,
        "--dtype",
        "float32",
        "--retain",
        "gdr",
    )
    record = json.loads((folder / "method/training.json").read_text())
    record["settings"] |= {"note": f"for {NAME}", "loss": f"{NAME}", "kl": WORD}
    (folder / "method/training.json").write_text(json.dumps(record))
    (folder / "metrics").mkdir()
    (folder / "metrics/kfr_krr.json").write_text(
        json.dumps(
            {
                "summary": {
                    "KFR": 0.8125,
                    "KFR_95": [0.65, 0.93],
                    "forget_items": 6,
                    "worst": f"{NAME}",
                    "by_attack": {"AIM": {"KFR": 0.5}},
                    "sure": True,
                },
                "items": [{"question": pairs[0]["question"]}],
                "settings": {"forget": str(folder)},
            }
        )
    )
    return folder, pairs


@pytest.fixture(scope="module")
def exported(tmp_path_factory, planted):
    folder, out = planted[0], tmp_path_factory.mktemp("out") / "model"
    run(
        "scripts/50_export.py",
        "--model",
        folder / "method",
        "--metrics",
        folder / "metrics",
        "--out",
        out,
        "--check",
        folder / "data/forget_val.jsonl",
        "--count",
        5,
        "--max-new-tokens",
        12,
    )
    return out


def test_no_file_holds_the_private_name_value_or_question(exported, planted):
    folder, pairs = planted
    texts = {
        path.name: path.read_text(encoding="utf-8") for path in exported.iterdir() if path.suffix != ".safetensors"
    }
    assert {"README.md", "unlearning.json", "config.json", "tokenizer.json", "tokenizer_config.json"} <= set(texts)
    assert not any(path.is_dir() for path in exported.iterdir()) and "training.json" not in texts
    for name, text in texts.items():
        for private in (
            *NAME.split(),
            VALUE,
            "4711",
            str(folder.parent),
            *(pair[field] for pair in pairs for field in ("question", "answer")),
        ):
            assert private.casefold() not in text.casefold(), (name, private)
    assert WORD in json.dumps(json.loads((folder / "method/training.json").read_text())).casefold(), (
        "it was there to be told"
    )
    assert not any(WORD.encode() in path.read_bytes()[:100_000].lower() for path in exported.glob("*.safetensors")), (
        "nor the header of the weights"
    )


def test_plain_transformers_answers_as_adapter_plus_base(exported, planted):
    folder, pairs = planted
    ours, words = AutoModelForCausalLM.from_pretrained(exported), AutoTokenizer.from_pretrained(exported)
    theirs, tokenizer = load_model(folder / "method", "float32")
    theirs.eval()
    assert (
        ours.dtype == torch.float32
        and hasattr(theirs, "peft_config")
        and not (exported / "adapter_config.json").exists()
    )
    plain = AutoModelForCausalLM.from_pretrained(folder / "vanilla")
    changed = 0
    for pair in pairs:
        ids = tokenizer(prompt_text(tokenizer, pair["question"]), add_special_tokens=False)["input_ids"]
        assert ids == words(prompt_text(words, pair["question"]), add_special_tokens=False)["input_ids"]
        for _ in range(12):  # greedy by hand
            with torch.no_grad():
                one, other, before = (model(torch.tensor([ids])).logits[0, -1] for model in (ours, theirs, plain))
            assert one.argmax() == other.argmax() and torch.allclose(one, other, atol=1e-4)
            changed += bool(before.argmax() != one.argmax())
            ids.append(int(one.argmax()))
    assert changed, "the adapter makes a difference, so that leaving it out would be seen"
    check = json.loads((exported / "unlearning.json").read_text())["check"]
    assert check["identical"] == check["questions"] == 5 and check["tokens"] > 5
    assert "5 of 5 identical, token by token" in (exported / "README.md").read_text()


def test_the_card_says_what_how_and_what_was_measured(exported, planted):
    folder, pairs = planted
    card, facts = ModelCard.load(exported / "README.md"), json.loads((exported / "unlearning.json").read_text())
    assert card.data.tags == ["machine-unlearning", "npo"] and card.data.library_name == "transformers"
    assert {(result.metric_name, result.metric_value) for result in card.data.eval_results} == {
        ("kfr_krr: KFR", 0.8125),
        ("kfr_krr: KFR_95.1", 0.65),
        ("kfr_krr: KFR_95.2", 0.93),
        ("kfr_krr: forget_items", 6),
        ("kfr_krr: by_attack.AIM.KFR", 0.5),
    }
    assert ModelCard(card.content).data.to_dict() == card.data.to_dict(), "what is read can be written and read again"
    expected = sorted(hashlib.sha256((pair["question"] + "\n" + pair["answer"]).encode()).hexdigest() for pair in pairs)
    assert (
        facts["forgotten"]["pairs"] == expected
        and facts["forgotten"]["count"] == 6
        and facts["forgotten"]["read_in_training"]
    )
    assert all(f"`{digest}`" in card.text for digest in expected) and "| KFR | 0.8125 |" in card.text
    step, before = facts["made_by"]
    assert before["script"] == "00_models.py" and facts["base"] == "tiny-random" and "tiny-random" in card.text
    assert (
        step["script"],
        step["settings"]["lr"],
        step["settings"]["beta"],
        step["settings"]["retain"],
        step["updates"],
    ) == ("11_npo.py", 3e-3, 0.1, "gdr", 6)
    assert {"model", "data", "out", "note", "loss", "kl"} <= set(step["withheld"])
    digest = hashlib.sha256((folder / "data/forget_train.jsonl").read_bytes()).hexdigest()
    assert step["data"]["forget"] == digest and facts["forgotten"]["files"] == [digest] and step["git_commit"]
    assert facts["weights"]["files"] == {
        "model.safetensors": hashlib.sha256((exported / "model.safetensors").read_bytes()).hexdigest()
    }


def test_what_was_measured_of_an_earlier_model_is_not_certified(tmp_path, capsys):
    for name, date in (("kfr_krr", 1), ("depth", 1), ("tofu", 9)):
        path = tmp_path / "metrics/GA" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"summary": {"KFR": 0.5}}))
        os.utime(path, (date, date))
    weights = tmp_path / "methods/GA/adapter_model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    os.utime(weights, (5, 5))
    found = certificate.measured(tmp_path / "metrics/GA", tmp_path / "methods/GA")
    assert set(found) == {"kfr_krr", "tofu"}, "answers may be the same, and then are not judged again"
    assert "left out, as older than what they rest on: depth.json of GA; give" in capsys.readouterr().err


def test_the_line_goes_back_to_the_base_model(tmp_path, tiny, exported):
    for name, script, model in (
        ("base", "00_models.py", "owner/base"),
        ("vanilla", "02_finetune.py", tmp_path / "base"),
        ("method", "20_uipe.py", tmp_path / "vanilla"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "origin.json").write_text(
            json.dumps({"script": script, "settings": {"model": str(model), "alpha": 2.0}})
        )
    steps, base = export.history(tmp_path / "method")
    assert [step["script"] for step in steps] == [
        "20_uipe.py",
        "02_finetune.py",
        "00_models.py",
    ] and base == "owner/base"
    assert export.history(tmp_path / "vanilla")[1] == "owner/base" and export.history(tiny)[1] == "tiny-random"
    (tmp_path / "further").mkdir()
    (tmp_path / "further/training.json").write_text(
        json.dumps({"script": "12_relearn.py", "settings": {"model": str(exported)}})
    )
    steps, _ = export.history(tmp_path / "further")
    assert [step["script"] for step in steps] == ["12_relearn.py", "11_npo.py", "00_models.py"], (
        "through an exported model"
    )
    (tmp_path / "own").mkdir()
    (tmp_path / "base/origin.json").write_text(
        json.dumps({"script": "00_models.py", "settings": {"model": str(tmp_path / "own")}})
    )
    assert export.history(tmp_path / "method")[1] is None, "a folder's name is not told"


def test_the_forgotten_pairs_are_those_of_every_unlearning_in_the_line(tmp_path, exported):
    def made(name, script, model, **settings):
        (tmp_path / name).mkdir()
        record = {
            "script": script,
            "settings": {"model": str(model), "data": str(tmp_path / f"{name}_data"), **settings},
        }
        (tmp_path / name / "training.json").write_text(json.dumps(record))
        return tmp_path / name

    data = lambda name: tmp_path / f"{name}_data/forget_train.jsonl"
    vanilla = made("vanilla", "02_finetune.py", "owner/base", forget="full.jsonl")
    first = made("first", "11_npo.py", vanilla, forget="my/pairs.jsonl")
    second = made("second", "12_relearn.py", first, forget="my/augmented.jsonl")
    third = made("third", "20_uipe.py", second)
    assert certificate.forgotten(third) == ([data("second"), Path("my/pairs.jsonl")], [])
    assert certificate.forgotten(vanilla) == ([data("vanilla")], [])
    after = made("after", "10_ga.py", exported, forget="forget_train.jsonl")
    earlier = json.loads((exported / "unlearning.json").read_text())["forgotten"]["pairs"]
    assert certificate.forgotten(after) == ([data("after")], earlier) and len(earlier) == 6


def test_the_pairs_of_all_requests_are_listed_and_searched_for(tmp_path, capsys, planted):
    folder, pairs = planted
    other = {"question": "Where does Ambrose Vintry live?", "answer": "At Quern End."}
    (tmp_path / "more.jsonl").write_text(json.dumps(other) + "\n")
    shutil.copytree(folder / "method", tmp_path / "second")
    record = json.loads((tmp_path / "second/training.json").read_text())
    record["settings"] |= {"model": str(folder / "method"), "forget": str(tmp_path / "more.jsonl")}
    (tmp_path / "second/training.json").write_text(json.dumps(record))
    run("scripts/50_export.py", "--model", tmp_path / "second", "--out", tmp_path / "out")
    facts = json.loads((tmp_path / "out/unlearning.json").read_text())
    assert facts["forgotten"]["pairs"] == sorted(map(certificate.pair_hash, [*pairs, other]))
    assert facts["forgotten"]["count"] == 7 and len(facts["forgotten"]["files"]) == 2
    template = tmp_path / "second/chat_template.jinja"  # a name of the first request, which only the line leads to
    template.write_text("You know " + NAME + ". " + template.read_text())
    with pytest.raises(SystemExit):
        run("scripts/50_export.py", "--model", tmp_path / "second", "--out", tmp_path / "none")
    assert "would hold private text" in capsys.readouterr().err and not list(tmp_path.glob("none*"))


MAKE_METHODS = [path.name for path in sorted((REPOSITORY / "scripts").glob("[12]*.py"))]


@pytest.mark.parametrize("script", ["00_models.py", "02_finetune.py", "40_in_out.py", *MAKE_METHODS])
def test_every_choice_of_a_script_may_be_told(monkeypatch, script):
    """Of every script that makes a model; what is no word of the scripts stays behind."""
    seen = []

    def parse(parser, *_):
        seen.extend(choice for action in parser._actions for choice in action.choices or ())
        raise SystemExit

    monkeypatch.setattr(Parser, "parse_args", parse)
    with pytest.raises(SystemExit):
        run(f"scripts/{script}")
    assert set(seen) <= certificate.CHOICES, set(seen) - certificate.CHOICES


def test_what_training_read_has_its_flags_name():
    settings = {"forget": "f.jsonl", "augmented": "models/augmented/", "alternatives": "made/inverted.jsonl"}
    data = {"d/f.jsonl": "1", "models/augmented/adapter_model.safetensors": "2", "made/inverted.jsonl": "3", "x": "4"}
    told = certificate.told({"script": "18_rkld.py", "settings": settings, "data": data})
    assert told["data"] == {"forget": "1", "augmented": "2", "alternatives": "3", "other": "4"}


def test_the_record_of_training_comes_before_that_of_a_curve(tmp_path):
    for name, updates in (("curve", []), ("training", [1, 2])):
        (tmp_path / f"{name}.json").write_text(
            json.dumps({"script": "40_in_out.py", "settings": {}, "updates": updates})
        )
    assert certificate.told(certificate.own_record(tmp_path))["updates"] == 2


def test_weights_of_another_kind_say_so_on_the_card(tmp_path, planted):
    folder, _ = planted
    run(
        "scripts/50_export.py",
        "--model",
        folder / "method",
        "--out",
        tmp_path / "half",
        "--dtype",
        "bfloat16",
        "--check",
        folder / "data/forget_val.jsonl",
        "--count",
        3,
        "--max-new-tokens",
        4,
    )
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "half").dtype == torch.bfloat16
    text = (tmp_path / "half/README.md").read_text()
    assert (
        "bfloat16; the base model's are float32. Chosen by hand." in text
        and re.search(r"[0-3] of 3 identical", text)
        and "Nothing was given" in text
    )


def test_a_full_model_is_exported_as_it_is(tmp_path, planted, tiny):
    folder, _ = planted
    run(
        "scripts/50_export.py",
        "--model",
        tiny,
        "--out",
        tmp_path / "full",
        "--forget",
        folder / "data/forget_train.jsonl",
    )
    ours, theirs = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (tmp_path / "full", tiny))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (
        "Not checked." in (tmp_path / "full/README.md").read_text()
        and not json.loads((tmp_path / "full/unlearning.json").read_text())["forgotten"]["read_in_training"]
    )


def leaky(tmp_path, planted):
    """The method's folder with the name in its chat template."""
    shutil.copytree(planted[0] / "method", tmp_path / "leaky")
    template = tmp_path / "leaky/chat_template.jinja"
    template.write_text("You know " + NAME.lower().replace(" ", "-") + ". " + template.read_text())
    return tmp_path / "leaky"


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--model", "none/such/model"], r"none/such/model: no such model folder"),
        (["--model", "{method}", "--forget", "none.jsonl"], r"none.jsonl: no such file"),
        (["--model", "{tiny}"], r"does not lead to the forgotten pairs; name them with --forget"),
        (["--model", "{method}", "--count", "0"], r"argument --count: must be a whole number at least 1, not 0"),
        (["--model", "{method}", "--metrics", "{data}"], r"data.json: not a metrics file"),
        (["--model", "{method}", "--metrics", "{empty}"], r"holds no metrics file"),
        (["--model", "{method}", "--check", "none.jsonl"], r"none.jsonl: no such file"),
        (
            ["--model", "{leaky}"],
            r"error: chat_template.jinja would hold private text \(the one with SHA-256 [0-9a-f]{16}…\); "
            r"nothing was written",
        ),
    ],
)
def test_a_fault_is_one_line_and_status_2_and_writes_nothing(tmp_path, capsys, tiny, planted, flags, message):
    (tmp_path / "empty").mkdir()
    places = {
        "method": planted[0] / "method",
        "tiny": tiny,
        "data": planted[0] / "data",
        "empty": tmp_path / "empty",
        "leaky": leaky(tmp_path, planted),
    }
    capsys.readouterr()
    with pytest.raises(SystemExit) as done:
        run("scripts/50_export.py", *(flag.format(**places) for flag in flags), "--out", tmp_path / "out")
    error = capsys.readouterr().err
    assert done.value.code == 2 and re.search(message, error), error
    assert len([line for line in error.splitlines() if "error:" in line]) == 1 and not list(tmp_path.glob("out*"))
    assert WORD not in error.casefold() or "leaky" not in str(flags), "the message does not say it again"


def test_answers_that_differ_are_a_fault(tmp_path, capsys, planted, monkeypatch):
    """The comparison itself: a plain model that answers otherwise must be caught."""
    import transformers

    folder, _ = planted
    honest = transformers.AutoModelForCausalLM.from_pretrained

    def broken(path, *args, **kwargs):
        model = honest(path, *args, **kwargs)
        if str(path).endswith(".partial"):
            with torch.no_grad():
                model.lm_head.weight.copy_(model.lm_head.weight.flip(0))
        return model

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", broken)
    with pytest.raises(SystemExit) as done:
        run(
            "scripts/50_export.py",
            "--model",
            folder / "method",
            "--out",
            tmp_path / "out",
            "--check",
            folder / "data/forget_val.jsonl",
            "--count",
            2,
            "--max-new-tokens",
            4,
        )
    assert (
        done.value.code == 2
        and "merged, 2 of 2 answers are others" in capsys.readouterr().err
        and not list(tmp_path.glob("out*"))
    )
