"""The further methods: losses and updates against slow references (reference.py) and values by hand, and each script as
a user runs it.
"""

import copy
import json
import math
import os
import re
import shutil
import types

from lib.formats import read_pairs
from lib.likelihood import nll
from lib.losses import retain_loss
from lib.models import encode

import pytest
import reference
import torch
import transformers
from conftest import REPOSITORY, load, run
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from test_losses import PAIRS, RETAIN, rows_and_batch, same

dpo, sure, memflex, meow, rkld, uipe = (
    load(f"scripts/{name}.py") for name in ("13_dpo", "15_sure", "16_memflex", "17_meow", "18_rkld", "20_uipe")
)
REFUSALS = [
    {**pair, "answer": answer} for pair, answer in zip(PAIRS, ("I don't know.", "Sorry, I can't say.", "No idea."))
]


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_dpo(models, beta):
    model, vanilla, tokenizer = models
    (chosen, better), (rejected, worse) = rows_and_batch(tokenizer, REFUSALS), rows_and_batch(tokenizer, PAIRS)
    same(model, dpo.dpo_loss(model, better, worse, beta), reference.dpo(model, vanilla, chosen, rejected, beta))


@pytest.mark.parametrize("term", ["gdr", "klr"])
def test_relearn_dpo_and_idk(models, term):
    model, vanilla, tokenizer = models
    (chosen, better), (rejected, worse), (kept, retain) = (
        rows_and_batch(tokenizer, pairs) for pairs in (REFUSALS, PAIRS, RETAIN)
    )
    args = types.SimpleNamespace(retain=term, kl="forward")
    same(
        model,
        dpo.dpo_loss(model, better, worse, 0.1) + retain_loss(model, retain, args),
        reference.relearn_dpo(model, vanilla, chosen, rejected, 0.1, kept, term),
    )
    same(model, nll(model, better), reference.idk(model, chosen))


@pytest.fixture(scope="module")
def augmented(models, tmp_path_factory):
    """(model with its adapter and a frozen one named augmented, that one alone as plain weights)."""
    model, vanilla, tokenizer = models
    folder = tmp_path_factory.mktemp("augmented")
    other = get_peft_model(
        copy.deepcopy(vanilla), LoraConfig(r=4, lora_dropout=0.5, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    torch.manual_seed(2)
    for name, parameter in other.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    other.save_pretrained(folder)
    model = copy.deepcopy(model)
    model.load_adapter(folder, "augmented")
    return model.train(), other.merge_and_unload().eval()


@pytest.mark.parametrize("divergence", ["reverse", "forward"])
def test_rkld(models, augmented, divergence):
    _, vanilla, tokenizer = models
    model, plain = augmented
    rows, batch = rows_and_batch(tokenizer, PAIRS)
    for _ in range(2):  # the second time the teacher is remembered
        same(
            model,
            rkld.rkld_loss(model, batch, 4.0, divergence),
            reference.rkld(model, vanilla, plain, rows, 4.0, divergence),
        )
    assert model.active_adapters == ["default"] and model.training
    assert all(
        ("default" in name) == parameter.requires_grad for name, parameter in model.named_parameters() if "lora" in name
    )


def test_rkld_teacher_by_hand():
    teacher = rkld.teacher_logits(
        torch.tensor([0, 2, 4]).double().clamp(min=1).log(), torch.tensor([1, 4, 1]).double().log(), 2.0
    )
    torch.testing.assert_close(teacher.exp(), torch.tensor([1, 0.5, 4]).double())


HAND_SURE = {"a": torch.tensor([[3.0, 4], [0, 1]]), "b": torch.tensor([[2.0, 0, 0], [0, 0, 3], [0, 4, 0]])}


@pytest.mark.parametrize(
    "percentile, kept",
    [(99, (1, 0, 0, 0, 0)), (90, (1, 0, 0, 0, 0)), (60, (1, 0, 0, 0, 1)), (50, (1, 0, 0, 1, 1)), (0, (1, 1, 1, 1, 1))],
)
def test_sure_by_hand(percentile, kept):
    rest = [torch.full_like(gradient, 10.0) for gradient in HAND_SURE.values()]
    updated = sure.sure(list(HAND_SURE.values()), rest, percentile)
    whole = torch.cat([(one + two).flatten() for one, two in zip(HAND_SURE.values(), rest)])
    mask = torch.tensor(
        [*(flag for flag in kept[:2] for _ in range(2)), *(flag for flag in kept[2:] for _ in range(3))]
    )
    torch.testing.assert_close(torch.cat([gradient.flatten() for gradient in updated]), whole * mask)


matrices = st.integers(0, 10**6).map(
    lambda seed: [
        torch.randn(shape, generator=torch.Generator().manual_seed(seed + at)) * scale
        for at, (shape, scale) in enumerate((((3, 4), 1), ((5, 2), 1e-3), ((2, 2), 5e-4)))
    ]
)


@given(matrices, matrices, st.sampled_from((50, 90, 99)))
def test_sure_agrees_with_the_slow_reference(forget, rest, percentile):
    named = lambda gradients: dict(zip("abc", gradients))
    slowly = reference.sure_update(named(forget), named([one + two for one, two in zip(forget, rest)]), percentile)
    for fast, name in zip(sure.sure(forget, rest, percentile), "abc"):
        torch.testing.assert_close(fast, slowly[name])


@given(matrices, matrices, st.sampled_from(("ga", "npo")), st.sampled_from((0.92, 0.2, -0.2)))
def test_memflex_agrees_with_the_slow_reference(forget, retain, loss, cosine):
    args = types.SimpleNamespace(loss=loss, cosine=cosine, magnitude=6e-4, forget_weight=0.4, retain_weight=2.0)
    moved = reference.memflex_update(dict(zip("abc", forget)), dict(zip("abc", retain)), cosine)
    for fast, one, two, name in zip(memflex.memflex(forget, retain, args), forget, retain, "abc"):
        whole = reference.memflex_loss(one, two, npo=loss == "npo")
        torch.testing.assert_close(fast, whole if name in moved else torch.zeros_like(one))


@pytest.mark.parametrize("script, ga, npo", [("15_sure.py", 1, 1), ("16_memflex.py", 0.4, 0.4)])
def test_sure_and_memflex_on_the_losses_of_ga_and_npo(tmp_path, models, tiny, data, script, ga, npo):
    """The first update's loss, of all pairs at once: that of GA by the slow reference, and NPO's of a model that is
    still the vanilla one.
    """
    _, vanilla, tokenizer = models
    rows = [encode(tokenizer, pair["question"], pair["answer"]) for pair in read_pairs(data / "forget_train.jsonl")]
    for loss, expected in (("ga", ga * reference.ga(vanilla, rows).item()), ("npo", npo * 2 / 0.1 * math.log(2))):
        run(
            f"scripts/{script}",
            "--model",
            tiny,
            "--data",
            data,
            "--out",
            tmp_path / loss,
            "--loss",
            loss,
            "--retain",
            "none",
            "--epochs",
            1,
            "--batch",
            4,
            "--accumulation",
            4,
            "--lora-dropout",
            0,
            "--dtype",
            "float32",
        )
        (update,) = json.loads((tmp_path / loss / "training.json").read_text())["updates"]
        assert update["loss"] == pytest.approx(expected, rel=1e-4)


@given(
    st.lists(st.sampled_from((0.0, 0.2, 0.5, 0.9)), max_size=7),
    st.integers(1, 5),
    st.sampled_from(("largest", "smallest")),
)
def test_selection_agrees_with_the_slow_reference(scores, count, how):
    assert meow.selected(scores, how, count, None) == reference.select(scores, count, how)


@pytest.mark.parametrize(
    "nll, tolerance, grid, bisections, alpha",
    [
        (lambda a: 2 + a * a, 0.5, [0.25, 0.5, 1, 2], 4, 0.6875),
        (lambda a: 2 + a * a, 100, [0.25, 0.5], 4, 0.5),
        (lambda a: 2 + a * a, 0, [0.25, 0.5], 2, 0.0),
        (lambda a: 2 + a, 0.25, [0.25, 0.5], 0, 0.25),
        (lambda a: 5.0 if a == 0.5 else 1.0, 0.1, [0.25, 0.5, 1, 2], 2, 0.4375),
        (lambda a: 2 - a if a < 1 else float("nan"), 0, [0.5, 1], 3, 0.9375),
    ],
)
def test_automatic_alpha_by_hand(nll, tolerance, grid, bisections, alpha):
    found, tried = uipe.largest_alpha(nll, tolerance, grid, bisections)
    assert found == alpha == reference.uipe_automatic(nll, tolerance, grid, bisections)
    assert found in tried and 0.0 in tried


def merged(folder):
    """All weights of the vanilla model with an adapter folder's added, in float64."""
    base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64)
    return PeftModel.from_pretrained(model, folder).merge_and_unload().state_dict()


FLAGS = ("--epochs", 1, "--batch", 4, "--accumulation", 1, "--lr", 1e-2)


@pytest.fixture(scope="module")
def learnt(tiny, data, tmp_path_factory):
    """The folder of an adapter trained further on the forget set."""
    folder = tmp_path_factory.mktemp("learnt") / "adapter"
    run(
        "scripts/02_finetune.py",
        "--model",
        tiny,
        "--data",
        data,
        "--out",
        folder,
        "--forget",
        "forget_train.jsonl",
        "--adapter",
        *FLAGS,
    )
    return folder


def test_extrapolation_and_task_arithmetic_are_exact_on_full_weights(tmp_path, tiny, data, learnt):
    run("scripts/20_uipe.py", "--model", learnt, "--alpha", 1.5, "--out", tmp_path / "uipe")
    run("scripts/19_ta.py", "--model", tiny, "--data", data, "--out", tmp_path / "ta", "--strength", 0.7, *FLAGS)
    vanilla = transformers.AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float64).state_dict()
    trained = merged(learnt)
    for folder, slow in (
        (tmp_path / "uipe", reference.uipe(vanilla, trained, 1.5)),
        (tmp_path / "ta", reference.task_arithmetic(vanilla, trained, 0.7)),
    ):
        weights = merged(folder)
        assert any((weights[name] - vanilla[name]).abs().max() > 1e-3 for name in weights)
        for name in weights:
            torch.testing.assert_close(weights[name], slow[name], atol=1e-7, rtol=1e-5)


def test_automatic_alpha_keeps_to_its_tolerance(tmp_path, data, learnt):
    run(
        "scripts/20_uipe.py",
        "--model",
        learnt,
        "--data",
        data,
        "--out",
        tmp_path / "auto",
        "--tolerance",
        0.001,
        "--bisections",
        2,
    )
    search = json.loads((tmp_path / "auto/uipe.json").read_text())
    tried = {point["alpha"]: point["nll"] for point in search["tried"]}
    assert tried[search["alpha"]] <= tried[0] + 0.001 and (tmp_path / "auto/uipe.png").stat().st_size > 5000
    if search["alpha"] < 8:
        assert min(value for alpha, value in tried.items() if alpha > search["alpha"]) > tried[0] + 0.001


def test_alpha_is_tuned_on_the_methods_own_data(tmp_path, data, learnt):
    shutil.copytree(learnt, tmp_path / "method")
    command = ("scripts/20_uipe.py", "--model", tmp_path / "method", "--grid", 1, "--bisections", 0)
    run(*command, "--out", tmp_path / "out")
    assert [*json.loads((tmp_path / "out/uipe.json").read_text())["data"]][0] == str(data / "retain_tune.jsonl")
    (tmp_path / "method/training.json").unlink()
    done = run(*command, "--out", tmp_path / "none", check=False)
    assert done.returncode == 2 and "give --data" in done.stderr and not (tmp_path / "none").exists()


@pytest.fixture(scope="module")
def made(tmp_path_factory, data):
    """Files that some methods need: an augmented forget set, inverted facts and their MEMO."""
    folder = tmp_path_factory.mktemp("made")
    run("scripts/03_augment.py", "--data", data, "--out", folder / "augmented.jsonl", "--generic-ratio", 0)
    pairs = [json.loads(line) for line in (data / "forget_train.jsonl").read_text().splitlines()]
    (folder / "inverted.jsonl").write_text(
        "".join(
            json.dumps({"question": pair["question"], "answers": ["Ada.", "Bo.", "Cy.", "Di."], "source": at}) + "\n"
            for at, pair in enumerate(pairs)
        )
    )
    (folder / "memo.json").write_text(
        json.dumps(
            {
                "items": [
                    {"question": pair["question"], "answer": answer, "MEMO": score}
                    for pair in pairs
                    for answer, score in (("Ada.", 0.1), ("Bo.", 0.9), ("Cy.", 0.5), ("Di.", 0.9))
                ]
            }
        )
    )
    (folder / "list.jsonl").write_text('{"question": "Who?", "answers": ["Ada."]}\n["Who?", "Ada."]\n')
    (folder / "empty.jsonl").write_text("\n")
    (folder / "nothing.json").write_text("{}")
    (folder / "latin.json").write_bytes(b'{"items": "\xe9"}')
    return folder


def flags_of(name, made, learnt):
    return {
        "13_dpo.py --prefer": ("--prefer", made / "augmented.jsonl"),
        "15_sure.py npo": ("--loss", "npo", "--retain", "klr"),
        "16_memflex.py npo": ("--loss", "npo"),
        "17_meow.py": ("--forget", made / "inverted.jsonl", "--memo", made / "memo.json"),
        "17_meow.py random": ("--forget", made / "inverted.jsonl", "--select", "random"),
        "18_rkld.py": ("--augmented", learnt),
        "18_rkld.py forward": ("--augmented", learnt, "--divergence", "forward", "--retain", "gdr"),
    }.get(name, ())


@pytest.mark.parametrize(
    "name",
    [
        "13_dpo.py",
        "13_dpo.py --prefer",
        "14_idk.py",
        "15_sure.py",
        "15_sure.py npo",
        "16_memflex.py",
        "16_memflex.py npo",
        "17_meow.py",
        "17_meow.py random",
        "18_rkld.py",
        "18_rkld.py forward",
        "19_ta.py",
    ],
)
def test_every_method_lowers_its_loss_and_moves_weights(tmp_path, tiny, data, made, learnt, name):
    run(
        f"scripts/{name.split()[0]}",
        "--model",
        tiny,
        "--data",
        data,
        "--out",
        tmp_path / "out",
        "--epochs",
        4,
        "--batch",
        4,
        "--accumulation",
        2,
        "--lr",
        1e-2,
        "--lora-dropout",
        0,
        *flags_of(name, made, learnt),
    )
    updates = json.loads((tmp_path / "out/training.json").read_text())["updates"]
    weights = load_file(tmp_path / "out/adapter_model.safetensors")
    assert len(updates) >= 8 and any(value.abs().max() > 1e-4 for key, value in weights.items() if "lora_B" in key)
    assert not (tmp_path / "out/augmented").exists(), "only the trained adapter is written"
    if not name.startswith(("15", "16")):  # those move few weights
        assert updates[-1]["loss"] < updates[0]["loss"]


def test_rkld_refuses_an_augmented_model_that_stands_on_other_weights(tmp_path, tiny, data, learnt):
    def refused(model, augmented, *flags):
        command = ("--model", model, "--data", data, "--augmented", augmented, "--out", tmp_path / "out", *flags)
        done = run("scripts/18_rkld.py", *command, check=False)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and not (tmp_path / "out").exists()
        return done.stderr

    shutil.copytree(tiny, tmp_path / "other")
    assert f"stands on {tiny}, not on {tmp_path / 'other'}" in refused(tmp_path / "other", learnt)
    further = ("--forget", "forget_train.jsonl", "--adapter", "--continue-adapter")
    run("scripts/02_finetune.py", "--model", learnt, "--data", data, "--out", tmp_path / "more", *further, *FLAGS)
    assert "give --continue-adapter" in refused(learnt, tmp_path / "more")
    flags = ("--augmented", tmp_path / "more", "--continue-adapter", "--out", tmp_path / "out", *FLAGS)
    run("scripts/18_rkld.py", "--model", learnt, "--data", data, *flags)


def test_meow_reads_what_inversion_writes(tmp_path, tiny, data):
    shutil.copytree(data, tmp_path / "data")
    run("scripts/04_invert.py", "--data", tmp_path / "data")
    run(
        "scripts/17_meow.py",
        "--model",
        tiny,
        "--data",
        tmp_path / "data",
        "--out",
        tmp_path / "out",
        "--select",
        "random",
        *FLAGS,
    )
    assert list(json.loads((tmp_path / "out/training.json").read_text())["data"]) == [
        str(tmp_path / "data/forget_inverted.jsonl")
    ]


def test_meow_learns_the_chosen_facts(tmp_path, made, data):
    args = types.SimpleNamespace(
        forget=str(made / "inverted.jsonl"), data=str(data), memo=str(made / "memo.json"), seed=0, top_k=2
    )
    chosen = lambda how: [
        pair["answer"] for pair in meow.inverted_pairs(types.SimpleNamespace(**vars(args), select=how))
    ][:2]
    assert (
        chosen("largest") == ["Bo.", "Di."]
        and chosen("smallest") == ["Ada.", "Cy."]
        and len(set(chosen("random"))) == 2
    )


@pytest.mark.parametrize(
    "script, flags, message",
    [
        ("13_dpo.py", ("--prefer", "none.jsonl"), r"none.jsonl: no such file"),
        ("13_dpo.py", ("--prefer", "{data}/forget_train.jsonl"), r'as "source"'),
        (
            "17_meow.py",
            ("--forget", "{data}/forget_train.jsonl", "--select", "random"),
            r'forget_train.jsonl:1: field "answers" must be a list',
        ),
        ("17_meow.py", (), r"needs --memo FILE"),
        ("18_rkld.py", (), r"--augmented: no adapter folder; make it with"),
        ("20_uipe.py", (), r"neither an adapter nor a training's folder"),
        ("20_uipe.py", ("--model", "{learnt}", "--batch", "0"), r"argument --batch: must be a whole number at least 1"),
        ("20_uipe.py", ("--model", "{learnt}", "--alpha", "inf"), r"--alpha must be auto or a number, not inf"),
        ("02_finetune.py", ("--model", "{learnt}", "--adapter"), r"--adapter needs full weights to stand on"),
        ("13_dpo.py", ("--beta", "0"), r"argument --beta: must be a number above 0"),
        (
            "14_idk.py",
            ("--lora-dropout", "1.5"),
            r"argument --lora-dropout: must be a number at least 0 and at most 1,",
        ),
        ("15_sure.py", ("--percentile", "150"), r"argument --percentile: must be a number at least 0 and at most 100,"),
        ("17_meow.py", ("--top-k", "0"), r"argument --top-k: must be a whole number at least 1"),
        (
            "17_meow.py",
            ("--forget", "{made}/list.jsonl", "--select", "random"),
            r"list.jsonl:2: expected an object, found list",
        ),
        (
            "17_meow.py",
            ("--forget", "{made}/empty.jsonl", "--select", "random"),
            r"empty.jsonl: holds nothing to train on",
        ),
        (
            "17_meow.py",
            ("--forget", "{made}/inverted.jsonl", "--memo", "{made}/nothing.json"),
            r'nothing.json: expected .*"items"',
        ),
        (
            "17_meow.py",
            ("--forget", "{made}/inverted.jsonl", "--memo", "{made}/latin.json"),
            r"latin.json: not UTF-8 text",
        ),
    ],
)
def test_faults(tmp_path, tiny, data, made, learnt, script, flags, message):
    done = run(
        f"scripts/{script}",
        "--model",
        tiny,
        "--data",
        data,
        "--out",
        tmp_path / "out",
        *(flag.format(data=data, made=made, learnt=learnt) for flag in flags),
        check=False,
    )
    assert done.returncode == 2 and re.search(message, done.stderr) and "Traceback" not in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_new_method_is_one_file_and_one_line(tmp_path, tiny, data):
    """The recipe of scripts/README.md, word for word: its file and its line are all that a method needs."""
    recipe = (REPOSITORY / "scripts/README.md").read_text()
    code, line = re.search(r"\*\*A method\.\*\*.*?```python\n(.*?)```.*?`(method [^`]+)`", recipe, re.S).groups()
    name, script, *flags = line.split()[1:]
    for folder in ("scripts", "data"):
        (tmp_path / folder).symlink_to(REPOSITORY / folder)
    (tmp_path / script).write_text(code)
    run(
        tmp_path / script,
        "--model",
        tiny,
        "--data",
        data,
        "--out",
        tmp_path / "out",
        "--epochs",
        1,
        *flags,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "scripts")},
    )
    assert (tmp_path / "out/adapter_model.safetensors").is_file()
    shell = (REPOSITORY / "run_all.sh").read_text()
    (tmp_path / "run_all.sh").write_text(shell.replace("\neach_retain GA ", f"\n{line}\neach_retain GA ", 1))
    import subprocess

    done = subprocess.run(
        ["bash", "run_all.sh", "--methods", f"{name} Magic"], cwd=tmp_path, capture_output=True, text=True
    )
    assert "unknown method Magic" in done.stderr and name in done.stderr, (
        "its name is known, with nothing else to change"
    )
