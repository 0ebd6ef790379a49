"""Fine-tunes the base model on question-answer pairs: the vanilla model, which knows everything and so must forget.

With --without-forget it never sees the forget set: the retrained model, exact unlearning's gold standard. Both are trained
on training and validation wordings, as KnowUnDo's `full` is; LoRA, merged into full weights when done.
"""
from pathlib import Path

from files import read_pairs, write_jsonl
from unlearn import arguments, nll, start

if __name__ == "__main__":
    args = arguments(__doc__, lr=3e-4, epochs=10.0, batch=16, accumulation=4,
                     without_forget=(False, "leave the forget set out: the retrained model"))
    parts = ["retain_train", "retain_val"] if args.without_forget else ["forget_train", "forget_val", "retain_train", "retain_val"]
    pairs = {(pair["question"], pair["answer"]): pair for part in parts for pair in read_pairs(Path(args.data) / f"{part}.jsonl")}
    args.forget = f"{args.out}.pairs.jsonl"
    write_jsonl(args.forget, pairs.values())
    model, trainer = start(args)
    for batch, _ in trainer:
        trainer.step(nll(model, batch))
    trainer.finish(merge=True)
