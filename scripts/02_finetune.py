"""Fine-tunes the base model on question-answer pairs: the vanilla model, which knows everything and so must forget.

With --without-forget it never sees the forget set: the retrained model, exact unlearning's gold standard. Both are
trained on training and validation wordings, as KnowUnDo's published model is; LoRA, merged into full weights when
done, or with --full all weights. With --adapter they stay apart: the vanilla model trained further on --forget
forget_train.jsonl is RKLD's augmented model.
"""

from lib.files import fail
from lib.flags import arguments
from lib.likelihood import nll
from lib.models import is_adapter
from lib.trainer import start

FULL = "full.jsonl"

if __name__ == "__main__":
    args = arguments(
        __doc__,
        forget=(FULL, "pairs to learn: a file, or the name of one in --data"),
        retain_data=None,
        lr=3e-4,
        epochs=10.0,
        batch=16,
        accumulation=4,
        probes=0,
        without_forget=(False, "learn full_without_forget.jsonl: the retrained model"),
        adapter=(False, "write the adapter, not merged weights"),
    )
    if args.without_forget and args.forget != FULL:
        fail(f"--forget {args.forget} and --without-forget: give one of them")
    if args.without_forget:
        args.forget = "full_without_forget.jsonl"
    if args.adapter and not args.continue_adapter and is_adapter(args.model):
        fail(
            f"--adapter needs full weights to stand on, and {args.model} is an adapter itself: train it further with "
            f"--continue-adapter, or merge it first with 50_export.py"
        )
    if args.adapter and args.full:
        fail("--adapter and --full: give one of them (--full belongs into a preset's BASELINE, not into TRAIN)")
    model, trainer = start(args)
    for batch, _ in trainer:
        loss = nll(model, batch)
        loss.backward()
        trainer.update(loss)
    trainer.finish(merge=not args.adapter)
