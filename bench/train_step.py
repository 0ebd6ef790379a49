"""A training step three ways, on the same pairs, model, batch and dtype: ours, the published recipe, the machine's
limit. --method: of ReLearn, or of a method as the widest framework has it.

ours       scripts/12_relearn.py itself (or the method's), run for a few updates (watch.py holds the clock).
published  of ReLearn the released code's recipe written plainly, below: every row padded to 512 tokens, a second whole
           copy of the model as reference in every step, logits of the whole vocabulary at every position, LoRA by
           peft. Assumed of it, where its paper leaves a choice: PyTorch's own attention with a padding mask; with
           --dtype bfloat16, bfloat16 weights under autocast (float32 weights under autocast would be slower and twice
           as large). Of NPO and RMU the plain way, written below from open-unlearning's: rows padded to the batch's
           longest, a deep-copied reference that computes in every step, every block and the logits of every
           position, LoRA by peft.
limit      6·N·tokens floating-point operations (N: all weights, of RMU those of the blocks that it needs; tokens:
           without padding) at the rate of large square products in that dtype. LoRA needs 4 of the 6: frozen weights
           get no gradient. The reference pass is not in it.

Each part runs in a process of its own; its peak is the process's resident memory, Python and libraries included (GPU:
tensors). The last line is one JSON object. time_ratio: pairs a second, ours through the published recipe's, for a whole
method: our reference pass over the retain set, made once in the first step, is counted in, spread over --epochs of the
data (time_ratio_steady: without it; with --full nothing is extrapolated). share_of_limit: the limit's time through
ours, likewise. memory_ratio: peaks.
"""

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent / "scripts"))

from lib.files import fail, progress, read_json  # noqa: E402
from lib.formats import read_pairs  # noqa: E402

SHAPES = {  # of --random-weights, as the models' own config.json have them
    "llama-3.2-1b": {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": True,
        "max_position_embeddings": 131072,
    },
    "llama-2-7b": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "tie_word_embeddings": False,
        "max_position_embeddings": 4096,
    },
}
LENGTH = 512  # tokens that ReLearn's published recipe pads every row to
METHODS = {  # script and flags
    "relearn": ("12_relearn.py", "--forget", "forget_train.jsonl"),
    "npo+gdr": ("11_npo.py", "--retain", "gdr"),
    "npo+klr": ("11_npo.py", "--retain", "klr"),
    "rmu": ("27_rmu.py",),
}


# ---------------------------------------------------------------- the published recipe


def padded(encoded, pad, length=LENGTH):
    """encoded: list of (ids, prompt tokens) → dict of input_ids, attention_mask and labels (-100: no answer token),
    each (rows, length).
    """
    import torch

    rows = {"input_ids": [], "attention_mask": [], "labels": []}
    for ids, prompt in encoded:
        blank = length - len(ids)
        rows["input_ids"].append(ids + [pad] * blank)
        rows["attention_mask"].append([1] * len(ids) + [0] * blank)
        rows["labels"].append([-100] * prompt + ids[prompt:] + [-100] * blank)
    return {name: torch.tensor(values) for name, values in rows.items()}


def published_loss(model, reference, forget, retain, positions=None):
    """NLL(forget) + NLL(retain) + KL(reference ‖ model) on retain, as released: KL is a mean over every position,
    padding too.

    Args:
        model, reference: two whole models. forget, retain: what `padded` returns.
        positions: (rows, 512) bool, to average KL over these instead (to compare with ours).
    """
    import torch
    import torch.nn.functional as F

    kept = model(**retain)
    with torch.no_grad():
        vanilla = reference(**retain).logits
    kl = F.kl_div(F.log_softmax(kept.logits, -1), F.log_softmax(vanilla, -1), log_target=True, reduction="none").sum(-1)
    return model(**forget).loss + kept.loss + (kl.mean() if positions is None else kl[positions].mean())


def plain_npo(model, reference, forget, retain, term):
    """NPO (β 0.1) with GDR or KLR, every term from logits at every position."""
    import torch
    import torch.nn.functional as F

    def log_likelihood(logits, labels):
        loss = F.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none", ignore_index=-100)
        return -loss.sum(-1)

    ours = log_likelihood(model(**forget).logits, forget["labels"])
    with torch.no_grad():
        theirs = log_likelihood(reference(**forget).logits, forget["labels"])
    loss = -2 / 0.1 * F.logsigmoid(-0.1 * (ours - theirs)).mean()
    kept = model(**retain)
    if term == "gdr":
        return loss + kept.loss
    with torch.no_grad():
        vanilla = reference(**retain).logits
    kl = F.kl_div(F.log_softmax(kept.logits, -1), F.log_softmax(vanilla, -1), log_target=True, reduction="none").sum(-1)
    return loss + kl[:, :-1][retain["labels"][:, 1:] != -100].mean()


def plain_rmu(model, reference, forget, retain, block):
    """RMU with a vector of ones' direction, twice as long; hidden states of every block are computed and kept."""
    import torch

    states = lambda one, batch: one(**batch, output_hidden_states=True).hidden_states[block]
    mean = lambda difference, batch: (difference**2).mean(-1)[batch["labels"] != -100].mean()
    ours = states(model, forget)
    vector = torch.full_like(ours[0, 0], 2 / ours.shape[-1] ** 0.5)
    with torch.no_grad():
        vanilla = states(reference, retain)
    return mean(ours - vector, forget) + mean(states(model, retain) - vanilla, retain)


def blocks_of(method, config):
    """How many blocks a method's step computes: of RMU those up to the one that it steers; None: all."""
    return max(1, round(7 / 32 * config["num_hidden_layers"])) if method == "rmu" else None


def plain_loss(method, model, reference, batches):
    """The published recipe's loss of a method."""
    if method == "relearn":
        return published_loss(model, reference, *batches)
    if method == "rmu":
        return plain_rmu(model, reference, *batches, blocks_of(method, reference.config.to_dict()))
    return plain_npo(model, reference, *batches, method.removeprefix("npo+"))


def published(args):
    """Times the published recipe's steps, of which the first is to warm up, and when that is done the machine's
    products.
    """
    from lib.models import encode, load_model

    import torch
    import watch
    from peft import LoraConfig, get_peft_model

    seen = {"seconds": [], "libraries": watch.peak()}
    torch.manual_seed(0)
    model, tokenizer = load_model(args.model, args.dtype)
    reference, _ = load_model(args.model, args.dtype)
    reference.eval()
    model = get_peft_model(
        model,
        LoraConfig(
            r=args.lora_r,
            lora_alpha=2 * args.lora_r,
            lora_dropout=args.lora_dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    ).train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer, device = torch.optim.AdamW(parameters, lr=1e-5), next(model.parameters()).device
    bf16 = reference.dtype == torch.bfloat16
    forget, retain = (
        [
            encode(tokenizer, pair["question"], pair["answer"], LENGTH)
            for pair in read_pairs(Path(args.data, f"{name}_train.jsonl"))
        ]
        for name in ("forget", "retain")
    )
    half = args.batch // 2
    for step in progress(range(args.published_steps + 1), desc="published", unit="step"):
        began = time.perf_counter()
        batches = []
        for rows in (forget, retain):
            rows = [rows[(step * half + at) % len(rows)] for at in range(half)]
            length = LENGTH if args.method == "relearn" else max(len(ids) for ids, _ in rows)
            found = padded(rows, tokenizer.pad_token_id, length)
            batches.append({name: value.to(device) for name, value in found.items()})
        with torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext():
            loss = plain_loss(args.method, model, reference, batches)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        watch.synchronize()
        seen["seconds"].append(time.perf_counter() - began)
        if not math.isfinite(loss.item()):
            fail(f"the published recipe's loss is {loss.item()} at step {step + 1}")
    return {**seen, "peak": watch.peak(), "flops": products(device, reference.dtype)}


# ---------------------------------------------------------------- the limit, and a model of random weights


def products(device, dtype):
    """Floating-point operations a second in large square matrix products, the best of ten."""
    import torch
    import watch

    size = 8192 if device.type == "cuda" else 2048
    one, two = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(11):
        watch.synchronize()
        began = time.perf_counter()
        one @ two
        watch.synchronize()
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds[1:])


def random_weights(args):
    """Writes a Llama of random weights to --model; the tokenizer is that of `tiny-random` (lengths are counted in its
    tokens).
    """
    from lib.models import pick_device

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = Path(args.model)
    done = subprocess.run(
        [sys.executable, BENCH.parent / "scripts/00_models.py", "--model", "tiny-random", "--out", folder]
    )
    if done.returncode:
        raise SystemExit(2)
    shape = SHAPES.get(args.random_weights) or read_json(args.random_weights)
    with pick_device():
        model = LlamaForCausalLM._from_config(LlamaConfig(**shape), dtype=torch.bfloat16)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder)
    return {"parameters": sum(value.numel() for value in model.parameters())}


# ---------------------------------------------------------------- side by side


def child(*command):
    """Runs a Python script in a process of its own, which shows its faults → the JSON object of its last line."""
    done = subprocess.run([sys.executable, *map(str, command)], stdout=subprocess.PIPE, text=True)
    if done.returncode < 0:
        fail(f"{Path(command[0]).name} was ended by signal {-done.returncode} (out of memory? try a smaller --batch)")
    if done.returncode:
        raise SystemExit(2)
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else None


def shared_flags(args):
    """LoRA's, and no validation on the way: it is the report's and no part of a method."""
    return [
        "--probes",
        0,
        "--lora-r",
        args.lora_r,
        "--lora-alpha",
        2 * args.lora_r,
        "--lora-dropout",
        args.lora_dropout,
    ]


def needed(method, model, parameters):
    """Weights that a method's step multiplies by: all, or of RMU those of the blocks that it computes."""
    config = read_json(Path(model, "config.json"))
    if (blocks := blocks_of(method, config)) is None:
        return parameters
    embeddings = config["vocab_size"] * config["hidden_size"] * (1 if config.get("tie_word_embeddings") else 2)
    return (parameters - embeddings) * blocks / config["num_hidden_layers"]


def compare(args, folder):
    """Runs the parts one after the other → the JSON object of the last line."""
    part = lambda name, *flags: child(__file__, "--part", name, "--model", args.model, "--dtype", args.dtype, *flags)
    if args.random_weights:
        args.model = folder / "model"
        part("random_weights", "--random-weights", args.random_weights)
    if not args.data:
        args.data = folder
        child(BENCH / "pairs.py", "--model", args.model, "--out", folder)
    half = args.batch // 2
    groups = math.ceil(len(read_pairs(Path(args.data, "forget_train.jsonl"))) / half)
    updates = max(2, round(args.epochs * groups))
    if args.full:
        args.steps = args.published_steps = updates - 1
    ours = child(
        BENCH / "watch.py",
        BENCH.parent / "scripts" / METHODS[args.method][0],
        *METHODS[args.method][1:],
        "--model",
        args.model,
        "--data",
        args.data,
        "--out",
        folder / "ours",
        "--batch",
        half,
        "--accumulation",
        1,
        "--epochs",
        (args.steps + 1) / groups,
        "--dtype",
        args.dtype,
        *shared_flags(args),
    )
    theirs = part(
        "published",
        "--method",
        args.method,
        "--data",
        args.data,
        "--batch",
        args.batch,
        "--published-steps",
        args.published_steps,
        "--lora-r",
        args.lora_r,
        "--lora-dropout",
        args.lora_dropout,
    )
    rate = theirs["flops"]

    first, seconds, rows, tokens = ours["seconds"][0], *(sum(ours[name][1:]) for name in ("seconds", "rows", "tokens"))
    steps = len(ours["seconds"]) - 1
    once = max(0.0, first - seconds / steps)  # all that the first step takes longer is held against us
    pair = seconds / rows + once / (updates * args.batch)  # seconds a pair, a whole method through
    their_pair = sum(theirs["seconds"][1:]) / (args.published_steps * args.batch)
    floor = 6 * needed(args.method, args.model, ours["parameters"]) * tokens / rows / rate
    gigabytes = lambda size: round(size / 2**30, 3)
    return {
        "time_ratio": round(their_pair / pair, 2),
        "memory_ratio": round(ours["peak"] / theirs["peak"], 3),
        "share_of_limit": round(floor / pair, 3),
        "time_ratio_steady": round(their_pair * rows / seconds, 2),
        "share_of_limit_steady": round(floor * rows / seconds, 3),
        "ours": {
            "pairs_a_second": round(1 / pair, 4),
            "step_seconds": round(seconds / steps, 3),
            "once_seconds": round(once, 2),
            "method_seconds": round(once + updates * seconds / steps, 1),
            "steps": steps,
            "peak_gib": gigabytes(ours["peak"]),
            "libraries_gib": gigabytes(ours["libraries"]),
        },
        "published": {
            "pairs_a_second": round(1 / their_pair, 4),
            "step_seconds": round(their_pair * args.batch, 3),
            "method_seconds": round(their_pair * args.batch * updates, 1),
            "steps": args.published_steps,
            "peak_gib": gigabytes(theirs["peak"]),
            "libraries_gib": gigabytes(theirs["libraries"]),
        },
        "limit": {"gflops": round(rate / 1e9, 1), "step_seconds": round(floor * args.batch, 3)},
        "method": args.method,
        "batch": args.batch,
        "tokens_a_pair": round(tokens / rows, 1),
        "updates": updates,
        "really_run": args.full,
        "model": str(args.random_weights or args.model),
        "parameters": ours["parameters"],
        "lora_r": args.lora_r,
        "lora_dropout": args.lora_dropout,
        "dtype": ours["dtype"],
        "device": ours["device"],
        "threads": ours["threads"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="work/people-smollm2/models/vanilla", help="model folder (default: %(default)s)"
    )
    parser.add_argument(
        "--random-weights",
        metavar="CONFIG",
        default="",
        help=f"in place of --model: random weights of this shape, {', '.join(SHAPES)} or a Llama's config.json",
    )
    parser.add_argument(
        "--data",
        default="",
        help="folder with forget_train.jsonl and retain_train.jsonl (default: pairs as long as "
        "KnowUnDo's, made by pairs.py)",
    )
    parser.add_argument("--method", default="relearn", choices=METHODS, help="default: relearn")
    parser.add_argument(
        "--batch", type=int, default=8, help="pairs in one step: half of them to forget, half to keep (default: 8)"
    )
    parser.add_argument("--steps", type=int, default=20, help="steps of ours to time, after the first (default: 20)")
    parser.add_argument(
        "--published-steps", type=int, default=2, help="of the published recipe, after one to warm up (default: 2)"
    )
    parser.add_argument(
        "--epochs",
        type=float,
        default=3.0,
        help="passes over the forget pairs in a whole method (default: 3, ReLearn's)",
    )
    parser.add_argument("--full", action="store_true", help="really run all updates of both (hours on a CPU)")
    parser.add_argument("--lora-r", type=int, default=8, help="LoRA rank (default: 8, as published)")
    parser.add_argument("--lora-dropout", type=float, default=0.1, help="LoRA dropout (default: 0.1, as published)")
    parser.add_argument(
        "--dtype", default="auto", help="auto (bfloat16 where the processor computes in it), bfloat16, float32"
    )
    parser.add_argument(
        "--device", default="auto", choices=("auto", "cpu"), help="auto takes a GPU if there is one (default)"
    )
    parser.add_argument("--part", choices=("published", "random_weights"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if (
        args.batch < 2
        or args.batch % 2
        or min(args.steps, args.published_steps, args.lora_r) < 1
        or not args.epochs > 0
    ):
        fail(
            "--batch must be even and at least 2, --steps, --published-steps and --lora-r at least 1, --epochs above 0"
        )
    if args.random_weights and args.random_weights not in SHAPES and not Path(args.random_weights).is_file():
        fail(f"--random-weights {args.random_weights}: not {' or '.join(SHAPES)}, and no such file")
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if args.part:
        print(json.dumps(globals()[args.part](args)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(compare(args, Path(folder))))
