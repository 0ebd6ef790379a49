"""AltPO (Mekala et al. 2024, arXiv:2409.13474): prefers alternative answers to the true one.

L = L_f + α retain loss, L_f = -(2/β) E log σ(β [log-ratio of the alternative - log-ratio of the true answer]),
log-ratios of the model to the vanilla model. 04_invert.py writes the alternatives: by rules, or as in the paper by the
vanilla model itself (--backend local --backend-model VANILLA --temperature 1 --top-p 1 --count 5).
"""

from collections import defaultdict

from lib import parallel
from lib.files import fail
from lib.flags import RETAIN_FLAGS, arguments, positive
from lib.formats import read_inverted, read_pairs
from lib.losses import dpo_loss, retain_loss
from lib.trainer import data_file, start


def alternatives(args):
    """(chosen pairs, rejected pairs), row by row of the same question: every alternative answer beside the true one. A
    question with several true answers has as many rows of alternatives, each to go with one.
    """
    path, forget = data_file(args, args.alternatives), data_file(args, args.forget)
    true, given, chosen, rejected = defaultdict(list), defaultdict(list), [], []
    for pair in read_pairs(forget):
        true[pair["question"]].append(pair["answer"])
    for _, question, answers in read_inverted(path):
        given[question].append(answers)
    left_out = given.keys() - true.keys()
    for question in [question for question in given if question in true]:
        rows, answers = given[question], true[question]
        for at in range(max(len(rows), len(answers))):
            for text in rows[at % len(rows)]:
                chosen.append({"question": question, "answer": text})
                rejected.append({"question": question, "answer": answers[at % len(answers)]})
    if not chosen:
        fail(f"{path}: holds no alternative answer to a question of {forget}: make it of that with 04_invert.py")
    if left_out:
        parallel.say(f"{path}: {len(left_out)} of {len(given)} questions are not in {forget}, and are left out")
    return chosen, rejected


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
