"""DPO, direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290, Eq. 7), as an unlearning method, with a retain loss.

The model learns to prefer another answer to the true one: a refusal (Maini et al. 2024, arXiv:2401.06121), or with --prefer the
vague answers of 03_augment.py, each to its own rewording of the question (ReLearn-DPO, ReLearn's released code).
"""

from lib.files import fail
from lib.flags import RETAIN_FLAGS, arguments, positive
from lib.formats import read_pairs
from lib.losses import log_ratio, retain_loss
from lib.trainer import data_file, refusals, start

import torch.nn.functional as F


def preferences(args):
    """(chosen pairs, rejected pairs), row by row of the same question."""
    true = read_pairs(data_file(args, args.forget))
    if not args.prefer:
        return refusals(true, args.seed), true
    chosen = [
        pair
        for pair in read_pairs(args.prefer)
        if isinstance(pair.get("source"), int) and pair.get("kind") != "completion"
    ]
    if not chosen or max(pair["source"] for pair in chosen) >= len(true):
        fail(
            f'{args.prefer}: its rows must name the forget pair they were made of as "source" (make it with 03_augment.py)'
        )
    return chosen, [{"question": pair["question"], "answer": true[pair["source"]]["answer"]} for pair in chosen]


def dpo_loss(model, chosen, rejected, beta):
    """-E log σ(β [log-ratio of chosen - log-ratio of rejected]), log-ratios of model to vanilla model: scalar."""
    return chosen.row_mean(-F.logsigmoid(beta * (log_ratio(model, chosen) - log_ratio(model, rejected))))


if __name__ == "__main__":
    args = arguments(
        __doc__,
        lr=1e-5,
        epochs=5.0,
        batch=1,
        accumulation=8,
        beta=(0.1, "inverse temperature β", positive),
        prefer=("", "augmented forget set whose vague answers are preferred (default: refusals)"),
        **RETAIN_FLAGS,
    )
    model, trainer = start(args, *preferences(args), files=[args.prefer] if args.prefer else [])
    for (chosen, rejected), retain in trainer:
        loss = dpo_loss(model, chosen, rejected, args.beta) + retain_loss(model, retain, args)
        loss.backward()
        trainer.update(loss)
    trainer.finish()
