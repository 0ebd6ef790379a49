"""Weights rounded to what a smaller file can store."""

import contextlib
import math

from lib.files import fail

import torch
from transformers.pytorch_utils import Conv1D

PRECISIONS = ("float16", "bfloat16", "int8", "int4")
GROUP = 32  # int4: weights of a row that share a scale, the finest usual choice, as a small model needs it


def rounded(weight: torch.Tensor, precision: str) -> torch.Tensor:
    """What is left of a weight (out, in) when it is stored in `precision`, in the dtype it came in.

    int8: whole numbers of -128 to 127 and a scale a row; int4: of -8 to 7 and a scale for each GROUP of a row; both
    symmetric, the largest weight of a scale exact. torchao's weight-only types store the same; they multiply faster,
    which is not asked here.
    """
    if precision in ("float16", "bfloat16"):
        return weight.to(getattr(torch, precision)).to(weight.dtype)
    top = 127 if precision == "int8" else 7
    size = weight.shape[1] if precision == "int8" else math.gcd(GROUP, weight.shape[1])
    part = weight.float().reshape(-1, size)
    scale = (part.abs().amax(1) / top).clamp_min(torch.finfo(torch.float32).tiny)
    zero = torch.zeros(len(scale), dtype=torch.int32, device=weight.device)
    whole = torch.fake_quantize_per_channel_affine(part, scale, zero, 0, -top - 1, top)
    return whole.reshape(weight.shape).to(weight.dtype)


def _chosen(model, precision):
    """The weights that are rounded, (out, in) each: all; for whole numbers those of the linear layers but the last."""
    if precision in ("float16", "bfloat16"):
        return list(model.parameters())
    last = model.get_output_embeddings()
    layers = [layer for layer in model.modules() if isinstance(layer, (torch.nn.Linear, Conv1D)) and layer is not last]
    if not layers:
        fail(f"the model has no linear layers to store in {precision}; leave it out by --attacks")
    return [layer.weight.detach().T if isinstance(layer, Conv1D) else layer.weight for layer in layers]


@contextlib.contextmanager
def stored_in(model, precision: str):
    """The model with rounded weights, and its own again afterwards. Whole numbers: all linear layers but the last, as
    is usual.

    A GPU also multiplies in float16 or bfloat16; a CPU computes in float32 whatever is stored, so only the rounding
    shows.
    """
    chosen = _chosen(model, precision)
    kept = [weight.detach().to("cpu", copy=True) for weight in chosen]
    try:
        with torch.no_grad():
            for weight in chosen:
                weight.copy_(rounded(weight, precision))
        half = model.device.type == "cuda" and precision in ("float16", "bfloat16")
        with torch.autocast("cuda", getattr(torch, precision)) if half else contextlib.nullcontext():
            yield
    finally:
        with torch.no_grad():
            for weight, own in zip(chosen, kept, strict=True):
                weight.copy_(own)
