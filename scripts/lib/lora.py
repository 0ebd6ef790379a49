"""peft's LoRA layer with fewer passes over its wide results: the same numbers to rounding in nine tenths of the
time.
"""

import contextlib
import functools
import warnings
from pathlib import Path

from lib.files import fail

import torch
import torch.nn.functional as F
from peft.tuners import lora


class Product(torch.autograd.Function):
    """x Wᵀ + bias + s·d Aᵀ Bᵀ, d the x that dropout left (None: all of it). Every product adds to the one before, and s
    is multiplied where there are only r columns. Trains A and B."""

    @staticmethod
    def forward(ctx, x, d, weight, bias, a, b, scale):
        """x, d: (rows, in); weight: (out, in); a: (r, in); b: (out, r) → (rows, out)."""
        narrow = ((x if d is None else d) @ a.T).mul_(scale)
        ctx.save_for_backward(x if d is None else d, weight, a, b, narrow)
        ctx.scale, ctx.dropped = scale, d is not None
        return F.linear(x, weight, bias).addmm_(narrow, b.T)

    @staticmethod
    def backward(ctx, grad):
        d, weight, a, b, narrow = ctx.saved_tensors
        inner = (grad @ b).mul_(ctx.scale)
        to_x, to_d = (grad @ weight if ctx.needs_input_grad[0] else None), None
        if ctx.needs_input_grad[1]:
            to_d = inner @ a
        elif to_x is not None and not ctx.dropped:
            to_x.addmm_(inner, a)
        return to_x, to_d, None, None, inner.T @ d, grad.T @ narrow, None


def forward(layer, x):
    """One LoRA layer's output. With the adapter off, merged, of another kind (DoRA, with a bias), or with several on,
    peft computes. In 16 bits the adapter computes in them too, and stays float32 itself."""
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    if (
        layer.disable_adapters
        or layer.merged
        or len(names) != 1
        or names[0] in layer.lora_variant
        or layer.lora_bias[names[0]]
    ):
        return type(layer).forward(layer, x)
    a, b = (matrix[names[0]].weight.to(x.dtype) for matrix in (layer.lora_A, layer.lora_B))
    dropout, flat, base = layer.lora_dropout[names[0]], x.flatten(0, -2), layer.base_layer
    dropped = dropout(flat) if getattr(dropout, "p", 0) and layer.training else None
    return Product.apply(flat, dropped, base.weight, base.bias, a, b, layer.scaling[names[0]]).view(*x.shape[:-1], -1)


@contextlib.contextmanager
def without_warning():
    """Within it peft may ask transformers in an old way."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing")
        yield


def hasten(model):
    """Makes every LoRA layer on a plain linear one (GPT-2's are not) compute by `forward` above; returns the peft
    model.
    """
    for layer in model.modules():
        if type(layer) is lora.Linear and type(layer.base_layer) is torch.nn.Linear:
            layer.forward = functools.partial(forward, layer)
    return model


def round_adapter(model):
    """Rounds the adapters of a model that is only to answer to the type that `forward` computes in: the same numbers,
    without a copy of every matrix at every token."""
    for layer in model.modules():
        fast = isinstance(getattr(layer, "forward", None), functools.partial)
        if fast and not layer.lora_variant and not any(layer.lora_bias.values()):
            layer.lora_A.to(layer.base_layer.weight.dtype)
            layer.lora_B.to(layer.base_layer.weight.dtype)


def adapter_file(folder):
    """The weights of a finished adapter's folder."""
    path = Path(folder, "adapter_model.safetensors")
    if not folder or not path.is_file():
        fail(f"{folder or '--augmented'}: no adapter folder; make it with 02_finetune.py --adapter")
    return path


def beside_a_and_b(settings, *others):
    """What an adapter's settings name that is more than matrices A and B of one rank and alpha: text, "" if nothing.

    Args:
        settings: peft's. others: names of settings that count as more, beside DoRA, whole modules and biases.
    """
    found = [name for name in ("use_dora", "modules_to_save", *others) if getattr(settings, name, None)]
    return ", ".join(found + ["bias"] * (getattr(settings, "bias", "none") != "none"))


def scale_adapter(model, factor):
    """Multiplies the adapter's change of the weights, B·A of every matrix, by `factor`."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B.default" in name:
                parameter.mul_(factor)
