"""Views of one model: its likeliest next tokens, the logit lens, and direct logit attribution.

Every model has the first. The lens needs a decoder with `layers` and a final `norm`; attribution needs layers with
`self_attn.o_proj` and `mlp` as well, and RMSNorms. Both are checked against the model's own logits.
"""

import sys
from collections import defaultdict

from lib.files import progress

import torch

LENS, ATTRIBUTION = VIEWS = ("logit lens", "attribution")


class Unreadable(Exception):
    """A model computes otherwise than a view takes it to: (views that are lost, why)."""


def readable(model) -> set[str]:
    """The views, of VIEWS, that a model's layout allows."""
    decoder = model.get_decoder()
    layers = getattr(decoder, "layers", None)
    if not layers or not hasattr(decoder, "norm") or model.get_output_embeddings() is None:
        return set()
    parts = all(hasattr(layer, "mlp") and hasattr(getattr(layer, "self_attn", None), "o_proj") for layer in layers)
    return {LENS, ATTRIBUTION} if parts else {LENS}


# ---------------------------------------------------------------- one forward pass, watched


def watch(model, ids: torch.Tensor, places: torch.Tensor, start: int, views=frozenset(VIEWS)) -> tuple:
    """Runs the model on right-padded ids and gathers what its parts write at one place of each row.

    Args:
        ids: (rows, length). places: (rows,) the place to look at. start: the first place whose logits are wanted.
        views: what it is gathered for.
    Returns:
        (logits (rows, length - start, vocabulary) as the model gives them; lists with a tensor a layer: "residual"
        (rows, hidden), before the first layer and after each; "heads" (rows, heads × head size), into o_proj;
        "attention", "mlp" (rows, hidden), out of o_proj and out of the MLP).
    """
    seen, rows, hooks = defaultdict(list), torch.arange(len(ids), device=ids.device), []

    def keep(name, states):
        seen[name].append((states[0] if isinstance(states, tuple) else states)[rows, places])

    def attended(_, inputs, output):
        keep("heads", inputs)
        keep("attention", output)

    layers = model.get_decoder().layers if views else []
    if views:
        hooks.append(layers[0].register_forward_pre_hook(lambda _, inputs: keep("residual", inputs)))
    for layer in layers:
        hooks.append(layer.register_forward_hook(lambda _, inputs, output: keep("residual", output)))
        if ATTRIBUTION in views:
            hooks.append(layer.self_attn.o_proj.register_forward_hook(attended))
            hooks.append(layer.mlp.register_forward_hook(lambda _, inputs, output: keep("mlp", output)))
    try:
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=ids.shape[1] - start).logits.float()
    finally:
        for hook in hooks:
            hook.remove()
    return logits, seen


# ---------------------------------------------------------------- logit lens


def uncapped(model, states: torch.Tensor) -> torch.Tensor:
    """Final norm and output layer: (rows, hidden) → logits (rows, vocabulary), before Gemma-2's cap."""
    return model.get_output_embeddings()(model.get_decoder().norm(states))


def capped(model, logits: torch.Tensor) -> torch.Tensor:
    """Gemma-2 ends in c · tanh(logits / c); it moves probabilities and no rank."""
    size = getattr(model.config, "final_logit_softcapping", None)
    return size * (logits / size).tanh() if size else logits


def _standing(logits, tokens):
    """Probability and rank of a token a row, (rows,) each. logits: (rows, vocabulary), tokens: (rows,)."""
    value = logits.gather(1, tokens[:, None])
    return (value - logits.logsumexp(-1, keepdim=True)).exp()[:, 0], (logits > value).sum(-1) + 1


def lens(model, residual: list, own: torch.Tensor, tokens: torch.Tensor) -> list:
    """(probability, rank) of the tokens after each layer, (rows,) each; own: the model's logits (rows, vocabulary)."""
    found = []
    for states in residual:
        logits = capped(model, uncapped(model, states))
        found.append(_standing(logits, tokens))
    if (logits - own).abs().max() > 1e-3 * max(1, own.abs().max()):
        raise Unreadable(
            {LENS, ATTRIBUTION}, "norm and output layer on the last layer do not give the model's own logits"
        )
    return found


# ---------------------------------------------------------------- attribution


def frozen(norm, states: torch.Tensor) -> torch.Tensor:
    """The factors by which an RMSNorm multiplies just these states, (rows, hidden): norm(states) = states · factors.

    Found from outside, as one norm multiplies by its weight w and another by 1 + w: from long equal entries it makes
    that factor.
    """
    gain, out = norm(torch.full_like(states[:1], 1e4)), norm(states)
    return gain * (out.norm(dim=-1, keepdim=True) / (gain * states).norm(dim=-1, keepdim=True))


def contributions(model, seen: dict, tokens: torch.Tensor) -> tuple:
    """Direct logit attribution of (logit of the token - mean logit), before any cap, with the norms' scales held.

    Args:
        seen: what `watch` gathered. tokens: (rows,) token ids.
    Returns:
        (embedding (rows,); heads and MLP (rows, layers, heads + 1), the MLP last; the difference that they must add up
        to (rows,)).
    """
    decoder, output = model.get_decoder(), model.get_output_embeddings()
    count, last = model.config.num_attention_heads, seen["residual"][-1]
    direction = (output.weight[tokens] - output.weight.mean(0)) * frozen(decoder.norm, last)
    parts = []
    for layer, heads, attention, mlp in zip(decoder.layers, seen["heads"], seen["attention"], seen["mlp"], strict=True):
        to_heads = to_mlp = direction
        if hasattr(layer, "post_feedforward_layernorm"):  # Gemma-2: a norm between each part and the residual stream
            to_heads = direction * frozen(layer.post_attention_layernorm, attention)
            to_mlp = direction * frozen(layer.post_feedforward_layernorm, mlp)
        by_head = (heads * (to_heads @ layer.self_attn.o_proj.weight)).view(len(heads), count, -1).sum(-1)
        parts.append(torch.cat([by_head, (mlp * to_mlp).sum(-1, keepdim=True)], 1))
    logits = uncapped(model, last)
    difference = logits.gather(1, tokens[:, None])[:, 0] - logits.mean(-1)
    return (seen["residual"][0] * direction).sum(-1), torch.stack(parts, 1), difference


def attribution(model, seen: dict, tokens: torch.Tensor) -> list[dict]:
    """`contributions`, a dict a row: "embedding", "difference", "error" (numbers), "parts" (layers, heads + 1)."""
    embedding, parts, difference = contributions(model, seen, tokens)
    error = (embedding + parts.sum((1, 2)) - difference).abs()
    if (error > 1e-3 * difference.abs().clamp(min=1)).any():
        raise Unreadable({ATTRIBUTION}, "heads and MLPs do not add up to the logit")
    numbers = zip(embedding.tolist(), difference.tolist(), error.tolist(), parts.cpu(), strict=True)
    return [dict(zip(("embedding", "difference", "error", "parts"), row, strict=True)) for row in numbers]


# ---------------------------------------------------------------- all views


def _top5(logits, row, start, positions):
    """The five likeliest tokens at a row's first positions and at the value's. logits: from place `start` on."""
    wanted = sorted({*range(row["start"], min(row["start"] + positions, len(row["ids"]))), row["at"]})
    found = []
    for place in wanted:
        best = torch.topk(logits[place - 1 - start].softmax(-1), 5)
        found.append((place, list(zip(best.indices.tolist(), best.values.tolist()))))
    return found


def _see_batch(model, rows, positions, views):
    """The views of some rows in one forward pass."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row["ids"]) for row in rows], batch_first=True).to(model.device)
    tokens = torch.tensor([row["ids"][row["at"]] for row in rows], device=model.device)
    places = torch.tensor([row["at"] - 1 for row in rows], device=model.device)
    start = min(row["start"] for row in rows) - 1
    logits, seen = watch(model, ids, places, start, views)
    own = logits[torch.arange(len(rows), device=ids.device), places - start]
    standing = lens(model, seen["residual"], own, tokens) if LENS in views else [_standing(own, tokens)]
    parts = attribution(model, seen, tokens) if ATTRIBUTION in views else [{}] * len(rows)
    return [
        {
            "top5": _top5(logits[number], row, start, positions),
            "probability": [probability[number].item() for probability, _ in standing],
            "rank": [rank[number].item() for _, rank in standing],
            **parts[number],
        }
        for number, row in enumerate(rows)
    ]


def see(model, rows: list[dict], positions: int, batch: int, views=frozenset(VIEWS)) -> list[dict]:
    """The views of every row.

    Args:
        rows: as `locate` gives them. positions: so many of the first answer positions for the likeliest tokens. views:
        of VIEWS.
    Returns:
        list of {"top5": [(place, [(token id, probability)])]; "probability", "rank": the value's first token after each
        layer, layers + 1 numbers (without the lens one number, at the end); with attribution "embedding", "difference",
        "error": numbers, and "parts": tensor (layers, heads + 1)}.
    Raises:
        Unreadable: the model computes otherwise than a view takes it to.
    """
    found = []
    for at in progress(range(0, len(rows), batch), desc="views", unit="batch", leave=False):
        with torch.inference_mode():
            found += _see_batch(model, rows[at : at + batch], positions, views)
    return found


def see_what_can_be(model, name: str, rows: list[dict], positions: int, batch: int, views: set) -> tuple[list, set]:
    """(`see` with those of the views that this model allows, these views); one line says which are left out."""
    reason = "its layers are not laid out like Llama's or Gemma-2's"
    lost = views - readable(model)
    views = views - lost
    while True:
        if lost:
            left_out = " and ".join(view for view in VIEWS if view in lost)
            print(f"{name}: {model.config.model_type}: without {left_out} ({reason})", file=sys.stderr)
        try:
            return see(model, rows, positions, batch, views), views
        except Unreadable as error:
            lost, reason = error.args
            views = views - lost
