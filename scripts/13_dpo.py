"""DPO, direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290, Eq. 7), for unlearning, with a retain
loss.

The model learns to prefer another answer to the true one: a refusal (Maini et al. 2024, arXiv:2401.06121), or with
--prefer the vague answers of 03_augment.py, each to its own rewording of the question (ReLearn-DPO, ReLearn's released
code). Two conventions decide how much is forgotten at a rate, and by default each method has its source's:

DPO           -E log σ(β [difference of the sequences' log-ratios]): Rafailov's equation and TOFU's code
ReLearn-DPO   2/β times that, of log-ratios a token (a mean over the answer): zjunlp/unlearn, iterative_trainer.py

open-unlearning's DPO is --scale 2/beta --logprob sum. One part of the released ReLearn-DPO is not reproduced: its klr
compares probabilities where kl_div wants their logarithms; klr here is that of the other methods.
"""

from lib.files import fail
from lib.flags import RETAIN_FLAGS, arguments, positive
from lib.formats import read_pairs
from lib.losses import dpo_loss, retain_loss
from lib.trainer import data_file, refusals, start


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
            f'{args.prefer}: its rows must name the forget pair they were made of as "source" '
            "(make it with 03_augment.py)"
        )
    return chosen, [{"question": pair["question"], "answer": true[pair["source"]]["answer"]} for pair in chosen]


def conventions(args):
    """(scale, whether log-ratios are means over tokens), as the flags say, or else as the source of the method has
    it.
    """
    scale = args.scale if args.scale != "own" else "2/beta" if args.prefer else "1"
    logprob = args.logprob if args.logprob != "own" else "mean" if args.prefer else "sum"
    return 2 / args.beta if scale == "2/beta" else 1.0, logprob == "mean"


if __name__ == "__main__":
    args = arguments(
        __doc__,
        lr=1e-5,
        epochs=5.0,
        batch=1,
        accumulation=8,
        beta=(0.1, "inverse temperature β", positive),
        prefer=("", "augmented forget set whose vague answers are preferred (default: refusals)"),
        scale=("own", "factor of the loss; own: 1, with --prefer 2/beta", str, ("own", "1", "2/beta")),
        logprob=(
            "own",
            "log-probabilities of answers: their sum, or mean over tokens; own: sum, with --prefer mean",
            str,
            ("own", "sum", "mean"),
        ),
        **RETAIN_FLAGS,
    )
    scale, mean = conventions(args)
    model, trainer = start(args, *preferences(args), files=[args.prefer] if args.prefer else [])
    for (chosen, rejected), retain in trainer:
        loss = dpo_loss(model, chosen, rejected, args.beta, scale, mean) + retain_loss(model, retain, args)
        loss.backward()
        trainer.update(loss)
    trainer.finish()
