"""MEOW (Gu et al. 2024, arXiv:2409.11844): fine-tunes on inverted facts, false answers of the same form, and on
nothing else.

04_invert.py writes several for each forget question; of them the --top-k are learnt whose MEMO, how well the model has
them by heart already (eval/04_memorization.py), is largest (the released script's choice) or smallest, or that are
drawn at random.
"""

import random

from lib.files import fail, read_json
from lib.flags import arguments, count
from lib.formats import read_inverted
from lib.likelihood import nll
from lib.trainer import data_file, start


def selected(scores, how, count, rng):
    """scores: MEMO of one question's inverted answers → numbers of the `count` chosen; of equals the first."""
    order = list(range(len(scores)))
    if how == "random":
        return rng.sample(order, min(count, len(order)))
    return sorted(order, key=scores.__getitem__, reverse=how == "largest")[:count]


def inverted_pairs(args):
    """The chosen inverted facts as pairs."""
    path, rng, pairs = data_file(args, args.forget), random.Random(args.seed), []
    try:
        items = read_json(args.memo)["items"] if args.select != "random" else []
        memo = {(item["question"], item["answer"]): float(item["MEMO"]) for item in items}
    except (KeyError, TypeError, ValueError):
        fail(
            f'{args.memo}: expected {{"items": [{{"question", "answer", "MEMO"}}, ...]}} (make it with '
            f"eval/04_memorization.py)"
        )
    for place, question, answers in read_inverted(path):
        try:
            scores = [memo[question, answer] if args.select != "random" else 0.0 for answer in answers]
        except KeyError:
            fail(f"{args.memo}: holds no MEMO of the answers in {place}; make it again with eval/04_memorization.py")
        pairs += [
            {"question": question, "answer": answers[at]} for at in selected(scores, args.select, args.top_k, rng)
        ]
    return pairs


if __name__ == "__main__":
    args = arguments(
        __doc__,
        forget="forget_inverted.jsonl",
        retain_data=None,
        lr=1e-5,
        epochs=5.0,
        batch=1,
        accumulation=8,
        top_k=(3, "inverted facts a question", count),
        select=("largest", "by MEMO, or at random", None, ("largest", "smallest", "random")),
        memo=("", "the inverted facts' MEMO, by eval/04_memorization.py (not needed with --select random)"),
    )
    if args.select != "random" and not args.memo:
        fail(
            f"--select {args.select} needs --memo FILE (eval/04_memorization.py makes it); --select random does without"
        )
    model, trainer = start(args, inverted_pairs(args), files=[args.memo] if args.memo else [])
    for forget, _ in trainer:
        loss = nll(model, forget)
        loss.backward()
        trainer.update(loss)
    trainer.finish()
