"""What happened inside: is the private value gone, or only no longer said? And which parts of the model were changed for it?

Four looks at each model, all at the token that opens the private value, with the true answer up to it given (teacher forcing):
1. the five likeliest next tokens at the first answer positions and where the private value begins;
2. the logit lens (nostalgebraist 2020): final norm and output layer on the residual stream after every layer;
3. direct logit attribution (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"): what the embedding, each
   attention head and each MLP add to the value's logit above the mean logit; the parts add up to it, and that is checked;
4. how far each weight matrix moved from vanilla's, and over how many directions (effective rank, Roy and Vetterli 2007).

The private value is the row's own "value" or else an entity of the answer that the question does not hold, as lib/entities.py finds them.
2 works for any model that ends in norm, output layer and tanh cap; 3 for decoders with RMSNorm like Llama's, and with norms behind
attention and MLP like Gemma-2's. Another one ends the program. Forward passes only, in float32. What it writes holds private text.
"""

import math
import re
import statistics
from collections import defaultdict
from pathlib import Path

from lib.entities import reference_entities
from lib.files import fail, mean, progress, write_results, write_text
from lib.flags import Parser, count
from lib.formats import read_pairs
from lib.models import base_model, encode_text, load_model, model_folder, prompt_text, with_answer
from lib.plots import pyplot, write_figure

COLOURS = (
    "#000000",
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#882255",
)  # of plots.py, vanilla in black


# ---------------------------------------------------------------- the private value and its place


def private_value(pair):
    """What the answer gives away: the pair's "value" where the answer holds it, or else the first entity that the question does not
    hold, one with a capital or a digit before others."""
    answer, value = pair["answer"], pair.get("value")
    if isinstance(value, str) and value.strip() and value.strip() in answer:
        return value.strip()
    found = [
        entity for entity in reference_entities({"question": pair["question"], "reference": answer}) if entity in answer
    ] or [answer]
    return next(
        (entity for entity in found if any(letter.isupper() or letter.isdigit() for letter in entity)), found[0]
    )


def locate(pair, value, tokenizer):
    """Token ids of question and answer, and the place of the value's first token that holds a letter or a digit.

    Returns:
        {"ids": list, "start": place of the first answer token, "at": place of the value's first token}.
    """
    prompt = prompt_text(tokenizer, pair["question"])
    text = with_answer(prompt, pair["answer"])
    begin = len(text) - len(pair["answer"]) + pair["answer"].index(value)
    ids, start, spans = encode_text(tokenizer, prompt, pair["answer"])
    at = next(
        (
            at
            for at, (start, end) in enumerate(spans)
            if end > begin and re.search(r"[^\W_]", text[max(start, begin) : end])
        ),
        next(at for at, (_, end) in enumerate(spans) if end > begin),
    )
    return {"ids": ids, "start": start, "at": at}


# ---------------------------------------------------------------- one forward pass, watched


def watch(model, ids, places, start):
    """Runs the model on right-padded ids and gathers what its parts write at one place of each row.

    Args:
        ids: (rows, length). places: (rows,) the place to look at. start: the first place whose logits are wanted.
    Returns:
        (logits (rows, length - start, vocabulary) as the model gives them; lists with a tensor a layer: "residual" (rows, hidden), before
        the first layer and after each; "heads" (rows, heads × head size), into o_proj; "attention", "mlp" (rows, hidden), out of o_proj
        and out of the MLP).
    """
    import torch

    seen, rows, hooks = defaultdict(list), torch.arange(len(ids), device=ids.device), []

    def keep(name, states):
        seen[name].append((states[0] if isinstance(states, tuple) else states)[rows, places])

    def attended(_, inputs, output):
        keep("heads", inputs)
        keep("attention", output)

    layers = model.get_decoder().layers
    hooks.append(layers[0].register_forward_pre_hook(lambda _, inputs: keep("residual", inputs)))
    for layer in layers:
        hooks += [
            layer.register_forward_hook(lambda _, inputs, output: keep("residual", output)),
            layer.self_attn.o_proj.register_forward_hook(attended),
            layer.mlp.register_forward_hook(lambda _, inputs, output: keep("mlp", output)),
        ]
    try:
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=ids.shape[1] - start).logits.float()
    finally:
        for hook in hooks:
            hook.remove()
    return logits, seen


def uncapped(model, states):
    """Final norm and output layer: (rows, hidden) → logits (rows, vocabulary), before Gemma-2's cap."""
    return model.get_output_embeddings()(model.get_decoder().norm(states))


def cap(model, logits):
    """Gemma-2 ends in c · tanh(logits / c); it moves probabilities and no rank."""
    size = getattr(model.config, "final_logit_softcapping", None)
    return size * (logits / size).tanh() if size else logits


def frozen(norm, states):
    """The factors by which an RMSNorm multiplies just these states, (rows, hidden): norm(states) = states · factors.

    Found from outside, as one norm multiplies by its weight w and another by 1 + w: from long equal entries it makes that factor.
    """
    import torch

    gain, out = norm(torch.full_like(states[:1], 1e4)), norm(states)
    return gain * (out.norm(dim=-1, keepdim=True) / (gain * states).norm(dim=-1, keepdim=True))


def contributions(model, seen, tokens):
    """Direct logit attribution of (logit of the token - mean logit), before any cap, with the norms' scales held.

    Args:
        seen: what `watch` gathered. tokens: (rows,) token ids.
    Returns:
        (embedding (rows,); heads and MLP (rows, layers, heads + 1), the MLP last; the difference that they must add up to (rows,)).
    """
    import torch

    decoder, output = model.get_decoder(), model.get_output_embeddings()
    count, last = model.config.num_attention_heads, seen["residual"][-1]
    direction = (output.weight[tokens] - output.weight.mean(0)) * frozen(decoder.norm, last)
    parts = []
    for layer, heads, attention, mlp in zip(decoder.layers, seen["heads"], seen["attention"], seen["mlp"], strict=True):
        behind = hasattr(
            layer, "post_feedforward_layernorm"
        )  # Gemma-2: a norm between each part and the residual stream
        to_heads = direction * frozen(layer.post_attention_layernorm, attention) if behind else direction
        to_mlp = direction * frozen(layer.post_feedforward_layernorm, mlp) if behind else direction
        by_head = (heads * (to_heads @ layer.self_attn.o_proj.weight)).view(len(heads), count, -1).sum(-1)
        parts.append(torch.cat([by_head, (mlp * to_mlp).sum(-1, keepdim=True)], 1))
    logits = uncapped(model, last)
    return (
        (seen["residual"][0] * direction).sum(-1),
        torch.stack(parts, 1),
        logits.gather(1, tokens[:, None])[:, 0] - logits.mean(-1),
    )


def look(model, rows, positions, batch):
    """Looks 1 to 3, a dict a row.

    Args:
        rows: as `locate` gives them. positions: so many of the first answer positions for the likeliest tokens.
    Returns:
        list of {"top5": [(place, [(token id, probability)])]; "probability", "rank": the value's first token after each layer, layers + 1
        numbers; "embedding", "difference", "error": numbers; "parts": tensor (layers, heads + 1)}.
    """
    import torch

    found = []
    for at in progress(range(0, len(rows), batch), desc="looks inside", unit="batch", leave=False):
        part = rows[at : at + batch]
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row["ids"]) for row in part], batch_first=True).to(
            model.device
        )
        tokens, places = (
            torch.tensor(values, device=model.device)
            for values in ([row["ids"][row["at"]] for row in part], [row["at"] - 1 for row in part])
        )
        with torch.inference_mode():
            start = min(row["start"] for row in part) - 1
            logits, seen = watch(model, ids, places, start)
            own = logits[torch.arange(len(part), device=ids.device), places - start]
            probabilities, ranks = [], []
            for states in seen["residual"]:
                seen_logits = cap(model, uncapped(model, states))
                value = seen_logits.gather(1, tokens[:, None])
                probabilities.append((value - seen_logits.logsumexp(-1, keepdim=True)).exp()[:, 0])
                ranks.append((seen_logits > value).sum(-1) + 1)
            if (seen_logits - own).abs().max() > 1e-3 * max(1, own.abs().max()):
                fail(
                    f"{model.config.model_type}: norm and output layer on the last layer do not give the model's own logits; "
                    "the logit lens knows Llama's and Gemma-2's ending"
                )
            embedding, parts, difference = contributions(model, seen, tokens)
            error = (embedding + parts.sum((1, 2)) - difference).abs()
            if (error > 1e-3 * difference.abs().clamp(min=1)).any():
                fail(
                    f"{model.config.model_type}: heads and MLPs do not add up to the logit; attribution knows decoders like Llama's and "
                    "Gemma-2's"
                )
            for number, row in enumerate(part):
                wanted = sorted({*range(row["start"], min(row["start"] + positions, len(row["ids"]))), row["at"]})
                top = [torch.topk(logits[number, place - 1 - start].softmax(-1), 5) for place in wanted]
                found.append(
                    {
                        "top5": [
                            (place, list(zip(best.indices.tolist(), best.values.tolist())))
                            for place, best in zip(wanted, top)
                        ],
                        "probability": [layer[number].item() for layer in probabilities],
                        "rank": [layer[number].item() for layer in ranks],
                        **{
                            name: values[number].item()
                            for name, values in (("embedding", embedding), ("difference", difference), ("error", error))
                        },
                        "parts": parts[number].cpu(),
                    }
                )
    return found


# ---------------------------------------------------------------- weights


def spectrum(model):
    """{weight's name: singular values} of an adapter's B·A, from its two thin factors, without the full matrix."""
    import torch

    found = {}
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and "default" in module.lora_A:
            b, a = (
                torch.linalg.qr(factor.float())[1]
                for factor in (module.lora_B["default"].weight, module.lora_A["default"].weight.T)
            )
            values = torch.linalg.svdvals(b @ a.T) * abs(module.scaling["default"])
            found[name.removeprefix("base_model.model.") + ".weight"] = values
    return found


def difference_spectrum(weights, vanilla):
    """{weight's name: singular values} of W - W_vanilla, for every matrix that moved."""
    import torch

    moved = ((name, weight.float() - vanilla[name].to(weight.device)) for name, weight in weights.items())
    return {name: torch.linalg.svdvals(change) for name, change in moved if change.any()}


def effective_rank(values):
    """exp of the entropy of singular values that sum to 1 (Roy and Vetterli 2007): 1 for one direction, n for n equal ones, 0 for none."""
    shares = [value / total for value in values if value > 0] if (total := math.fsum(values)) > 0 else []
    return math.exp(-math.fsum(share * math.log(share) for share in shares)) if shares else 0.0


def movement(spectra, norms, layers):
    """How far the weights moved.

    Args:
        spectra: {weight's name: singular values of its change}. norms: {weight's name: Frobenius norm under vanilla}, of every matrix.
    Returns:
        {"norm": relative norm of the change of all layers together; "layers": the same by layer; "other": of the matrices outside the
        layers; "modules": {name: {"norm", "rank": means over the layers, "by_layer": relative norms}}; "rank": mean effective rank of
        the moved matrices}.
    """
    moved, whole, modules, ranks = (
        defaultdict(float),
        defaultdict(float),
        defaultdict(lambda: [0.0] * layers),
        defaultdict(list),
    )
    for name, norm in norms.items():
        values = spectra[name].tolist() if name in spectra else []
        place = re.search(r"\.layers\.(\d+)\.(?:.+\.)?(\w+)\.weight$", name)
        layer = int(place[1]) if place else None
        change = math.sqrt(math.fsum(value * value for value in values))
        moved[layer] += change**2
        whole[layer] += norm**2
        if values and place:
            modules[place[2]][layer] = change / norm
            ranks[place[2]].append(effective_rank(values))
    relative = lambda layer: math.sqrt(moved[layer] / whole[layer]) if whole[layer] else 0.0
    inside = [sum(part[layer] for layer in range(layers)) for part in (moved, whole)]
    return {
        "norm": math.sqrt(inside[0] / inside[1]),
        "layers": [relative(layer) for layer in range(layers)],
        "other": relative(None),
        "rank": mean(rank for each in ranks.values() for rank in each) if ranks else 0.0,
        "modules": {
            name: {"norm": mean(values), "rank": mean(ranks[name]), "by_layer": values}
            for name, values in modules.items()
        },
    }


# ---------------------------------------------------------------- what it says


def first(ranks, best):
    """The first layer after which the token is among the `best` likeliest, 0 for the embedding; None where it never is."""
    return next((layer for layer, rank in enumerate(ranks) if rank <= best), None)


def describe(found):
    """One model's summary of looks 2 and 3: shares and means over the questions."""
    column = lambda name: list(zip(*(row[name] for row in found)))
    told = {
        "probability_by_layer": [mean(layer) for layer in column("probability")],
        "probability_at_end": mean(row["probability"][-1] for row in found),
    }
    for name, best in (("first", 1), ("top5", 5)):
        layers = [layer for layer in (first(row["rank"], best) for row in found) if layer is not None]
        told |= {
            f"{name}_by_layer": [mean(rank <= best for rank in layer) for layer in column("rank")],
            f"{name}_at_end": mean(row["rank"][-1] <= best for row in found),
            f"{name}_in_some_layer": len(layers) / len(found),
            f"{name}_layer_median": statistics.median_low(layers) if layers else None,
        }
    parts = sum(row["parts"] for row in found) / len(found)
    return {
        **told,
        "difference": mean(row["difference"] for row in found),
        "embedding": mean(row["embedding"] for row in found),
        "largest_error": max(row["error"] for row in found),
        "heads": parts[:, :-1].tolist(),
        "mlp": parts[:, -1].tolist(),
    }


def lost(told, vanilla, count=5):
    """The parts whose contribution fell most from vanilla's: [{"part", "vanilla", "now"}], logits, means over the questions."""
    named = lambda side: {
        **{f"MLP {layer}": value for layer, value in enumerate(side["mlp"], 1)},
        **{
            f"head {layer}.{head}": value
            for layer, heads in enumerate(side["heads"], 1)
            for head, value in enumerate(heads)
        },
    }
    before, now = named(vanilla), named(told)
    fallen = sorted((part for part in before if now[part] < before[part]), key=lambda part: now[part] - before[part])
    return [{"part": part, "vanilla": before[part], "now": now[part]} for part in fallen[:count]]


# ---------------------------------------------------------------- figures


def printable(text):
    """A token as a figure shows it: white space visible, no mathematics."""
    return text.replace(" ", "␣").replace("\n", "⏎").replace("$", r"\$") or "∅"


def grid(count, width, height, columns=4, **kwargs):
    """A figure of `count` panels, and them; spare ones are hidden."""
    columns = min(columns, count)
    lines = -(-count // columns)
    figure, axes = pyplot().subplots(
        lines,
        columns,
        figsize=(max(7.0, width * columns), height * lines + 0.7),
        layout="constrained",
        squeeze=False,
        **kwargs,
    )
    for panel in axes.flat[count:]:
        panel.axis("off")
    for panel in axes.flat[max(0, count - columns) : count]:
        panel.tick_params(labelbottom=True)
    return figure, axes.flat[:count]


def draw_lens(models, count, path):
    """Probability of the private value, and how often it is named, by layer; a line a model."""
    figure, (chance, named) = grid(2, 6.5, 4.6)
    for number, (name, told) in enumerate(models.items()):
        style = {
            "color": COLOURS[number % len(COLOURS)],
            "linestyle": "-" if number == 0 else ("--", "-.", ":", "-")[number % 4],
            "linewidth": 2.6 if number == 0 else 1.8,
            "label": f"{name}: {round(told['first_at_end'] * count)} of {count}",
        }
        chance.plot(told["probability_by_layer"], **style)
        named.plot(told["top5_by_layer"], **style)
    layers = len(next(iter(models.values()))["mlp"])
    for panel, title, label in (
        (chance, "How likely is the private value?", "probability of its first token, mean over the questions"),
        (named, "How often is it among the five likeliest tokens?", "share of the questions"),
    ):
        panel.set(
            title=title,
            xlabel="read after layer (0: the embedding)",
            ylabel=label,
            ylim=(-0.02, 1.02),
            xlim=(0, layers),
        )
        panel.spines[["top", "right"]].set_visible(False)
    chance.legend(
        title="the model's first choice\nin the end in",
        frameon=False,
        fontsize=8.5,
        title_fontsize=8.5,
        loc="upper left",
    )
    vanilla, told = next(iter(models.items()))
    title = f"{vanilla} has the private value as its first choice in {round(told['first_in_some_layer'] * count)} of {count} questions"
    if told["first_layer_median"] is not None:
        title += f", in half of them by layer {told['first_layer_median']} of {layers}"
    figure.suptitle(title + ("; what the others leave of it" if len(models) > 1 else ""))
    write_figure(path, figure)


def draw_attribution(models, path):
    """Vanilla's heads and MLPs that speak for the private value, and what each model changed in them; MLPs have a scale of their own."""
    import numpy as np

    vanilla = next(iter(models))
    tables = {name: np.column_stack([told["heads"], told["mlp"]]) for name, told in models.items()}
    shown = {name: table if name == vanilla else table - tables[vanilla] for name, table in tables.items()}
    figure, panels = grid(len(shown), 3.3, 4.4, sharex=True, sharey=True)
    every = np.abs(np.stack(list(shown.values())))
    limits = [max(1e-6, np.quantile(every[..., :-1], 0.995)), max(1e-6, np.quantile(every[..., -1], 0.98))]
    layers, columns = tables[vanilla].shape
    for panel, (name, table) in zip(panels, shown.items()):
        extents = (
            (-0.5, columns - 1.5, 0.5, layers + 0.5),
            (columns - 1, columns + max(0.6, columns / 8), 0.5, layers + 0.5),
        )
        images = [
            panel.imshow(
                part,
                cmap="PuOr",
                vmin=-limit,
                vmax=limit,
                origin="lower",
                aspect="auto",
                interpolation="nearest",
                extent=extent,
            )
            for part, limit, extent in zip((table[:, :-1], table[:, -1:]), limits, extents)
        ]
        step = max(1, (columns - 1) // 8)
        panel.set(
            xlim=(-0.5, extents[1][1]),
            title=f"{name}: contribution" if name == vanilla else f"{name}: change",
            xticks=[*range(0, columns - 1, step), sum(extents[1][:2]) / 2],
        )
        panel.set_xticklabels([*map(str, range(0, columns - 1, step)), "MLP"])
    for panel in panels[:1]:
        panel.set_ylabel("layer")
    figure.supxlabel("attention head, and the layer's MLP", fontsize=10)
    for image, what in zip(images, ("heads", "MLPs")):
        figure.colorbar(
            image, ax=list(panels), shrink=0.7, pad=0.01, extend="both", label=f"{what}: logits for the private value"
        )
    figure.suptitle(
        f"Which parts of {vanilla} speak for the private value (violet) or against it (orange),\n"
        "and what each model added (violet) or took away (orange)"
    )
    write_figure(path, figure)


def draw_weights(moves, vanilla, path):
    """How far each layer moved, a panel a model."""
    figure, panels = grid(len(moves), 3.6, 2.7, sharex=True)
    for panel, (name, moved) in zip(panels, moves.items()):
        values = [100 * value for value in moved["layers"]]
        most = max(range(len(values)), key=values.__getitem__) + 1
        layers = range(1, len(values) + 1)
        panel.bar(layers, values, color=["#D55E00" if layer == most else "#0072B2" for layer in layers])
        panel.set_title(
            f"{name}: {100 * moved['norm']:.2f} % in all,\nmost in layer {most}, effective rank {moved['rank']:.1f}",
            fontsize=10,
        )
        panel.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("layer", fontsize=10)
    figure.supylabel("change, % of the weights' norm", fontsize=10)
    figure.suptitle(f"How far each layer's weights moved away from {vanilla}'s (each panel has its own scale)")
    write_figure(path, figure)


def draw_top5(item, names, path):
    """The five likeliest next tokens of one question: a row a model, a column a position."""
    places = [top["position"] for top in item["models"][names[0]]["top5"]]
    shown = places if len(places) <= 4 else sorted({*places[:3], item["value_position"]})
    figure, axes = pyplot().subplots(
        len(names),
        len(shown),
        figsize=(3.1 * len(shown) + 0.8, 1.25 * len(names) + 1.5),
        layout="constrained",
        squeeze=False,
        sharex=True,
    )
    for number, (line, name) in enumerate(zip(axes, names)):
        for panel, position in zip(line, shown):
            top = next(top for top in item["models"][name]["top5"] if top["position"] == position)
            texts, values = zip(*reversed(top["tokens"]))
            panel.barh(
                range(5), values, color=["#D55E00" if text == item["value_token"] else "#56B4E9" for text in texts]
            )
            panel.set_yticks(range(5), [printable(text) for text in texts], fontsize=8)
            panel.set_xlim(0, 1)
            panel.spines[["top", "right"]].set_visible(False)
            if number == 0:
                before = printable(top["before"] if len(top["before"]) <= 34 else "…" + top["before"][-33:]).replace(
                    "␣", " "
                )
                place = (
                    "private value begins here"
                    if position == item["value_position"]
                    else f"answer token {position + 1}"
                )
                panel.set_title(
                    place + "\n" + (f"after “{before}”" if top["before"] else "after the question"), fontsize=9
                )
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
    figure.supxlabel("probability of the next token; the private value's first token is dark orange", fontsize=10)
    figure.suptitle(
        "What would each model say next?  “" + printable(item["question"]).replace("␣", " ") + "”", fontsize=11
    )
    write_figure(path, figure)


PAGE = """# What happened inside

{count} questions. The private value is judged by its first token, with the true answer up to it given. A model that never saw the facts
(retrained) shows how far that token can be guessed. **Figures and JSON hold private text.**

| model | first choice in the end | in some layer | half of these by layer | among five in the end | probability | weights moved | effective rank |
|---|---|---|---|---|---|---|---|
{table}

![logit lens](logit_lens.png)

**Where the value arises.** The residual stream is read after every layer as if it were the last (logit lens). {vanilla} has the value as
its first choice after some layer in {named}. A line that rises and falls again is knowledge that is there and not said; questions in which
the value is first choice in some layer and not in the end: {hidden}.

![attribution](attribution.png)

**Which parts say it.** What each attention head and each MLP adds to the value's logit, above the mean of all logits, with the norms'
scales held. For {vanilla} these parts and the embedding sum to {sum:.2f} logits; the largest error of any model's sum is {error:.1e}.
Heads count from 0, layers from 1.{changes}

![next tokens](top5.png)

**What would come next.** “{question}”: the question on which {vanilla} is surest of the private value by most over the others. The true
answer is given up to each position. mechanism.json holds every question.
"""
CHANGES = """ What fell most:

{lost}

![weights](weights.png)

**What was changed.** Norm of the change of each layer's matrices over the norm of {vanilla}'s (Frobenius). The effective rank says over
how many directions the change of a matrix is spread: 1 is one direction. By module, means over the layers:

{moved}"""  # only where there are models to compare with vanilla


def captions(models, moves, count, question):
    """mechanism.md: a table, and what each figure shows."""
    vanilla, *others = models
    told, of = models[vanilla], lambda share: f"{round(share * count)} of {count}"
    table, falls, moved = [], [], []
    for name, row in models.items():
        change = f"{100 * moves[name]['norm']:.2f} % | {moves[name]['rank']:.1f}" if name in moves else "– | –"
        table.append(
            f"| {name} | {of(row['first_at_end'])} | {of(row['first_in_some_layer'])} | {'–' if row['first_layer_median'] is None else row['first_layer_median']} | "
            f"{of(row['top5_at_end'])} | {row['probability_at_end']:.2f} | {change} |"
        )
    for name in others:
        parts = [f"{part['part']} {part['vanilla']:.2f} → {part['now']:.2f}" for part in lost(models[name], told)]
        falls.append(f"* {name} ({models[name]['difference']:.2f} in all): {'; '.join(parts) or 'nothing'}")
        parts = [
            f"{module} {100 * row['norm']:.2f} % (rank {row['rank']:.1f})"
            for module, row in moves[name]["modules"].items()
        ]
        moved.append(f"* {name}: {', '.join(parts) or 'nothing'}")
    hidden = {name: round((row["first_in_some_layer"] - row["first_at_end"]) * count) for name, row in models.items()}
    return PAGE.format(
        count=count,
        table="\n".join(table),
        vanilla=vanilla,
        question=question,
        sum=told["difference"],
        changes=CHANGES.format(vanilla=vanilla, lost="\n".join(falls), moved="\n".join(moved)) if others else "",
        named=of(told["first_in_some_layer"])
        + (
            f", in half of them by layer {told['first_layer_median']} of {len(told['mlp'])}"
            if told["first_layer_median"] is not None
            else ""
        ),
        hidden=", ".join(f"{name} {number}" for name, number in hidden.items() if number) or "none",
        error=max(row["largest_error"] for row in models.values()),
    )


if __name__ == "__main__":
    parser = Parser(__doc__, files=lambda args: [Path(args.out, name) for name in ("mechanism.json", "mechanism.md")])
    parser.add_argument(
        "--models", required=True, nargs="+", metavar="FOLDER", help="vanilla first, then the models to compare with it"
    )
    parser.add_argument(
        "--questions", required=True, metavar="FILE", help="pairs to have been forgotten, such as forget_val.jsonl"
    )
    parser.add_argument(
        "--out", required=True, metavar="FOLDER", help="folder for mechanism.json, mechanism.md and the figures"
    )
    parser.add_argument("--count", type=count, help="so many of the questions, the first ones (default: all)")
    parser.add_argument(
        "--positions", type=count, default=4, help="first answer positions whose likeliest tokens are kept (default: 4)"
    )
    parser.add_argument("--batch", type=count, default=16, help="questions in one forward pass (default: 16)")
    args = parser.parse_args()
    folders = {Path(folder).name: model_folder(folder) for folder in args.models}
    if len(folders) < len(args.models):
        fail("--models: two folders have the same name, and so would their rows")
    pairs = read_pairs(args.questions)[: args.count]
    values = [private_value(pair) for pair in pairs]

    import torch

    models, moves, items, rows = {}, {}, [], None
    for name, folder in progress(folders.items(), desc="mechanism", unit="model"):
        model, tokenizer = load_model(folder, "float32")
        adapter = Path(folder, "adapter_config.json")
        on_vanilla = (
            rows is not None
            and adapter.is_file()
            and Path(base_model(folder)).resolve() == Path(args.models[0]).resolve()
        )
        spectra = spectrum(model) if on_vanilla else None
        if adapter.is_file():
            model = model.merge_and_unload()
        layers = getattr(model.get_decoder(), "layers", [])
        if not layers or not all(
            hasattr(layer, "mlp") and hasattr(getattr(layer, "self_attn", None), "o_proj") for layer in layers
        ):
            fail(
                f"{folder}: {model.config.model_type} has no layers with self_attn.o_proj and mlp; decoders like Llama's and Gemma-2's are "
                "known"
            )
        found_rows = [locate(pair, value, tokenizer) for pair, value in zip(pairs, values, strict=True)]
        matrices = {key: weight.detach() for key, weight in model.named_parameters() if weight.dim() == 2}
        if rows is None:
            rows, vanilla = found_rows, {key: weight.cpu() for key, weight in matrices.items()}
            norms = {key: weight.norm().item() for key, weight in vanilla.items()}
            text = lambda token: tokenizer.decode([token])
            items = [
                {
                    "question": pair["question"],
                    "answer": pair["answer"],
                    "value": value,
                    "value_token": text(row["ids"][row["at"]]),
                    "value_position": row["at"] - row["start"],
                    "models": {},
                }
                for pair, value, row in zip(pairs, values, rows, strict=True)
            ]
        else:
            shapes = lambda weights: {key: weight.shape for key, weight in weights.items()}
            if found_rows != rows or shapes(matrices) != shapes(vanilla):
                fail(f"{folder}: not made from {args.models[0]}: its tokens or its weights' shapes are others")
            with torch.inference_mode():
                moves[name] = movement(
                    difference_spectrum(matrices, vanilla) if spectra is None else spectra, norms, len(layers)
                )
        found = look(model, rows, args.positions, args.batch)
        models[name] = describe(found)
        for item, row, seen in zip(items, rows, found, strict=True):
            item["models"][name] = {
                "probability": [float(f"{value:.4g}") for value in seen["probability"]],
                "rank": seen["rank"],
                "first_layer": first(seen["rank"], 1),
                "first_layer_top5": first(seen["rank"], 5),
                "difference": seen["difference"],
                "embedding": seen["embedding"],
                "error": seen["error"],
                "top5": [
                    {
                        "position": place - row["start"],
                        "before": tokenizer.decode(row["ids"][row["start"] : place]),
                        "true": text(row["ids"][place]),
                        "tokens": [[text(token), float(f"{value:.4g}")] for token, value in best],
                    }
                    for place, best in seen["top5"]
                ],
            }

    names, out = list(models), Path(args.out)
    summary = {
        "questions": len(items),
        "layers": len(models[names[0]]["mlp"]),
        "models": {
            name: {**told, "lost": lost(told, models[names[0]]) if name != names[0] else [], "weights": moves.get(name)}
            for name, told in models.items()
        },
    }
    write_results(out / "mechanism.json", summary, items, args, [args.questions])
    draw_lens(models, len(items), out / "logit_lens.png")
    draw_attribution(models, out / "attribution.png")
    if moves:
        draw_weights(moves, names[0], out / "weights.png")
    end = lambda item: [item["models"][name]["probability"][-1] for name in names]
    example = max(items, key=lambda item: end(item)[0] - mean(end(item)[1:] or [0]))
    draw_top5(example, names, out / "top5.png")
    write_text(out / "mechanism.md", captions(models, moves, len(items), example["question"]))
    for name, told in models.items():
        print(
            name,
            f"first choice in the end {told['first_at_end']:.2f}",
            f"in some layer {told['first_in_some_layer']:.2f}",
            f"probability {told['probability_at_end']:.3f}",
            f"logit above mean {told['difference']:.2f}",
            sep="  ",
        )
