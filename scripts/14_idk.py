"""IDK (Maini et al. 2024, arXiv:2401.06121, section 4): learns to refuse, with a retain loss.

Plain fine-tuning on the forget questions with refusals for answers: L = NLL(refusals) + retain loss.
"""

from lib.flags import RETAIN_FLAGS, arguments
from lib.formats import read_pairs
from lib.likelihood import nll
from lib.losses import retain_loss
from lib.trainer import data_file, refusals, start

if __name__ == "__main__":
    args = arguments(__doc__, lr=1e-5, epochs=5.0, batch=1, accumulation=8, **RETAIN_FLAGS)
    model, trainer = start(args, refusals(read_pairs(data_file(args, args.forget)), args.seed))
    for forget, retain in trainer:
        loss = nll(model, forget) + retain_loss(model, retain, args)
        loss.backward()
        trainer.update(loss)
    trainer.finish()
