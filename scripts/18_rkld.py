"""RKLD (Wang et al. 2024, arXiv:2406.01983; RKLU at NAACL 2025): reverse-KL distillation from a teacher that has
forgotten.

The teacher lowers every token that more training on the forget set raises: l_t = l_v - α ReLU(l_aug - l_v), l_aug of
the vanilla model trained further on the forget set (02_finetune.py --adapter). L = KL(model ‖ teacher) at the answer
tokens, + λ retain loss.
Vanilla model, augmented model and student are one set of weights with three adapters: none, --augmented, and the one
in training (with --full the student's are its own).
"""

from pathlib import Path

from lib import hub
from lib.files import base_model, fail, read_object, real_path
from lib.flags import RETAIN_FLAGS, arguments
from lib.likelihood import answer_logits
from lib.lora import adapter_file
from lib.losses import retain_loss
from lib.models import is_adapter
from lib.reference import add_reference, reference
from lib.trainer import start

import torch
import torch.nn.functional as F


def teacher_logits(vanilla, augmented, alpha):
    """l_v - α ReLU(l_aug - l_v), all (answer tokens, vocabulary)."""
    return vanilla - alpha * F.relu(augmented - vanilla)


def rkld_loss(model, forget, alpha, divergence):
    """KL(model ‖ teacher) over the whole vocabulary, in nats a token; `forward` is KL(teacher ‖ model), FKLU's
    ablation: scalar.
    """
    logp = F.log_softmax(answer_logits(model, forget), -1)
    teacher = F.log_softmax(
        teacher_logits(
            reference(answer_logits, model, forget), reference(answer_logits, model, forget, "augmented"), alpha
        ),
        -1,
    )
    p, q = (logp, teacher) if divergence == "reverse" else (teacher, logp)
    return forget.token_mean((p.exp() * (p - q)).sum(-1))


def check_base(args):
    """Ends the program unless --augmented, which is a difference to weights, stands on those that --model has."""
    one = base_model(hub.folder(args.model)) if is_adapter(args.model) else args.model
    two = base_model(args.augmented)
    if real_path(one) != real_path(two):
        fail(f"{args.augmented}: stands on {two}, not on {one} as --model does: make it from that, by 02_finetune.py")
    if args.continue_adapter or not is_adapter(args.model):
        return
    record = Path(args.augmented, "training.json")
    made = read_object(record).get("settings") if record.is_file() else None
    made = made if isinstance(made, dict) else {}
    if made.get("continue_adapter") and real_path(str(made.get("model"))) == real_path(args.model):
        fail(f"{args.augmented}: holds the adapter of {args.model}, which joins the weights: give --continue-adapter")


if __name__ == "__main__":
    args = arguments(
        __doc__,
        lr=1e-5,
        epochs=5.0,
        batch=4,
        accumulation=8,
        alpha=(8.0, "strength α of the teacher (TOFU: 8, books: 4)"),
        augmented=("", "adapter of the vanilla model trained further on the forget set"),
        divergence=("reverse", "RKLU's, or FKLU's forward KL", None, ("reverse", "forward")),
        retain_weight=(1.0, "weight λ of the retain loss"),
        **{**RETAIN_FLAGS, "retain": "none"},
    )
    weights = adapter_file(args.augmented)
    check_base(args)
    model, trainer = start(args, files=[weights])
    with torch.random.fork_rng([], enabled=trainer.done > 0):  # draws that a continued run's state is already past
        add_reference(model, "augmented", args.augmented)
    for forget, retain in trainer:
        loss = rkld_loss(model, forget, args.alpha, args.divergence) + args.retain_weight * retain_loss(
            model, retain, args
        )
        loss.backward()
        trainer.update(loss)
    trainer.finish()
