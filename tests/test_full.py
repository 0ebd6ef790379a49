"""--full, all weights in place of a LoRA adapter: every method's updates against a slow loop over a plain model and a
second, frozen one; 16-bit weights; continuing; what is made of the finished folder.
"""

import copy
import json

from lib.models import load_model
from lib.trainer import Trainer

import pytest
import reference
import reference_losses as slow
import torch
from conftest import run
from safetensors.torch import load_file
from test_more_methods import few as few
from test_more_methods import program
from test_training import assert_same, weights


@pytest.fixture(scope="module")
def augmented(tmp_path_factory, tiny, few):
    folder = tmp_path_factory.mktemp("augmented") / "adapter"
    program("02_finetune.py", tiny, few, folder, "--forget", "forget_train.jsonl", "--adapter", "--lr", 1e-2)
    return folder


def sure_step(v, a, r, percentile):
    """The gradient of SURE on GA+GDR; a vector's entries are rows of one."""
    named = dict(v.named_parameters())
    gradients = []
    for loss in (reference.ga(v, *a), reference.nll(v, *r)):
        found = torch.autograd.grad(loss, list(named.values()))
        gradients.append({name: one.flatten(1) if one.dim() > 1 else one[:, None] for name, one in zip(named, found)})
    whole = {name: one + gradients[1][name] for name, one in gradients[0].items()}
    return [one.view_as(named[name]) for name, one in reference.sure_update(gradients[0], whole, percentile).items()]


def memflex_step(v, a, r):
    """The gradient of MemFlex on GA+GDR, with the tests' thresholds."""
    named = dict(v.named_parameters())
    forget, retain = (
        dict(zip(named, torch.autograd.grad(loss, list(named.values()))))
        for loss in (reference.nll(v, *a), reference.nll(v, *r))
    )
    moved = reference.memflex_update(forget, retain, 0.2, 1e-4)
    assert 0 < len(moved) < len(named)
    zero = lambda name, one: one if name in moved else torch.zeros_like(one)
    return [zero(name, -0.4 * forget[name] + 2.0 * retain[name]) for name in named]


# script, flags, and its loss of (model, vanilla model, augmented model, forget columns, retain columns, the script's
# names)
METHODS = {
    "GA+GDR": ("10_ga.py", (), lambda m, v, g, a, r, _: reference.ga(m, *a) + reference.nll(m, *r)),
    "NPO+KLR": (
        "11_npo.py",
        ("--retain", "klr"),
        lambda m, v, g, a, r, _: reference.npo(m, v, *a, 0.1) + reference.kl_forward(m, v, *r),
    ),
    "ReLearn": (
        "12_relearn.py",
        ("--forget", "forget_train.jsonl"),
        lambda m, v, g, a, r, _: reference.relearn(m, v, *a, *r),
    ),
    "DPO": ("13_dpo.py", ("--retain", "none"), lambda m, v, g, a, r, _: reference.dpo(m, v, *a, 0.1)),
    "IDK": ("14_idk.py", ("--retain", "none"), lambda m, v, g, a, r, _: reference.idk(m, *a)),
    "SURE": ("15_sure.py", ("--percentile", 60), lambda m, v, g, a, r, _: sure_step(m, a, r, 60)),
    "MemFlex": (
        "16_memflex.py",
        ("--cosine", 0.2, "--magnitude", 1e-4),
        lambda m, v, g, a, r, _: memflex_step(m, a, r),
    ),
    "MEOW": (
        "17_meow.py",
        ("--forget", "forget_inverted.jsonl", "--select", "random", "--top-k", 1),
        lambda m, v, g, a, r, _: reference.nll(m, *a),
    ),
    "RKLD+GDR": (
        "18_rkld.py",
        ("--augmented", "{augmented}", "--retain", "gdr"),
        lambda m, v, g, a, r, _: reference.rkld(m, v, g, *a, 8.0) + reference.nll(m, *r),
    ),
    "SimNPO": (
        "21_simnpo.py",
        (),
        lambda m, v, g, a, r, _: 0.125 * slow.simnpo(m, *a, 4.5, 0.0) + reference.nll(m, *r),
    ),
    "AltPO": ("22_altpo.py", (), lambda m, v, g, a, r, _: slow.altpo(m, v, *a, 0.1) + reference.nll(m, *r)),
    "UNDIAL": ("23_undial.py", (), lambda m, v, g, a, r, _: slow.undial(m, v, *a, 10.0)),
    "WGA": ("24_wga.py", (), lambda m, v, g, a, r, _: slow.wga(m, *a, 1.0) + reference.nll(m, *r)),
    "CE-U": ("25_ceu.py", (), lambda m, v, g, a, r, _: slow.ceu(m, *a)),
    "PDU": ("26_pdu.py", (), lambda m, v, g, a, r, _: slow.pdu_forget(m, *a) + 100 * reference.nll(m, *r)),
    "RMU": (
        "27_rmu.py",
        ("--layer", 1),
        lambda m, v, g, a, r, names: (
            slow.rmu_forget(m, *a, 0, names["vector"] / names["vector"].norm(), 2.0) + slow.rmu_retain(m, v, *r, 0)
        ),
    ),
    "ME": ("28_me.py", (), lambda m, v, g, a, r, _: 0.1 * slow.maximum_entropy(m, *a) + reference.nll(m, *r)),
    "IDK+AP": (
        "29_idk_ap.py",
        (),
        lambda m, v, g, a, r, _: reference.idk(m, *a) + slow.answer_preservation(m, *r, 0.1),
    ),
    "IHL": ("31_ihl.py", (), lambda m, v, g, a, r, _: slow.inverted_hinge(m, *a) + reference.nll(m, *r)),
}
TWO = ("--full", "--epochs", 2, "--accumulation", 4, "--lr", 1e-3)  # two updates of all rows


def watched(monkeypatch):
    """The gradients of every update, as they are clipped, are noted."""
    seen, clip = [], Trainer._clip

    def noted(trainer):
        seen.append([None if one.grad is None else one.grad.clone() for one in trainer.parameters])
        return clip(trainer)

    monkeypatch.setattr(Trainer, "_clip", noted)
    return seen


@pytest.mark.parametrize("name", METHODS)
def test_two_updates_of_all_weights(tmp_path, models, tiny, few, augmented, monkeypatch, name):
    """Loss and gradients of two updates: at the second one the reference is still the vanilla model."""
    script, flags, loss_of = METHODS[name]
    seen = watched(monkeypatch)
    names = program(
        script, tiny, few, tmp_path / "out", *TWO, *(str(flag).format(augmented=augmented) for flag in flags)
    )
    updates = json.loads((tmp_path / "out/training.json").read_text())["updates"]
    model, vanilla = copy.deepcopy(models[1]), models[1]
    other = load_model(augmented, "float32")[0].merge_and_unload().eval() if script.startswith("18") else None
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batches = list(names["trainer"]._batches())
    assert len(updates) == len(seen) == len(batches) == 2
    for update, gradients, (forget, retain) in zip(updates, seen, batches):
        found = loss_of(model, vanilla, other, list(zip(*forget)), list(zip(*retain)), names)
        if torch.is_tensor(found):
            assert update["loss"] == pytest.approx(found.item(), rel=1e-3, abs=1e-5)
            found = torch.autograd.grad(found, list(model.parameters()), allow_unused=True)
        largest = max(one.abs().max() for one in found if one is not None)
        for one, expected in zip(gradients, found, strict=True):
            if expected is None:
                assert one is None or not one.any()
            else:
                torch.testing.assert_close(one / largest, expected / largest, atol=1e-3, rtol=0, check_dtype=False)
        optimizer.zero_grad()
        for parameter, gradient in zip(model.parameters(), gradients):  # the very ones: Adam makes much of the smallest
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate = update["lr"] / 1e-3
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * rate
        optimizer.step()
    after = load_file(tmp_path / "out/model.safetensors")
    for key, expected in model.named_parameters():
        torch.testing.assert_close(after[key], expected.data, atol=1e-6, rtol=1e-5)
    assert not (tmp_path / "out/adapter_config.json").exists()


def test_sixteen_bit_weights_have_float32_copies(tmp_path, tiny, few, monkeypatch):
    """Updates far under a bfloat16 weight's spacing add up; what is written is the copy, rounded once."""
    seen = []
    monkeypatch.setattr(
        Trainer, "_to_model", lambda trainer, do=Trainer._to_model: (do(trainer), seen.append(trainer))[0]
    )
    flags = ("--full", "--epochs", 40, "--accumulation", 4, "--lr", 2e-5, "--warmup", 0)
    program("10_ga.py", tiny, few, tmp_path / "out", *flags, "--dtype", "bfloat16")
    trainer, after, before = (
        seen[-1],
        load_file(tmp_path / "out/model.safetensors"),
        load_file(tiny / "model.safetensors"),
    )
    names = [name for name, _ in trainer.model.named_parameters()]
    assert {one.dtype for one in trainer.parameters} == {torch.float32}
    for name, copied in zip(names, trainer.parameters, strict=True):
        assert after[name].dtype == torch.bfloat16
        assert torch.equal(after[name], copied.detach().bfloat16()), name
    norm = next(name for name in names if "input_layernorm" in name)  # ones: the next bfloat16 number is 2^-8 away
    copied = trainer.parameters[names.index(norm)].detach()
    assert torch.equal(before[norm].float(), torch.ones_like(copied)) and (copied - 1).abs().max() > 1e-4


@pytest.mark.parametrize(
    "script, flags",
    [
        ("11_npo.py", ("--retain", "klr", "--dtype", "float32")),
        ("11_npo.py", ("--retain", "klr", "--dtype", "bfloat16")),
        ("27_rmu.py", ("--layer", 1)),
        ("18_rkld.py", ("--augmented", "{augmented}")),
    ],
)
def test_a_killed_run_of_all_weights_continues_to_the_same(tmp_path, tiny, few, augmented, monkeypatch, script, flags):
    """Its reference is the vanilla model's, not that of the weights at which it goes on; points on the way too."""
    flags = [str(flag).format(augmented=augmented) for flag in flags]
    flags = ("--full", "--epochs", 4, "--accumulation", 1, "--lr", 1e-3, "--checkpoint-every", 3, "--keep", 4, *flags)

    def last(trainer, write=Trainer._checkpoint):
        write(trainer)
        raise KeyboardInterrupt

    program(script, tiny, few, tmp_path / "whole", *flags)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_checkpoint", last)
        program(script, tiny, few, tmp_path / "killed", *flags)
    program(script, tiny, few, tmp_path / "killed", *flags)
    assert_same(tmp_path / "whole", tmp_path / "killed")
    records = [json.loads((tmp_path / name / "training.json").read_text()) for name in ("whole", "killed")]
    assert records[0]["updates"] == records[1]["updates"] and len(records[0]["updates"]) == 8
    for update in (2, 4, 6):
        assert_same(tmp_path / f"whole/points/{update}", tmp_path / f"killed/points/{update}")


def test_what_is_made_of_a_folder_with_all_weights(tmp_path, tiny, few, augmented):
    """UIPE, task arithmetic, a further training, answers and the certificate."""
    program("10_ga.py", tiny, few, tmp_path / "ga", *TWO)
    vanilla, unlearned = weights(tiny), weights(tmp_path / "ga")
    run(
        "scripts/20_uipe.py",
        "--model",
        tmp_path / "ga",
        "--out",
        tmp_path / "far",
        "--alpha",
        1.5,
        "--dtype",
        "float32",
    )
    for name, expected in reference.uipe(vanilla, unlearned, 1.5).items():
        torch.testing.assert_close(weights(tmp_path / "far")[name], expected.float(), atol=1e-6, rtol=1e-5)
    auto = ("--data", few, "--retain-data", "retain_train.jsonl", "--tolerance", 0.5, "--dtype", "float32")
    run("scripts/20_uipe.py", "--model", tmp_path / "ga", "--out", tmp_path / "auto", *auto)
    found = json.loads((tmp_path / "auto/uipe.json").read_text())
    for name, expected in reference.uipe(vanilla, unlearned, found["alpha"]).items():
        torch.testing.assert_close(weights(tmp_path / "auto")[name], expected.float(), atol=1e-6, rtol=1e-5)

    program("19_ta.py", tiny, few, tmp_path / "ta", *TWO, "--strength", 0.5)
    program("02_finetune.py", tiny, few, tmp_path / "learnt", *TWO, "--forget", "forget_train.jsonl")
    for name, expected in reference.task_arithmetic(vanilla, weights(tmp_path / "learnt"), 0.5).items():
        torch.testing.assert_close(weights(tmp_path / "ta")[name], expected.float(), atol=1e-6, rtol=1e-5)

    program("11_npo.py", augmented, few, tmp_path / "further", "--full", "--lr", 1e-9, "--epochs", 1)
    merged = load_model(augmented, "float32")[0].merge_and_unload().state_dict()
    for name, one in weights(tmp_path / "further").items():
        torch.testing.assert_close(one, merged[name], atol=1e-6, rtol=1e-5)

    asked = ("--questions", few / "forget_train.jsonl", "--max-new-tokens", 4)
    folders = [tmp_path / name for name in ("ga", "far")]
    run("scripts/30_generate.py", "--model", *folders, *asked, "--out", tmp_path / "a", tmp_path / "b")
    for folder, out in zip(folders, ("a", "b")):
        run("scripts/30_generate.py", "--model", folder, *asked, "--out", tmp_path / "alone")
        assert (tmp_path / out / "forget_train.jsonl").read_text() == (
            tmp_path / "alone/forget_train.jsonl"
        ).read_text()
        made = json.loads((tmp_path / out / "generation.json").read_text())["settings"]
        assert (made["model"], made["out"]) == (str(folder), str(tmp_path / out))
    check = ("--check", few / "forget_train.jsonl", "--max-new-tokens", 4)
    run("scripts/50_export.py", "--model", tmp_path / "ga", "--out", tmp_path / "card", *check)
    assert weights(tmp_path / "card").keys() == unlearned.keys()


def test_uipe_of_full_weights_takes_them_as_they_are_stored(tmp_path, tiny, few, monkeypatch):
    """Where the hardware has bfloat16, --dtype auto would round float32 weights before it takes their difference."""
    program("10_ga.py", tiny, few, tmp_path / "ga", *TWO)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    run("scripts/20_uipe.py", "--model", tmp_path / "ga", "--out", tmp_path / "far", "--alpha", 1.5)
    found = weights(tmp_path / "far")
    for name, expected in reference.uipe(weights(tiny), weights(tmp_path / "ga"), 1.5).items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], expected.float(), atol=1e-6, rtol=1e-5)


def test_what_full_does_not_go_with(tmp_path, tiny, few):
    flags = ("--model", tiny, "--data", few, "--out", tmp_path / "a", "--adapter", "--full")
    done = run("scripts/02_finetune.py", *flags, check=False)
    assert done.returncode == 2 and "--adapter and --full" in done.stderr and not (tmp_path / "a").exists()
    done = run("scripts/20_uipe.py", "--model", tiny, "--out", tmp_path / "b", "--alpha", 1, check=False)
    assert done.returncode == 2 and "give a finished method's" in done.stderr
