"""UDS, unlearning depth (arXiv:2605.24614): is the private value gone from inside the model, or only from its answers?

Vanilla answers with the true answer given (teacher forcing), while its hidden states after block l, at the positions
that predict the private value, are replaced by those of another model. Δ_l is the mean over the value's tokens of the
fall in log p: Δ¹_l with the retrained model's states, Δ²_l with the unlearned one's. Blocks with Δ¹_l > 0.05 hold the
knowledge, and UDS = Σ_l Δ¹_l · clip(Δ²_l / Δ¹_l, 0, 1) / Σ_l Δ¹_l over those: 0 for the vanilla model, 1 for the
retrained. A question without such a block, whose answer the retrained model's states tell as well, is left out and
counted.

The private value is the one that eval/11_mechanism.py looks at. Any decoder whose blocks are one ModuleList.
"""

import contextlib
import functools
from argparse import Namespace
from pathlib import Path

from lib.files import fail, finished, inputs_of, mean, pair_up, progress, write_results
from lib.flags import Parser, count, number
from lib.formats import read_pairs
from lib.models import blocks_of, exact_dtype, load_model, model_folder

import torch
from mechanism.places import locate, private_value


@contextlib.contextmanager
def at_every_block(model, act):
    """Within it `act(number of the block, the states that it gives)` may look at them or change them in place."""
    hooks = []
    for number_, block in enumerate(blocks_of(model)):
        look = lambda _, __, output, at=number_: act(at, output[0] if isinstance(output, tuple) else output)
        hooks.append(block.register_forward_hook(look))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def span_states(model, rows: list[dict], batch: int) -> list[torch.Tensor]:
    """Each row's hidden states after every block at the positions that predict its value: (blocks, tokens, hidden),
    on the CPU. rows: as `locate` gives them."""
    result, order = {}, sorted(range(len(rows)), key=lambda at: len(rows[at]["ids"]))
    for at in range(0, len(order), batch):
        part, seen = order[at : at + batch], []
        ids = [torch.tensor(rows[row]["ids"]) for row in part]
        ids = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True).to(model.device)
        with torch.inference_mode(), at_every_block(model, lambda _, states, seen=seen: seen.append(states)):
            model(input_ids=ids, use_cache=False, logits_to_keep=1)
        for place, row in enumerate(part):
            first, last = rows[row]["at"] - 1, rows[row]["end"] - 1
            result[row] = torch.stack([states[place, first:last] for states in seen]).cpu()
    return [result[row] for row in range(len(rows))]


def patched_logprobs(model, row: dict, states: torch.Tensor) -> torch.Tensor:
    """log p of the value's tokens under the model with the states of another: (blocks, tokens); row l has them after
    block l.

    What stands before the value is read once; then all blocks' replacements are one batch, a row each.

    Args:
        row: as `locate` gives it. states: (blocks, tokens, hidden), of `span_states`.
    """
    ids, first, states = torch.tensor(row["ids"], device=model.device), row["at"] - 1, states.to(model.device)
    span = ids[first : row["end"] - 1].expand(len(states), -1)

    def replace(block, found):
        found[block] = states[block].to(found.dtype)

    with torch.inference_mode():
        cache = None
        if first:
            cache = model(input_ids=ids[None, :first], use_cache=True, logits_to_keep=1).past_key_values
            cache.batch_repeat_interleave(len(states))
        with at_every_block(model, replace):
            logits = model(input_ids=span, past_key_values=cache, use_cache=True).logits.float()
        true = ids[row["at"] : row["end"]].expand(len(states), -1)
        return logits.log_softmax(-1).gather(2, true[..., None])[..., 0].double().cpu()


def falls(own: torch.Tensor, other: torch.Tensor) -> list[float]:
    """Δ of every block, the mean over tokens: `patched_logprobs` with vanilla's own states less that with another's."""
    return (own - other).mean(1).tolist()


def depth(retrained: list[float], unlearned: list[float], least: float) -> float | None:
    """UDS of one question, None where no block holds the knowledge.

    Args:
        retrained, unlearned: Δ¹ and Δ² of every block. least: Δ¹ of a block that counts.
    """
    held = [(one, two) for one, two in zip(retrained, unlearned, strict=True) if one > least]
    if not held:
        return None
    return sum(one * min(1.0, max(0.0, two / one)) for one, two in held) / sum(one for one, _ in held)


def parser() -> Parser:
    made = Parser(__doc__)
    made.add_argument(
        "--model", required=True, nargs="+", metavar="MODEL", help="model folders, adapter folders or hub ids"
    )
    made.add_argument("--vanilla", required=True, metavar="MODEL", help="the model that knows everything")
    made.add_argument("--retrained", required=True, metavar="MODEL", help="the model that never saw the forget set")
    made.add_argument("--questions", required=True, metavar="FILE", help="forget pairs, such as forget_val.jsonl")
    made.add_argument(
        "--out", required=True, nargs="+", metavar="FILE", help="JSON to write for each model: summary, items, origin"
    )
    made.add_argument(
        "--least", type=number(least=0), default=0.05, help="Δ¹, in nats, above which a block counts (default: 0.05)"
    )
    made.add_argument("--batch", type=count, default=16, help="answers in one forward pass (default: 16)")
    return made


class Patched:
    """Vanilla with other models' states in it, each model's computed once."""

    def __init__(self, folder: str, pairs: list[dict], batch: int):
        self.model, self.tokenizer, self.rows = self._read(folder, pairs)
        self.pairs, self.batch, self.known = pairs, batch, {}

    def _read(self, folder, pairs):
        model, tokenizer = load_model(folder, exact_dtype())
        return model, tokenizer, [locate(pair, private_value(pair), tokenizer) for pair in pairs]

    def by(self, folder: str) -> list[torch.Tensor]:
        """`patched_logprobs` of every question with the states of a folder's model."""
        place = str(Path(folder).resolve())
        if place not in self.known:
            model, _, rows = self._read(folder, self.pairs)
            alike = rows == self.rows and model.config.hidden_size == self.model.config.hidden_size
            if not alike or len(blocks_of(model)) != len(blocks_of(self.model)):
                fail(f"{folder}: not made from the vanilla model: its tokens or its blocks are others")
            states = span_states(model, rows, self.batch)
            del model
            both = zip(rows, states, strict=True)
            found = [patched_logprobs(self.model, row, own) for row, own in both]
            if not all(torch.isfinite(values).all() for values in found):
                fail(f"{folder}: its hidden states are not numbers; train it again at a lower rate")
            self.known[place] = found
        return self.known[place]


def measured(pairs: list[dict], own: list, retrained: list, unlearned: list, least: float) -> list[dict]:
    """Every question's UDS and what it rests on. own, retrained, unlearned: what `Patched.by` gives."""
    items = []
    for pair, *values in zip(pairs, own, retrained, unlearned, strict=True):
        one, two = falls(values[0], values[1]), falls(values[0], values[2])
        items.append(
            {
                "question": pair["question"],
                "answer": pair["answer"],
                "value": private_value(pair),
                "UDS": depth(one, two, least),
                "fall_retrained": [round(value, 5) for value in one],
                "fall": [round(value, 5) for value in two],
            }
        )
    return items


def main(args: Namespace):
    pairs = read_pairs(args.questions)
    runs = pair_up([model_folder(folder) for folder in args.model], args.out)
    vanilla, retrained = model_folder(args.vanilla), model_folder(args.retrained)
    inputs_for = inputs_of(args, [args.questions, vanilla, retrained], __file__)
    patched = functools.cache(lambda: Patched(vanilla, pairs, args.batch))  # loaded when the first model needs it
    for folder, out in progress(runs, desc="depth", unit="model"):
        inputs = inputs_for(folder)
        summary = finished(out, inputs)
        if summary is None:
            items = measured(pairs, *map(patched().by, (vanilla, retrained, folder)), args.least)
            held = [item["UDS"] for item in items if item["UDS"] is not None]
            summary = {"UDS": mean(held) if held else None, "items": len(held), "left_out": len(items) - len(held)}
            settings = Namespace(**{**vars(args), "model": folder, "out": out})
            write_results(out, summary, items, settings, [args.questions], inputs)
        print(folder, *(f"{name} {value:.4g}" for name, value in summary.items() if value is not None), sep="  ")


if __name__ == "__main__":
    main(parser().parse_args())
