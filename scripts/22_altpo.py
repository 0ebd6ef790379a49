"""AltPO (Mekala et al. 2024, arXiv:2409.13474): prefers alternative answers to the true one.

L = L_f + α retain loss, L_f = -(2/β) E log σ(β [log-ratio of the alternative - log-ratio of the true answer]),
log-ratios of the model to the vanilla model. 04_invert.py writes the alternatives: by rules, or as in the paper by the
vanilla model itself (--backend local --backend-model VANILLA --temperature 1 --count 5).
"""

from lib.flags import RETAIN_FLAGS, arguments, positive
from lib.formats import read_inverted, read_pairs
from lib.losses import dpo_loss, retain_loss
from lib.trainer import data_file, start


def alternatives(args):
    """(chosen pairs, rejected pairs), row by row: every alternative answer beside the true one to the same question."""
    true = {pair["question"]: pair["answer"] for pair in read_pairs(data_file(args, args.forget))}
    rows = [
        ({"question": question, "answer": answer}, {"question": question, "answer": true[question]})
        for _, question, answers in read_inverted(data_file(args, args.alternatives))
        if question in true
        for answer in answers
    ]
    return [chosen for chosen, _ in rows], [rejected for _, rejected in rows]


if __name__ == "__main__":
    args = arguments(
        __doc__,
        lr=1e-5,
        epochs=2.0,
        batch=1,
        accumulation=8,
        **RETAIN_FLAGS,
        alternatives=("forget_inverted.jsonl", "alternative answers by 04_invert.py: a file, or one in --data"),
        beta=(0.1, "inverse temperature β", positive),
        retain_weight=(1.0, "weight α of the retain loss"),
    )
    model, trainer = start(args, *alternatives(args), files=[data_file(args, args.alternatives)])
    for (chosen, rejected), retain in trainer:
        loss = dpo_loss(model, chosen, rejected, args.beta, scale=2 / args.beta)
        loss = loss + args.retain_weight * retain_loss(model, retain, args)
        loss.backward()
        trainer.update(loss)
    trainer.finish()
