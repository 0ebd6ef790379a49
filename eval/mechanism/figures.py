"""The figures: logit lens, attribution, weights, next tokens."""

from pathlib import Path

from lib.formats import plain
from lib.plots import BLUE, COLOURS, INK, SKY, VERMILION, pyplot, write_figure

import numpy as np

LINES = (INK, *COLOURS[:-1])  # a colour a model, vanilla's first


def printable(text: str) -> str:
    """A token as a figure shows it: white space visible."""
    return text.replace(" ", "␣").replace("\n", "⏎") or "∅"


def grid(count: int, width: float, height: float, columns: int = 4, **kwargs) -> tuple:
    """A figure of `count` panels, each so many inches wide and high, and the panels; spare ones are hidden."""
    columns = min(columns, count)
    lines = -(-count // columns)
    size = max(7.0, width * columns), height * lines + 0.7
    figure, axes = pyplot().subplots(lines, columns, figsize=size, squeeze=False, **kwargs)
    for panel in axes.flat[count:]:
        panel.axis("off")
    for panel in axes.flat[max(0, count - columns) : count]:
        panel.tick_params(labelbottom=True)
    return figure, axes.flat[:count]


# ---------------------------------------------------------------- lens


def draw_lens(models: dict, layers: int, count: int, path: Path):
    """Probability of the private value, and how often it is named, by layer; a line a model."""
    figure, (chance, named) = grid(2, 6.5, 4.6)
    for number, (name, told) in enumerate(models.items()):
        line = {
            "color": LINES[number % len(LINES)],
            "linestyle": "-" if number == 0 else ("--", "-.", ":", "-")[number % 4],
            "linewidth": 2.6 if number == 0 else 1.8,
            "label": f"{name}: {round(told['first_at_end'] * count)} of {count}",
        }
        chance.plot(told["probability_by_layer"], **line)
        named.plot(told["top5_by_layer"], **line)
    for panel in (chance, named):
        panel.set(xlabel="read after layer (0: the embedding)", ylim=(-0.02, 1.02), xlim=(0, layers))
    chance.set(title="How likely is the private value?")
    chance.set(ylabel="probability of its first token, mean over the questions")
    named.set(title="How often is it among the five likeliest tokens?", ylabel="share of the questions")
    text = {"fontsize": 8.5, "title_fontsize": 8.5}
    chance.legend(title="the model's first choice\nin the end in", loc="upper left", **text)
    vanilla, told = next(iter(models.items()))
    some = f"{round(told['first_in_some_layer'] * count)} of {count} questions"
    title = f"{vanilla} has the private value as its first choice in {some}"
    if told["first_layer_median"] is not None:
        title += f", in half of them by layer {told['first_layer_median']} of {layers}"
    figure.suptitle(title + ("; what the others leave of it" if len(models) > 1 else ""))
    write_figure(path, figure)


# ---------------------------------------------------------------- attribution


def _draw_parts(panel, table, limits):
    """One model's heads and, apart from them, its MLPs, each with a scale of its own: the two images."""
    layers, columns = table.shape
    heads = (-0.5, columns - 1.5, 0.5, layers + 0.5)
    mlps = (columns - 1, columns + max(0.6, columns / 8), 0.5, layers + 0.5)
    look = {"cmap": "PuOr", "origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    parts = ((table[:, :-1], heads, limits[0]), (table[:, -1:], mlps, limits[1]))
    images = [panel.imshow(part, extent=box, vmin=-limit, vmax=limit, **look) for part, box, limit in parts]
    ticks = range(0, columns - 1, max(1, (columns - 1) // 8))
    panel.set(xlim=(-0.5, mlps[1]), xticks=[*ticks, sum(mlps[:2]) / 2])
    panel.set_xticklabels([*map(str, ticks), "MLP"])
    return images


def draw_attribution(models: dict, path: Path):
    """Vanilla's heads and MLPs that speak for the private value, and what each model changed in them."""
    vanilla = next(iter(models))
    tables = {name: np.column_stack([told["heads"], told["mlp"]]) for name, told in models.items()}
    shown = {name: table if name == vanilla else table - tables[vanilla] for name, table in tables.items()}
    figure, panels = grid(len(shown), 3.3, 4.4, sharex=True, sharey=True)
    every = np.abs(np.stack(list(shown.values())))
    limits = [max(1e-6, np.quantile(every[..., :-1], 0.995)), max(1e-6, np.quantile(every[..., -1], 0.98))]
    for panel, (name, table) in zip(panels, shown.items()):
        images = _draw_parts(panel, table, limits)
        panel.set_title(f"{name}: contribution" if name == vanilla else f"{name}: change")
    panels[0].set_ylabel("layer")
    figure.supxlabel("attention head, and the layer's MLP", fontsize=10)
    for image, what in zip(images, ("heads", "MLPs")):
        bar = {"shrink": 0.7, "pad": 0.01, "extend": "both"}
        figure.colorbar(image, ax=list(panels), label=f"{what}: logits for the private value", **bar)
    figure.suptitle(
        f"Which parts of {vanilla} speak for the private value (violet) or against it (orange),\n"
        "and what each model added (violet) or took away (orange)"
    )
    write_figure(path, figure)


# ---------------------------------------------------------------- weights


def draw_weights(moves: dict, vanilla: str, path: Path):
    """How far each layer moved, a panel a model."""
    figure, panels = grid(len(moves), 3.6, 2.7, sharex=True)
    for panel, (name, moved) in zip(panels, moves.items()):
        values = [100 * value for value in moved["layers"]]
        most = max(range(len(values)), key=values.__getitem__) + 1
        layers = range(1, len(values) + 1)
        panel.bar(layers, values, color=[VERMILION if layer == most else BLUE for layer in layers])
        told = f"most in layer {most}, effective rank {moved['rank']:.1f}"
        panel.set_title(f"{name}: {100 * moved['norm']:.2f} % in all,\n{told}", fontsize=10)
    figure.supxlabel("layer", fontsize=10)
    figure.supylabel("change, % of the weights' norm", fontsize=10)
    figure.suptitle(f"How far each layer's weights moved away from {vanilla}'s (each panel has its own scale)")
    write_figure(path, figure)


# ---------------------------------------------------------------- next tokens


def _place(item, top):
    """What stands above a column: which token of the answer, and what comes before it."""
    before = top["before"] if len(top["before"]) <= 34 else "…" + top["before"][-33:]
    shown = printable(before).replace("␣", " ")
    begins = top["position"] == item["value_position"]
    place = "private value begins here" if begins else f"answer token {top['position'] + 1}"
    return place + "\n" + (f"after “{shown}”" if top["before"] else "after the question")


def draw_top5(item: dict, names: list[str], path: Path):
    """The five likeliest next tokens of one question: a row a model, a column a position."""
    places = [top["position"] for top in item["models"][names[0]]["top5"]]
    shown = places if len(places) <= 4 else sorted({*places[:3], item["value_position"]})
    size = 3.1 * len(shown) + 0.8, 1.25 * len(names) + 1.5
    figure, axes = pyplot().subplots(len(names), len(shown), figsize=size, squeeze=False, sharex=True)
    for number, (line, name) in enumerate(zip(axes, names)):
        for panel, position in zip(line, shown):
            top = next(top for top in item["models"][name]["top5"] if top["position"] == position)
            texts, values = zip(*reversed(top["tokens"]))
            panel.barh(range(5), values, color=[VERMILION if text == item["value_token"] else SKY for text in texts])
            panel.set_yticks(range(5), [printable(text) for text in texts], fontsize=8)
            panel.set_xlim(0, 1)
            if number == 0:
                panel.set_title(_place(item, top), fontsize=9)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
    figure.supxlabel("probability of the next token; the private value's first token is dark orange", fontsize=10)
    question = printable(plain(item["question"])).replace("␣", " ")
    figure.suptitle(f"What would each model say next?  “{question}”", fontsize=11)
    write_figure(path, figure)
