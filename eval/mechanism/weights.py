"""How far each weight matrix moved from vanilla's, and over how many directions."""

import math
from collections import Counter, defaultdict

from lib.files import mean

import torch


def spectrum(model) -> dict[str, torch.Tensor]:
    """{weight's name: singular values} of an adapter's B·A, from its two thin factors, without the full matrix."""
    found = {}
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and "default" in module.lora_A:
            factors = (module.lora_B["default"].weight, module.lora_A["default"].weight.T)
            b, a = (torch.linalg.qr(factor.float())[1] for factor in factors)
            values = torch.linalg.svdvals(b @ a.T) * abs(module.scaling["default"])
            found[name.removeprefix("base_model.model.") + ".weight"] = values
    return found


def difference_spectrum(weights: dict, vanilla: dict) -> dict[str, torch.Tensor]:
    """{weight's name: singular values} of W - W_vanilla, for every matrix that moved."""
    moved = ((name, weight.float() - vanilla[name].to(weight.device)) for name, weight in weights.items())
    return {name: torch.linalg.svdvals(change) for name, change in moved if change.any()}


def effective_rank(values: list[float]) -> float:
    """exp of the entropy of singular values that sum to 1 (Roy and Vetterli 2007): 1 for one direction, n for n equal
    ones, 0 for none.
    """
    shares = [value / total for value in values if value > 0] if (total := math.fsum(values)) > 0 else []
    return math.exp(-math.fsum(share * math.log(share) for share in shares)) if shares else 0.0


def places(names) -> dict[str, tuple[int | None, str | None]]:
    """{weight's name: (its layer, its module)}, (None, None) outside the layers; the first number in a name is the
    layer.

    A module goes by its own name, q_proj, or where a layer has two of that name, by its path: attn.c_proj, mlp.c_proj.
    """
    found = {}
    for name in names:
        parts = name.split(".")
        at = next((at for at, part in enumerate(parts) if part.isdigit()), None)
        found[name] = (None, None) if at is None else (int(parts[at]), ".".join(parts[at + 1 : -1]))
    own = lambda path: path.rsplit(".", 1)[-1]
    count = Counter((layer, own(path)) for layer, path in found.values() if path is not None)
    double = {module for (_, module), times in count.items() if times > 1}
    return {
        name: (layer, path if path is None or own(path) in double else own(path))
        for name, (layer, path) in found.items()
    }


def layer_count(names) -> int:
    """How many layers these weights' names tell of."""
    return 1 + max((layer for layer, _ in places(names).values() if layer is not None), default=-1)


def movement(spectra: dict, norms: dict[str, float], layers: int) -> dict:
    """How far the weights moved.

    Args:
        spectra: {weight's name: singular values of its change}. norms: {weight's name: Frobenius norm under vanilla},
        of every matrix. layers: how many there are.
    Returns:
        {"norm": relative norm of the change of all layers together; "layers": the same by layer; "other": of the
        matrices outside the layers; "modules": {name: {"norm", "rank": means over the layers, "by_layer": relative
        norms}}; "rank": mean effective rank of the moved matrices}.
    """
    moved, whole = defaultdict(float), defaultdict(float)
    modules, ranks, known = defaultdict(lambda: [0.0] * layers), defaultdict(list), places(norms)
    for name, norm in norms.items():
        values = spectra[name].tolist() if name in spectra else []
        layer, module = known[name]
        change = math.sqrt(math.fsum(value * value for value in values))
        moved[layer] += change**2
        whole[layer] += norm**2
        if values and module:
            modules[module][layer] = change / norm
            ranks[module].append(effective_rank(values))
    relative = lambda layer: math.sqrt(moved[layer] / whole[layer]) if whole[layer] else 0.0
    inside = [sum(part[layer] for layer in range(layers)) for part in (moved, whole)]
    return {
        "norm": math.sqrt(inside[0] / inside[1]) if inside[1] else 0.0,
        "layers": [relative(layer) for layer in range(layers)],
        "other": relative(None),
        "rank": mean(rank for each in ranks.values() for rank in each) if ranks else 0.0,
        "modules": {
            name: {"norm": mean(values), "rank": mean(ranks[name]), "by_layer": values}
            for name, values in modules.items()
        },
    }
