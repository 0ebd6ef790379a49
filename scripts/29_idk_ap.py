"""IDK+AP (Yuan et al. 2024, arXiv:2410.08109): learns to refuse the forget questions, and to prefer answers to
refusals elsewhere.

L = NLL(refusals on D_f) - (1/β) E log σ(β [log π(y_r|x_r) - log π(refusal|x_r)]) on D_r, log-probabilities summed over
the answer.
"""

from lib.flags import arguments, positive
from lib.formats import read_pairs
from lib.likelihood import nll, sequence_logprob
from lib.trainer import data_file, refusals, start

import torch.nn.functional as F


def preservation_loss(model, answer, refusal, beta):
    """-(1/β) E log σ(β [log π(answer) - log π(refusal)]) of the same questions: scalar."""
    difference = sequence_logprob(model, answer) - sequence_logprob(model, refusal)
    return answer.row_mean(-F.logsigmoid(beta * difference) / beta)


if __name__ == "__main__":
    args = arguments(
        __doc__, lr=1e-5, epochs=5.0, batch=1, accumulation=8, beta=(0.1, "inverse temperature β", positive)
    )
    kept = read_pairs(data_file(args, args.retain_data))
    forget = refusals(read_pairs(data_file(args, args.forget)), args.seed)
    model, trainer = start(
        args, forget, retain=(kept, refusals(kept, args.seed + 1)), files=[data_file(args, args.retain_data)]
    )
    for forget, (answer, refusal) in trainer:
        loss = nll(model, forget) + preservation_loss(model, answer, refusal, args.beta)
        loss.backward()
        trainer.update(loss)
    trainer.finish()
