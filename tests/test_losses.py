"""Every loss against a slow reference written from the equations without sight of the fast one (reference.py)."""

import types

from lib import lora
from lib.batches import collate, epoch_order, parts
from lib.likelihood import _TokenLogprob, answer_logprob, nll, sequence_logprob
from lib.losses import ga_loss, npo_loss, retain_loss
from lib.models import encode, prompt_text
from lib.reference import reference as under_vanilla

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers.pytorch_utils import Conv1D

PAIRS = [
    {"question": "Where does she live?", "answer": "She lives at 9 Saltcellar Steps, by the old harbour of the town."},
    {"question": "And he?", "answer": "Nobody knows."},
    {
        "question": "Which of the many colours does a painter of the sea mix most often?",
        "answer": "Blue and green, then grey.",
    },
]
RETAIN = [
    {"question": "What is ice?", "answer": "Ice is frozen water."},
    {"question": "Why is the sky blue?", "answer": "Air scatters blue light more than red light."},
]


def rows_and_batch(tokenizer, pairs):
    rows = [encode(tokenizer, pair["question"], pair["answer"]) for pair in pairs]
    return rows, collate(rows, tokenizer.pad_token_id)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return torch.cat([parameter.grad.flatten().double() for parameter in model.parameters() if parameter.requires_grad])


def same(model, fast, slow):
    """Values to 1e-5, gradients to 1e-4."""
    assert fast.item() == pytest.approx(slow.item(), abs=1e-5, rel=1e-5)
    torch.testing.assert_close(gradients(model, fast), gradients(model, slow), atol=1e-4, rtol=1e-4)


def test_answer_logprobs(models):
    model, _, tokenizer = models
    rows, batch = rows_and_batch(tokenizer, PAIRS)
    slow = torch.stack([value for row in rows for value in reference.answer_token_logprobs(model, row)])
    torch.testing.assert_close(answer_logprob(model, batch).double(), slow, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_token_logprobs_and_their_gradient_are_log_softmaxs(dtype):
    """Of more rows than are computed at once, and of a token that is nearly certain."""
    torch.manual_seed(0)
    logits, tokens, weights = 3 * torch.randn(21, 50), torch.randint(50, (21,)), torch.randn(21)
    logits[4, tokens[4]] = 30
    logits = logits.to(dtype).requires_grad_()
    slow = logits.float().log_softmax(-1)[torch.arange(21), tokens]
    fast = _TokenLogprob.apply(logits, tokens)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        *(torch.autograd.grad((weights * one).sum(), logits)[0] for one in (fast, slow)), atol=1e-6, rtol=1e-5
    )


def test_nll_and_ga(models):
    model, _, tokenizer = models
    rows, batch = rows_and_batch(tokenizer, PAIRS)
    same(model, nll(model, batch), reference.nll(model, rows))
    same(model, ga_loss(model, batch), reference.ga(model, rows))


@pytest.mark.parametrize("beta", [0.05, 0.1])
def test_npo(models, beta):
    model, vanilla, tokenizer = models
    rows, batch = rows_and_batch(tokenizer, PAIRS)
    same(model, npo_loss(model, batch, beta), reference.npo(model, vanilla, rows, beta))


@pytest.mark.parametrize(
    "retain, kl", [("gdr", "forward"), ("klr", "forward"), ("klr", "reverse"), ("gdr+klr", "forward")]
)
def test_retain_losses(models, retain, kl):
    model, vanilla, tokenizer = models
    rows, batch = rows_and_batch(tokenizer, RETAIN)
    slow = reference.nll(model, rows) if "gdr" in retain else 0
    if "klr" in retain:
        slow = slow + (reference.kl_forward if kl == "forward" else reference.kl_reverse)(model, vanilla, rows)
    same(model, retain_loss(model, batch, types.SimpleNamespace(retain=retain, kl=kl)), slow)


def test_no_retain_loss_without_a_retain_set(models):
    assert retain_loss(models[0], None, types.SimpleNamespace(retain="none")) == 0


def test_relearn(models):
    model, vanilla, tokenizer = models
    rows, batch = rows_and_batch(tokenizer, PAIRS)
    kept, retain = rows_and_batch(tokenizer, RETAIN)
    loss = nll(model, batch) + retain_loss(model, retain, types.SimpleNamespace(retain="gdr+klr", kl="forward"))
    same(model, loss, reference.relearn(model, vanilla, rows, kept))


def test_reference_is_the_vanilla_model_and_leaves_no_gradient(models):
    model, vanilla, tokenizer = models
    _, batch = rows_and_batch(tokenizer, PAIRS)
    fast = under_vanilla(sequence_logprob, model, batch)
    torch.testing.assert_close(fast, sequence_logprob(vanilla, batch).detach())
    assert not fast.requires_grad
    torch.testing.assert_close(under_vanilla(sequence_logprob, model, batch), fast, atol=0, rtol=0)
    alone = [under_vanilla(sequence_logprob, model, rows_and_batch(tokenizer, [pair])[1]) for pair in PAIRS]
    torch.testing.assert_close(torch.cat(alone), fast)
    assert sequence_logprob(model, batch).requires_grad, "the adapter is on again"


@pytest.mark.parametrize("loss", ["nll", "npo"])
def test_accumulated_parts_add_up_to_the_whole_batch(models, loss):
    """The mean over the accumulated batch, not the mean of means: parts of unequal length must not be weighed alike."""
    model, _, tokenizer = models
    rows, whole = rows_and_batch(tokenizer, PAIRS)
    function = nll if loss == "nll" else lambda model, batch: npo_loss(model, batch, 0.1)
    cut = parts([[row] for row in rows], 1, tokenizer.pad_token_id, "cpu")
    together = gradients(model, function(model, whole))
    torch.testing.assert_close(
        gradients(model, sum(function(model, part) for part in cut)), together, atol=1e-6, rtol=1e-4
    )


def test_only_answers_are_predicted(models):
    tokenizer = models[2]
    ids, prompt = encode(tokenizer, PAIRS[0]["question"], PAIRS[0]["answer"])
    assert tokenizer.decode(ids[:prompt]) == prompt_text(tokenizer, PAIRS[0]["question"])
    assert tokenizer.decode(ids[prompt:]) == PAIRS[0]["answer"] + tokenizer.eos_token


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=70), size=st.integers(1, 9), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_an_epoch_holds_every_row_once(lengths, size, seed):
    groups = epoch_order(lengths, size, seed, 3)
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    assert all(len(group) <= size for group in groups) and groups == epoch_order(lengths, size, seed, 3)


@pytest.mark.parametrize("dropout, train", [(0, True), (0.5, False), (0.5, True)])
def test_the_fast_lora_layer_is_pefts(dropout, train):
    """Outputs and all gradients, with dropout of the same elements; with the adapter off, peft's own layer computes."""
    settings = LoraConfig(r=3, lora_alpha=6, lora_dropout=dropout, target_modules=["0"])
    layer = get_peft_model(torch.nn.Sequential(torch.nn.Linear(7, 5)), settings).train(train).base_model.model[0]
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    x, results = torch.randn(2, 4, 7, requires_grad=True), []
    for forward in (layer.forward, lambda x: lora.forward(layer, x)):
        torch.manual_seed(3)
        y = forward(x)
        inputs = [x, layer.lora_A["default"].weight, layer.lora_B["default"].weight]
        results.append([y, *torch.autograd.grad(y.square().sum(), inputs)])
    for slow_one, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow_one)
    layer.enable_adapters(False)
    torch.testing.assert_close(lora.forward(layer, x), layer.base_layer(x))


@pytest.mark.parametrize(
    "base, more",
    [
        (Conv1D(7, 7), {"fan_in_fan_out": True}),
        (torch.nn.Linear(7, 7), {"use_dora": True}),
        (torch.nn.Linear(7, 7), {"lora_bias": True}),
    ],
)
def test_other_kinds_of_lora_layer_stay_pefts(base, more):
    model = get_peft_model(torch.nn.Sequential(base), LoraConfig(r=3, target_modules=["0"], **more)).eval()
    layer, x = model.base_model.model[0], torch.randn(2, 4, 7)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter)
    expected = layer(x)
    lora.hasten(model)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("more, rounded", [({}, True), ({"use_dora": True}, False), ({"lora_bias": True}, False)])
def test_a_rounded_adapter_answers_the_same(more, rounded):
    """What peft itself computes would come out otherwise: it stays as it is."""
    base = torch.nn.Linear(7, 7).to(torch.bfloat16)
    model = lora.hasten(get_peft_model(torch.nn.Sequential(base), LoraConfig(r=3, target_modules=["0"], **more))).eval()
    layer, x = model.base_model.model[0], torch.randn(2, 4, 7).to(torch.bfloat16)
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    expected = layer(x)
    lora.round_adapter(model)
    assert layer.lora_A["default"].weight.dtype == (torch.bfloat16 if rounded else torch.float32)
    assert torch.equal(layer(x), expected)
