"""What the views and the weights say, in numbers and in words."""

import statistics

from lib.files import mean
from lib.formats import plain

from mechanism.views import ATTRIBUTION, LENS, VIEWS

# ---------------------------------------------------------------- numbers


def first(ranks: list[int], best: int) -> int | None:
    """The first layer after which the token is among the `best` likeliest, 0: the embedding; None where it never is."""
    return next((layer for layer, rank in enumerate(ranks) if rank <= best), None)


def _by_layer(found):
    """What the lens says of one model."""
    column = lambda name: list(zip(*(row[name] for row in found)))
    told = {"probability_by_layer": [mean(layer) for layer in column("probability")]}
    for name, best in (("first", 1), ("top5", 5)):
        layers = [layer for layer in (first(row["rank"], best) for row in found) if layer is not None]
        told |= {
            f"{name}_by_layer": [mean(rank <= best for rank in layer) for layer in column("rank")],
            f"{name}_in_some_layer": len(layers) / len(found),
            f"{name}_layer_median": statistics.median_low(layers) if layers else None,
        }
    return told


def _by_part(found):
    """What attribution says of one model."""
    parts = sum(row["parts"] for row in found) / len(found)
    return {
        "difference": mean(row["difference"] for row in found),
        "embedding": mean(row["embedding"] for row in found),
        "largest_error": max(row["error"] for row in found),
        "heads": parts[:, :-1].tolist(),
        "mlp": parts[:, -1].tolist(),
    }


def describe(found: list[dict], views=frozenset(VIEWS)) -> dict:
    """One model's summary: shares and means over the questions. Takes what `see` gives, and the views in it."""
    told = {"probability_at_end": mean(row["probability"][-1] for row in found)}
    for name, best in (("first", 1), ("top5", 5)):
        told[f"{name}_at_end"] = mean(row["rank"][-1] <= best for row in found)
    return told | (_by_layer(found) if LENS in views else {}) | (_by_part(found) if ATTRIBUTION in views else {})


def lost(told: dict, vanilla: dict, count: int = 5) -> list[dict]:
    """The parts whose contribution fell most from vanilla's: [{"part", "vanilla", "now"}], logits, means over the
    questions.
    """

    def named(side):
        mlps = {f"MLP {layer}": value for layer, value in enumerate(side["mlp"], 1)}
        heads = {
            f"head {layer}.{head}": value
            for layer, values in enumerate(side["heads"], 1)
            for head, value in enumerate(values)
        }
        return mlps | heads

    before, now = named(vanilla), named(told)
    fallen = sorted((part for part in before if now[part] < before[part]), key=lambda part: now[part] - before[part])
    return [{"part": part, "vanilla": before[part], "now": now[part]} for part in fallen[:count]]


# ---------------------------------------------------------------- words

HEAD = """# What happened inside

{count} questions. The private value is judged by its first token, with the true answer up to it given. A model that
never saw the facts (retrained) shows how far that token can be guessed. **Figures and JSON hold private text.**

| model | first choice in the end | in some layer | half of these by layer | among five in the end | probability \
| weights moved | effective rank |
|---|---|---|---|---|---|---|---|
{table}"""
LENS_TEXT = """![logit lens](logit_lens.png)

**Where the value arises.** The residual stream is read after every layer as if it were the last (logit lens). {vanilla}
has the value as its first choice after some layer in {named}. A line that rises and falls again is knowledge that is
there and not said; questions in which the value is first choice in some layer and not in the end: {hidden}."""
ATTRIBUTION_TEXT = """![attribution](attribution.png)

**Which parts say it.** What each attention head and each MLP adds to the value's logit, above the mean of all logits,
with the norms' scales held. For {vanilla} these parts and the embedding sum to {sum:.2f} logits; the largest error of
any model's sum is {error:.1e}. Heads count from 0, layers from 1."""
WEIGHTS_TEXT = """![weights](weights.png)

**What was changed.** Norm of the change of each layer's matrices over the norm of {vanilla}'s (Frobenius). The
effective rank says over how many directions the change of a matrix is spread: 1 is one direction. By module, means over
the layers:

{moved}"""
LEFT_OUT = "**Left out:** {views}. They need a decoder that is laid out as Llama's or Gemma-2's is."
TOKENS_TEXT = """![next tokens](top5.png)

**What would come next.** “{question}”: the question on which {vanilla} is surest of the private value by most over the
others. The true answer is given up to each position. mechanism.json holds every question.
"""


def _number_of(share, count):
    return f"{round(share * count)} of {count}"


def _table_line(name, row, moved, count):
    some, median = row.get("first_in_some_layer"), row.get("first_layer_median")
    cells = [
        name,
        _number_of(row["first_at_end"], count),
        "–" if some is None else _number_of(some, count),
        "–" if median is None else median,
        _number_of(row["top5_at_end"], count),
        f"{row['probability_at_end']:.2f}",
        f"{100 * moved['norm']:.2f} %" if moved else "–",
        f"{moved['rank']:.1f}" if moved else "–",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def _lens_text(models, vanilla, layers, count):
    told = models[vanilla]
    named = _number_of(told["first_in_some_layer"], count)
    if told["first_layer_median"] is not None:
        named += f", in half of them by layer {told['first_layer_median']} of {layers}"
    gone = {name: round((row["first_in_some_layer"] - row["first_at_end"]) * count) for name, row in models.items()}
    hidden = ", ".join(f"{name} {number}" for name, number in gone.items() if number) or "none"
    return LENS_TEXT.format(vanilla=vanilla, named=named, hidden=hidden)


def _attribution_text(models, vanilla, others):
    told, error = models[vanilla], max(row["largest_error"] for row in models.values())
    text = ATTRIBUTION_TEXT.format(vanilla=vanilla, sum=told["difference"], error=error)
    falls = []
    for name in others:
        parts = [f"{part['part']} {part['vanilla']:.2f} → {part['now']:.2f}" for part in lost(models[name], told)]
        falls.append(f"* {name} ({models[name]['difference']:.2f} in all): {'; '.join(parts) or 'nothing'}")
    return text + (" What fell most:\n\n" + "\n".join(falls) if falls else "")


def _weights_text(moves, vanilla):
    lines = []
    for name, moved in moves.items():
        modules = moved["modules"].items()
        parts = [f"{module} {100 * row['norm']:.2f} % (rank {row['rank']:.1f})" for module, row in modules]
        lines.append(f"* {name}: {', '.join(parts) or 'nothing'}")
    return WEIGHTS_TEXT.format(vanilla=vanilla, moved="\n".join(lines))


def captions(models: dict, moves: dict, layers: int, count: int, question: str, views=frozenset(VIEWS)) -> str:
    """mechanism.md: a table, and what each figure shows.

    Args:
        models: {name: what `describe` gives}, vanilla first. moves: {name: what `movement` gives} of the others.
        layers, count: how many layers and questions there are. question: the one whose next tokens are drawn. views: of
        all models.
    """
    vanilla, *others = models
    table = [_table_line(name, row, moves.get(name), count) for name, row in models.items()]
    parts = [HEAD.format(count=count, table="\n".join(table))]
    if LENS in views:
        parts.append(_lens_text(models, vanilla, layers, count))
    if ATTRIBUTION in views:
        parts.append(_attribution_text(models, vanilla, others))
    if moves:
        parts.append(_weights_text(moves, vanilla))
    if left_out := [view for view in VIEWS if view not in views]:
        parts.append(LEFT_OUT.format(views=", ".join(left_out)))
    return "\n\n".join([*parts, TOKENS_TEXT.format(vanilla=vanilla, question=plain(question))])
