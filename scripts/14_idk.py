"""IDK (Maini et al. 2024, arXiv:2401.06121, section 4): learns to refuse, with a retain loss.

Plain fine-tuning on the forget questions with refusals for answers: L = NLL(refusals) + retain loss.
"""
from files import read_pairs
from unlearn import RETAIN_FLAGS, arguments, data_file, nll, refusals, retain_loss, start

if __name__ == "__main__":
    args = arguments(__doc__, lr=1e-5, epochs=5.0, batch=1, accumulation=8, **RETAIN_FLAGS)
    model, trainer = start(args, refusals(read_pairs(data_file(args, args.forget)), args.seed))
    for forget, retain in trainer:
        trainer.step(nll(model, forget) + retain_loss(model, retain, args))
    trainer.finish()
