"""The methods that others compare with: each loss against a slow reference that was written from the equations without
sight of it (reference_losses.py), what the equations promise, and each script as a user runs it.
"""

import copy
import json
import math
import runpy
import types

from lib import losses
from lib.batches import Batch, collate, parts
from lib.likelihood import answer_logprob, answer_states, nll
from lib.losses import dpo_loss, ga_loss
from lib.models import read_model
from lib.reference import weights_of
from lib.trainer import Trainer

import pytest
import reference
import reference_losses as slow
import torch
import transformers
from conftest import REPOSITORY, as_a_program, load
from safetensors.torch import load_file
from test_losses import PAIRS, RETAIN, rows_and_batch
from test_training import assert_same

simnpo, altpo, undial, wga, ceu, pdu, rmu, me, idk_ap, ihl = (
    load(f"scripts/{name}.py")
    for name in "21_simnpo 22_altpo 23_undial 24_wga 25_ceu 26_pdu 27_rmu 28_me 29_idk_ap 31_ihl".split()
)
REFUSALS = [
    {**pair, "answer": answer} for pair, answer in zip(PAIRS, ("I don't know.", "Sorry, I can't say.", "No idea."))
]


@pytest.fixture(scope="module")
def learnt(models):
    """(LoRA model that knows the answers in part, so that its p are neither 0 nor 1; vanilla model; tokenizer)."""
    model, vanilla, tokenizer = copy.deepcopy(models)
    for one in (model, vanilla):
        one.get_output_embeddings().weight.data.mul_(8)
    batch = rows_and_batch(tokenizer, PAIRS)[1]
    optimizer = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=1e-2)
    for _ in range(15):
        optimizer.zero_grad()
        nll(model, batch).backward()
        optimizer.step()
    p = answer_logprob(model, batch).exp()
    assert p.min() < 0.1 and p.max() > 0.4
    return model, vanilla, tokenizer


def gradient(model, loss):
    """Zeros where it does not reach, as RMU's beyond its block."""
    model.zero_grad()
    loss.backward()
    trained = [one for one in model.parameters() if one.requires_grad]
    return torch.cat([(torch.zeros_like(one) if one.grad is None else one.grad).flatten().double() for one in trained])


def same(model, fast, slowly, closely=1e-4):
    """Values to 1e-5, gradients to 1e-4 of their largest entry."""
    assert fast.item() == pytest.approx(slowly.item(), abs=1e-6, rel=1e-5)
    expected = gradient(model, slowly)
    largest = expected.abs().max()
    assert largest > 1e-6, "a gradient that says nothing"
    torch.testing.assert_close(gradient(model, fast) / largest, expected / largest, atol=closely, rtol=0)


def rmu_retain(model, batch):
    with torch.no_grad(), weights_of(model, None):
        vanilla = answer_states(model, batch, 1)
    return rmu.rmu_loss(answer_states(model, batch, 1), vanilla, batch)


def direction(size):
    vector = torch.rand(size, generator=torch.Generator().manual_seed(5))
    return vector / vector.norm()


# the loss of (model, batch of PAIRS, batch of REFUSALS), and its reference's of (model, vanilla model, rows, rows)
LOSSES = {
    "SimNPO": (
        lambda model, a, b: simnpo.simnpo_loss(model, a, 4.5, 0.0),
        lambda model, vanilla, a, b: slow.simnpo(model, a, 4.5, 0.0),
    ),
    "SimNPO with a margin": (
        lambda model, a, b: simnpo.simnpo_loss(model, a, 2.5, 1.0),
        lambda model, vanilla, a, b: slow.simnpo(model, a, 2.5, 1.0),
    ),
    "AltPO": (
        lambda model, a, b: dpo_loss(model, b, a, 0.1, scale=2 / 0.1),
        lambda model, vanilla, a, b: slow.altpo(model, vanilla, b, a, 0.1),
    ),
    "UNDIAL": (
        lambda model, a, b: undial.undial_loss(model, a, 10.0),
        lambda model, vanilla, a, b: slow.undial(model, vanilla, a, 10.0),
    ),
    "WGA": (
        lambda model, a, b: wga.weighted_ga_loss(model, a, 1.0, 0.0),
        lambda model, vanilla, a, b: slow.wga(model, a, 1.0),
    ),
    "SatImp": (
        lambda model, a, b: wga.weighted_ga_loss(model, a, 5.0, 1.0),
        lambda model, vanilla, a, b: slow.satimp(model, a, 5.0, 1.0),
    ),
    "CE-U": (lambda model, a, b: ceu.ceu_loss(model, a), lambda model, vanilla, a, b: slow.ceu(model, a)),
    "PDU": (lambda model, a, b: pdu.pdu_loss(model, a), lambda model, vanilla, a, b: slow.pdu_forget(model, a)),
    "RMU": (
        lambda model, a, b: rmu.rmu_loss(answer_states(model, a, 1), 2 * direction(model.config.hidden_size), a),
        lambda model, vanilla, a, b: slow.rmu_forget(model, a, 0, direction(model.config.hidden_size), 2.0),
    ),
    "RMU's retain loss": (
        lambda model, a, b: rmu_retain(model, a),
        lambda model, vanilla, a, b: slow.rmu_retain(model, vanilla, a, 0),
    ),
    "ME": (lambda model, a, b: me.entropy_loss(model, a), lambda model, vanilla, a, b: slow.maximum_entropy(model, a)),
    "AP": (
        lambda model, a, b: idk_ap.preservation_loss(model, a, b, 0.1),
        lambda model, vanilla, a, b: slow.answer_preservation(model, a, b, 0.1),
    ),
    "IHL": (
        lambda model, a, b: ihl.inverted_hinge_loss(model, a),
        lambda model, vanilla, a, b: slow.inverted_hinge(model, a),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_against_its_equation(learnt, name):
    model, vanilla, tokenizer = learnt
    (rows, batch), (refusals, refused) = rows_and_batch(tokenizer, PAIRS), rows_and_batch(tokenizer, REFUSALS)
    fast, slowly = LOSSES[name]
    same(model, fast(model, batch, refused), slowly(model, vanilla, rows, refusals))


@pytest.mark.parametrize("name", LOSSES)
def test_parts_of_an_accumulated_batch_add_up(learnt, name):
    """Also with one that does not count, which several processes make of a row where one of them has none left."""
    model, _, tokenizer = learnt
    (rows, batch), (refusals, refused) = rows_and_batch(tokenizer, PAIRS), rows_and_batch(tokenizer, REFUSALS)
    fast, pad = LOSSES[name][0], tokenizer.pad_token_id
    cut = parts(list(zip(rows, refusals)), 1, pad, "cpu")
    cut.append([collate(one[:1], pad, math.inf, math.inf) for one in (rows, refusals)])
    assert len(cut) == 4
    same(model, sum(fast(model, *part) for part in cut), fast(model, batch, refused))


def test_weights_of_ascent_at_their_limits(learnt):
    """No exponent: GA. No exponent of 1 - p: WGA."""
    model, _, tokenizer = learnt
    rows, batch = rows_and_batch(tokenizer, PAIRS)
    same(model, wga.weighted_ga_loss(model, batch, 0.0, 0.0), ga_loss(model, batch))
    same(model, wga.weighted_ga_loss(model, batch, 2.0, 0.0), slow.wga(model, rows, 2.0))


def test_simnpo_leaves_an_answer_alone_that_is_forgotten(monkeypatch):
    """Its pull on each log-probability is 2 σ(-β NLL) / |y|: 1 / |y| at NLL 0, nothing when that is large."""
    answer = torch.ones((1, 5), dtype=torch.bool)
    pulls = []
    for a_token in (0.0, 0.5, 2.0, 30.0):
        logprob = torch.tensor([-5 * a_token], requires_grad=True)
        monkeypatch.setattr(simnpo, "sequence_logprob", lambda *_, now=logprob: now)
        simnpo.simnpo_loss(None, Batch(torch.ones(1, 5), answer, 5, 1), 4.5, 0.0).backward()
        pulls.append(logprob.grad.item())
    expected = [2 / (1 + math.exp(4.5 * a_token)) / 5 for a_token in (0.0, 0.5, 2.0, 30.0)]
    assert pulls == pytest.approx(expected, rel=1e-4, abs=1e-12) and pulls[0] == pytest.approx(0.2) and pulls[3] < 1e-12


@pytest.mark.parametrize("lengths", [(1,), (3,), (1, 3, 2), (2, 1, 4)])
def test_ceu_leaves_first_answer_tokens_out(monkeypatch, lengths):
    batch = collate([(list(range(2 + many)), 2) for many in lengths], 0)
    logits = torch.randn((sum(lengths), 9), generator=torch.Generator().manual_seed(1), requires_grad=True)
    monkeypatch.setattr(ceu, "answer_logits", lambda *_: logits)
    loss = ceu.ceu_loss(None, batch)
    loss.backward()
    first = [at == 0 for many in lengths for at in range(many)]
    assert (logits.grad.abs().sum(1) == 0).tolist() == first and math.isfinite(loss.item())


@pytest.mark.parametrize(
    "p, loss, pull",
    [
        ([0.0, 1.0, 0.0, 0.0], 2.0, [0.0, 0.0, 0.0, 0.0]),
        ([0.0, 0.0, 1.0, 0.0], 0.0, [0.0, 0.0, 0.0, 0.0]),
        ([0.0, 0.5, 0.5, 0.0], 1.0, [0.0, 0.5, -0.5, 0.0]),
        ([0.1, 0.6, 0.2, 0.1], 1.4, [-0.04, 0.36, -0.28, -0.04]),
    ],
)
def test_the_inverted_hinge_rests_at_both_ends_and_lifts_the_likeliest_other_token_between(monkeypatch, p, loss, pull):
    """Token 1 is the true one. Of a logit the gradient is p_v ([v = true] - [v = likeliest other] - (loss - 1))."""
    batch, logits = collate([([0, 1], 1)], 0), torch.tensor([p]).clamp(min=1e-30).log().requires_grad_()
    monkeypatch.setattr(ihl, "answer_logits", lambda *_: logits)
    found = ihl.inverted_hinge_loss(None, batch)
    found.backward()
    assert found.item() == pytest.approx(loss, abs=1e-6) and logits.grad[0].tolist() == pytest.approx(pull, abs=1e-6)


# ---------------------------------------------------------------- the scripts


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A data folder of three forget pairs, two retain pairs and two alternatives to each forget pair."""
    folder = tmp_path_factory.mktemp("few")
    inverted = [{"question": pair["question"], "answers": ["Ada does.", "Bo."]} for pair in PAIRS]
    for name, rows in (("forget_train", PAIRS), ("retain_train", RETAIN), ("forget_inverted", inverted)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def program(script, model, data, out, *flags):
    """Runs a script in this process; returns its names."""
    command = ("--model", model, "--data", data, "--out", out, "--batch", 2, "--lora-dropout", 0, "--dtype", "float32")
    with as_a_program(script, (*command, *flags), None):
        return runpy.run_path(str(REPOSITORY / "scripts" / script), run_name="__main__")


RMU = ("--layer", 1)
# L of the spec's settings for the vanilla model, from its forget rows (one column, or two) and its retain rows
WHOLE = {
    "21_simnpo.py": lambda v, a, r, _: 0.125 * slow.simnpo(v, *a, 4.5, 0.0) + reference.nll(v, *r),
    "22_altpo.py": lambda v, a, r, _: slow.altpo(v, v, *a, 0.1) + reference.nll(v, *r),
    "23_undial.py": lambda v, a, r, _: slow.undial(v, v, *a, 10.0),
    "24_wga.py": lambda v, a, r, _: slow.wga(v, *a, 1.0) + reference.nll(v, *r),
    "25_ceu.py": lambda v, a, r, _: slow.ceu(v, *a),
    "26_pdu.py": lambda v, a, r, _: slow.pdu_forget(v, *a) + 100 * reference.nll(v, *r),
    "27_rmu.py": lambda v, a, r, names: slow.rmu_forget(v, *a, 0, names["vector"] / names["vector"].norm(), 2.0),
    "28_me.py": lambda v, a, r, _: 0.1 * slow.maximum_entropy(v, *a) + reference.nll(v, *r),
    "29_idk_ap.py": lambda v, a, r, _: reference.idk(v, *a) + slow.answer_preservation(v, *r, 0.1),
    "31_ihl.py": lambda v, a, r, _: slow.inverted_hinge(v, *a) + reference.nll(v, *r),
}


@pytest.mark.parametrize("script", WHOLE)
def test_two_updates_of_each_script(tmp_path, models, tiny, few, script):
    """The first update's loss is the whole one, weights included: of all rows at once, as several passes."""
    flags = RMU if script.startswith("27") else ()
    names = program(script, tiny, few, tmp_path / "out", "--epochs", 2, "--accumulation", 3, "--lr", 1e-3, *flags)
    updates = json.loads((tmp_path / "out/training.json").read_text())["updates"]
    weights = load_file(tmp_path / "out/adapter_model.safetensors")
    assert len(updates) == 2 and any(one.abs().max() > 1e-5 for name, one in weights.items() if "lora_B" in name)
    forget, retain = next(names["trainer"]._batches())
    assert len(forget) == (6 if script.startswith("22") else 3)
    with torch.no_grad():
        whole = WHOLE[script](models[1], list(zip(*forget)), list(zip(*retain)), names)
    assert updates[0]["loss"] == pytest.approx(whole.item(), rel=1e-4, abs=1e-6)


def test_altpo_rejects_every_true_answer_and_says_what_it_leaves_out(tmp_path, capsys):
    def written(name, *rows):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    args = types.SimpleNamespace(data=str(tmp_path), forget="f.jsonl", alternatives="a.jsonl")
    written("f.jsonl", *({"question": "Who?", "answer": text} for text in ("Ada.", "Bo.")))
    one, two = ({"question": "Who?", "answers": [text]} for text in ("Cy.", "Di."))
    answers = lambda: [tuple(pair["answer"] for pair in both) for both in zip(*altpo.alternatives(args), strict=True)]
    written("a.jsonl", one, {"question": "Where?", "answers": ["Here."]}, two)
    assert answers() == [("Cy.", "Ada."), ("Di.", "Bo.")]
    assert "1 of 2 questions are not in" in capsys.readouterr().err
    written("a.jsonl", one)
    assert answers() == [("Cy.", "Ada."), ("Cy.", "Bo.")] and not capsys.readouterr().err
    written("a.jsonl", {"question": "Where?", "answers": ["Here."]})
    with pytest.raises(SystemExit):
        answers()
    assert "a.jsonl: holds no alternative answer to a question of" in capsys.readouterr().err


def test_rmu_computes_no_later_block_and_its_vector_is_the_seeds(tmp_path, tiny, few):
    computed, vectors = set(), {}

    def note(module, _):
        if hasattr(module, "self_attn"):
            computed.add(module.self_attn.layer_idx)

    hook = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        for name, seed, steering in (("a", 0, 2), ("b", 0, 20), ("c", 1, 2)):
            flags = ("--epochs", 1, "--accumulation", 2, "--seed", seed, "--steering", steering)
            vectors[name] = program("27_rmu.py", tiny, few, tmp_path / name, *RMU, *flags)["vector"]
    finally:
        hook.remove()
    assert computed == {0}, "only the first of two blocks"
    assert vectors["a"].norm().item() == pytest.approx(2) and vectors["a"].min() >= 0
    torch.testing.assert_close(vectors["b"], 10 * vectors["a"])
    assert not torch.allclose(vectors["c"], vectors["a"], atol=1e-2)


def test_rmu_takes_its_sizes_from_the_text_models_configuration(tmp_path, tiny, few, monkeypatch):
    """That of a model with images has others, or none."""
    model, tokenizer = read_model(tiny, "float32")
    text = copy.deepcopy(model.config)
    monkeypatch.setattr(transformers.LlamaConfig, "get_text_config", lambda *_, **__: text)
    monkeypatch.setattr("lib.trainer.read_model", lambda *_: (model, tokenizer))
    model.config.num_hidden_layers = 32
    assert program("27_rmu.py", tiny, few, tmp_path / "out", "--epochs", 1)["block"] == 1, "of two, not of 32"


def dual_run(monkeypatch, stop=None):
    """Notes the α after each update and the retain loss of each; with `stop`, ends in place of its checkpoint there."""
    alphas, rest = [], [0.0]
    retain_loss, update, checkpoint = losses.retain_loss, Trainer.update, Trainer._checkpoint

    def noted_loss(*args):
        loss = retain_loss(*args)
        rest[-1] += loss.item()
        return loss

    def noted_update(trainer, loss):
        update(trainer, loss)
        if not trainer.waiting:
            alphas.append(trainer.kept["alpha"])
            rest.append(0.0)

    def last(trainer):
        checkpoint(trainer)
        if trainer.done == stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(losses, "retain_loss", noted_loss)
    monkeypatch.setattr(Trainer, "update", noted_update)
    monkeypatch.setattr(Trainer, "_checkpoint", last)
    return alphas, rest


PDU = ("--epochs", 4, "--accumulation", 1, "--warm-up", 0.375, "--alpha", 3, "--lr", 1e-3, "--checkpoint-every", 5)


@pytest.mark.parametrize("epsilon, step, ends", [(0.3, 0.5, lambda a: a > 10), (12.0, 0.5, lambda a: a == 0)])
def test_pdu_moves_its_weight_after_the_warm_up(tmp_path, tiny, few, monkeypatch, epsilon, step, ends):
    """Eight updates, three of them in the warm-up. The retain loss is that of all parts of the batch."""
    alphas, rest = dual_run(monkeypatch)
    flags = (*PDU, "--epsilon", epsilon, "--step", step)
    program("26_pdu.py", tiny, few, tmp_path / "out", *flags, "--batch", 1, "--accumulation", 2)
    assert len(alphas) == 8 and alphas[:3] == [3.0] * 3 and ends(alphas[-1])
    assert alphas == pytest.approx(slow.pdu_alphas(rest[:-1], 3.0, epsilon, step, 3), rel=1e-6)


def test_pdu_moves_its_weight_in_a_short_training_too(tmp_path, tiny, few, monkeypatch):
    alphas, _ = dual_run(monkeypatch)
    program("26_pdu.py", tiny, few, tmp_path / "out", "--epochs", 2, "--accumulation", 1, "--lr", 1e-3)
    assert len(alphas) == 4 and alphas[:2] == [100.0] * 2 and alphas[3] > alphas[2] > 100, "from half of it on"


def test_a_killed_pdu_continues_with_its_weight(tmp_path, tiny, few, monkeypatch):
    alphas = {}
    for name, stop in (("whole", None), ("killed", 5), ("continued", None)):
        with monkeypatch.context() as patch:
            alphas[name], _ = dual_run(patch, stop)
            out = tmp_path / ("whole" if name == "whole" else "killed")
            if stop:
                with pytest.raises(KeyboardInterrupt):
                    program("26_pdu.py", tiny, few, out, *PDU)
            else:
                program("26_pdu.py", tiny, few, out, *PDU)
    assert len(set(alphas["whole"])) == 6 and len(alphas["killed"]) == 4
    assert alphas["continued"] == alphas["whole"][5:]
    assert_same(tmp_path / "whole", tmp_path / "killed")
