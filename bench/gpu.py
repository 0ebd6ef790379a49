"""What one GPU does with this project: training steps, generation, FSDP2 at the sizes of published models, weights
random.

    bash bench/gpu.sh

Models of the shape of Llama-3.2-1B and Llama-2-7b are made on the GPU in bfloat16; everything else is the methods' own
path: lib's `start` with LoRA r 8 and dropout 0.1, its Trainer, losses and generator. Pairs are as long as KnowUnDo's
(pairs.py), in its prompt format (none). Each measurement is one line of JSON, printed as it comes:

matrix rate   8192³ products of random bfloat16 matrices, the best of ten; copy rate: bytes read and written, likewise
training      tokens a second without padding (forget and retain set; the vanilla model of NPO and KLR is not counted:
              its states are computed once, `once_seconds`); needed_share: the operations that a LoRA step cannot do
              without (4 a weight and token: frozen weights get no gradient; the output layer at answer tokens alone)
              at the matrix rate, through the time taken; share_6n: 6 a weight and token, as the training of whole
              models is counted; peak: tensors on the GPU
generation    tokens a second of a model with an adapter, greedy, 128 new tokens; weight_share: reading all weights
              once a step at half the copy rate (a copy reads and writes), through the time taken
fsdp          the same 7B step in a process that torchrun starts, with --shard fsdp: losses as those of the whole model

What does not fit into the time left is skipped, with a line; what fails says so in its line, and the rest goes on (exit
status 1).
"""

import argparse
import gc
import importlib.util
import json
import math
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH.parent / "scripts"), str(BENCH)]

from lib import lora, losses, parallel, trainer  # noqa: E402
from lib.files import fail, git_commit, read_rows, write_jsonl  # noqa: E402
from lib.flags import FORGET_FLAGS, RETAIN_FLAGS, parser  # noqa: E402
from lib.generation import continuations  # noqa: E402
from lib.likelihood import nll  # noqa: E402
from lib.models import pick_device  # noqa: E402

import torch  # noqa: E402
import transformers  # noqa: E402
from pairs import TENTHS, lengths, pieces  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402

SHAPES = {  # as the models' own config.json have them
    "1b": {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": True,
    },
    "7b": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "tie_word_embeddings": False,
    },
}
TINY = {
    "vocab_size": 1024,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
METHODS = {  # name: its retain loss, the published accumulation (at batch 1)
    "ReLearn": ("gdr+klr", 4),
    "NPO+KLR": ("klr", 8),
}
EXPECTED = {"train 1b": 25, "train 7b": 40, "generate 1b": 20, "generate 7b": 25, "fsdp 7b": 75}  # seconds, to skip by


def synchronize():
    """Waits for the GPU, so that a time is the work's and not its order's."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_gib():
    return round(torch.cuda.max_memory_allocated() / 2**30, 2) if torch.cuda.is_available() else None


def best(function, times=11):
    """Seconds of the fastest of several calls, the first apart."""
    seconds = []
    for _ in range(times):
        synchronize()
        began = time.perf_counter()
        function()
        synchronize()
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def rates(args):
    """The machine's own: (matrix products in operations a second, copies in bytes a second)."""
    device, size = pick_device(), 256 if args.tiny else 8192
    one, two = (torch.randn(size, size, device=device).to(args.dtype) for _ in range(2))
    seconds = best(lambda: one @ two)
    matrix = 2 * size**3 / seconds
    print_line(
        measurement="matrix rate", size=size, tflops=round(matrix / 1e12, 3), milliseconds=round(seconds * 1e3, 4)
    )
    source = torch.zeros(2**20 if args.tiny else 2**32, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = best(lambda: target.copy_(source))
    copy = 2 * source.nbytes / seconds
    print_line(measurement="copy rate", gib=source.nbytes / 2**30, terabytes_a_second=round(copy / 1e12, 3))
    return matrix, copy


def print_line(**values):
    print(json.dumps(values), flush=True)


# ---------------------------------------------------------------- a model, and pairs


def tokenizer_of(folder):
    """A tokenizer of 1024 words in KnowUnDo's prompt format: lengths count, not which row of a vocabulary is read."""
    spec = importlib.util.spec_from_file_location("models", BENCH.parent / "scripts/00_models.py")
    models = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(models)
    models.tiny_random("tiny-llama2", folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = models.TEMPLATES["plain"]
    tokenizer.save_pretrained(folder)
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def write_pairs(folder, tokenizer, count):
    """forget_train.jsonl and retain_train.jsonl as long as KnowUnDo's, of the shipped general texts cut anew."""
    rng = random.Random(0)
    texts = [" ".join(row.values()) for _, row in read_rows(BENCH.parent / "data/general_knowledge.jsonl")]
    for (name, tenths), rows in zip(TENTHS.items(), count, strict=True):
        columns = [list(pieces(tokenizer, texts, lengths(part, rows, rng))) for part in tenths]
        rows = [{"question": one or "?", "answer": two or "."} for one, two in zip(*columns, strict=True)]
        write_jsonl(Path(folder, f"{name}.jsonl"), rows)


def random_model(shape, tokenizer, dtype):
    """A Llama of random weights, made where it computes, set up as lib.models.read_model sets up a loaded one."""
    torch.manual_seed(0)
    with pick_device():
        config = transformers.LlamaConfig(
            **shape,
            max_position_embeddings=4096,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        model = transformers.LlamaForCausalLM._from_config(config, dtype=dtype)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config = transformers.GenerationConfig(
        pad_token_id=tokenizer.pad_token_id, eos_token_id=[tokenizer.eos_token_id]
    )
    model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
    return model


def adapted(args, shape, tokenizer, dtype):
    """In place of lib.trainer's own function, which reads a folder: (random model with a fresh adapter, tokenizer)."""
    torch.manual_seed(0)
    settings = LoraConfig(
        r=args.lora_r,
        lora_alpha=args.lora_alpha,
        lora_dropout=args.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return lora.hasten(get_peft_model(random_model(shape, tokenizer, dtype), settings)), tokenizer


def weights(shape):
    """(weights of the layers, of the output layer) that tokens are multiplied with; embeddings are looked up."""
    hidden, heads = shape["hidden_size"], shape["num_attention_heads"]
    attention = 2 * hidden * hidden * (1 + shape["num_key_value_heads"] / heads)
    return shape["num_hidden_layers"] * (attention + 3 * hidden * shape["intermediate_size"]), shape[
        "vocab_size"
    ] * hidden


# ---------------------------------------------------------------- the measurements


def flags(method, folder, batch, accumulation, steps, rows, **changes):
    """A training script's own flags, with so many epochs that there are `steps` updates."""
    made = parser("", lr=1e-6, **{**RETAIN_FLAGS, **FORGET_FLAGS}).parse_args(
        ["--model", "random", "--out", f"{folder}/out"]
    )
    values = {
        "data": str(folder),
        "retain": METHODS[method][0],
        "batch": batch,
        "accumulation": accumulation,
        "probes": 0,
        "epochs": steps / math.ceil(rows / (batch * accumulation)),
        "checkpoint_every": 10**9,
        **changes,
    }
    for name, value in values.items():
        setattr(made, name, value)
    return made


def steps_of(method, args, shape, tokenizer, dtype):
    """Runs a method → (model, of each update: seconds, tokens, answer tokens, loss); the first computes what is
    kept.
    """
    trainer._beginning = lambda given: adapted(given, shape, tokenizer, dtype)
    trainer.record = lambda *_: {"script": "gpu.py", "data": {}}  # what is recorded needs packages that this does not
    model, running = trainer.start(args)
    seen, tokens, answers = [], 0, 0
    synchronize()
    mark = time.perf_counter()
    for forget, retain in running:
        tokens += sum(int(row.nonzero()[-1]) + 1 for batch in (forget, retain) for row in batch.answer)
        answers += sum(int(batch.answer.sum()) for batch in (forget, retain))
        loss = nll(model, forget) if method == "ReLearn" else losses.npo_loss(model, forget, args.beta)
        loss = loss + losses.retain_loss(model, retain, args)
        loss.backward()
        done = running.done
        running.update(loss)
        if running.done > done:  # the accumulated batch was complete
            synchronize()
            seen.append((time.perf_counter() - mark, tokens, answers, running.log[-1]["loss"]))
            tokens, answers, mark = 0, 0, time.perf_counter()
    return model, seen


def train(method, name, args, folder, tokenizer, matrix, batch, accumulation, shard="ddp"):
    """One measurement of training."""
    shape, warm = shape_of(name, args), 2 if args.tiny else 4
    steps = warm + (3 if args.tiny else 24 if name == "1b" else 16)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    settings = flags(method, folder, batch, accumulation, steps, args.rows[0], shard=shard)
    model, seen = steps_of(method, settings, shape, tokenizer, args.dtype)
    part = seen[warm:]
    seconds, tokens, answers = (sum(row[at] for row in part) for at in range(3))
    layers, output = weights(shape)
    needed = 4 * (layers * tokens + output * answers)
    middle = statistics.median(row[0] for row in part)
    return {
        "measurement": "training",
        "method": method,
        "size": name,
        "batch": batch,
        "accumulation": accumulation,
        "pairs_an_update": 2 * batch * accumulation,
        "tokens_an_update": round(tokens / len(part), 1),
        "updates": len(part),
        "update_seconds": round(seconds / len(part), 4),
        "update_seconds_median": round(middle, 4),
        "once_seconds": round(max(0.0, seen[0][0] - middle), 2),
        "tokens_a_second": round(tokens / seconds, 1),
        "needed_share": round(needed / seconds / matrix, 4),
        "share_6n": round(6 * (layers + output) * tokens / seconds / matrix, 4),
        "peak_gib": peak_gib(),
        "weights_gib": round(sum(one.nbytes for one in model.parameters()) / 2**30, 2),
        "losses": [round(row[3], 4) for row in seen[:4]],
        "sharded": parallel.sharded(model),
    }


def generate(name, args, tokenizer, copy, batch):
    """One measurement of generation, of a model with an adapter."""
    shape, new = shape_of(name, args), 8 if args.tiny else 128
    settings = argparse.Namespace(lora_r=8, lora_alpha=16, lora_dropout=0.1)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    model, _ = adapted(settings, shape, tokenizer, args.dtype)
    rng = random.Random(0)
    prompts = [
        [tokenizer.bos_token_id, *(rng.randrange(300, 1024) for _ in range(rng.choice(TENTHS["forget_train"][0])))]
        for _ in range(batch)
    ]
    continuations(prompts, model, tokenizer, batch, 4)
    synchronize()
    began = time.perf_counter()
    tokens = sum(map(len, continuations(prompts, model, tokenizer, batch, new)))
    synchronize()
    seconds = time.perf_counter() - began
    size = sum(weights(shape)) * next(model.parameters()).element_size()
    return {
        "measurement": "generation",
        "size": name,
        "batch": batch,
        "new_tokens": new,
        "tokens": tokens,
        "seconds": round(seconds, 3),
        "tokens_a_second": round(tokens / seconds, 1),
        "milliseconds_a_step": round(1e3 * seconds / new, 2),
        "weight_share": round(new * size / (copy / 2) / seconds, 4),
        "peak_gib": peak_gib(),
    }


def shape_of(name, args):
    return {**SHAPES[name], **TINY} if args.tiny else SHAPES[name]


def fsdp(args, folder, matrix):
    """The 7B step again, in a process that torchrun starts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=1",
        "--master_addr=127.0.0.1",
        f"--master_port={port}",
        __file__,
        "--part",
        str(folder),
        "--matrix",
        str(matrix),
        *(["--tiny"] if args.tiny else []),
    ]
    left = max(30, args.limit - (time.time() - args.began))
    env = {"NCCL_SOCKET_IFNAME": "lo", "GLOO_SOCKET_IFNAME": "lo", **os.environ}  # a machine without a network has that
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=left, env=env)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError(f"torchrun ended with status {done.returncode}")
    return json.loads(lines[-1])


def measurements(args, folder, tokenizer, matrix, copy):
    """Yields (name, what to call), the most telling first."""
    batch, published = (2, 1) if args.tiny else (32, 1)
    several = 4 if args.tiny else 128
    for name in SHAPES:
        for method in METHODS:
            yield (
                f"train {name}",
                lambda name=name, method=method: train(method, name, args, folder, tokenizer, matrix, batch, 1),
            )
        yield f"generate {name}", lambda name=name: generate(name, args, tokenizer, copy, several)
    yield "fsdp 7b", lambda: fsdp(args, folder, matrix)
    for name in SHAPES:  # as published: one pair at a time
        for method, (_, accumulation) in METHODS.items():
            yield (
                f"train {name}",
                lambda name=name, method=method, many=accumulation: train(
                    method, name, args, folder, tokenizer, matrix, published, many
                ),
            )


def main(args):
    """Everything, until the time is over → exit status."""
    status = 0
    cuda = torch.cuda.is_available()
    print_line(
        measurement="machine",
        device=torch.cuda.get_device_name() if cuda else "cpu",
        gib=round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1) if cuda else None,
        torch=torch.__version__,
        transformers=transformers.__version__,
        cuda=torch.version.cuda,
        commit=git_commit(),
        dtype=str(args.dtype)[6:],
        tiny=args.tiny,
    )
    matrix, copy = rates(args)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = tokenizer_of(Path(folder, "tokenizer"))
        write_pairs(folder, tokenizer, args.rows)
        for name, measure in measurements(args, folder, tokenizer, matrix, copy):
            gc.collect()
            if cuda:
                torch.cuda.empty_cache()
            if args.only and name not in args.only:
                continue
            spent = time.time() - args.began
            if spent + EXPECTED[name] > args.limit:
                print_line(measurement=name, skipped=f"{spent:.0f} s of {args.limit:.0f} s are over")
                continue
            try:
                print_line(**measure(), at_second=round(time.time() - args.began))
            except Exception as error:
                status = 1
                print_line(measurement=name, error=" ".join(f"{type(error).__name__}: {error}".split())[:500])
                if os.environ.get("DEBUG") == "1":
                    raise
    print_line(measurement="all", seconds=round(time.time() - args.began, 1), status=status)
    return status


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tiny", action="store_true", help="models of two small layers, to try it anywhere")
    options.add_argument(
        "--limit", type=float, default=510, help="seconds after which nothing new is begun (default: 510)"
    )
    options.add_argument(
        "--only", nargs="+", choices=EXPECTED, metavar="WHAT", help=f"some of: {', '.join(EXPECTED)} (quoted)"
    )
    options.add_argument("--began", type=float, default=time.time(), help=argparse.SUPPRESS)
    options.add_argument("--part", help=argparse.SUPPRESS)  # folder with pairs: the one that torchrun starts
    options.add_argument("--matrix", type=float, help=argparse.SUPPRESS)
    args = options.parse_args()
    if not args.tiny and not torch.cuda.is_available():
        fail("no GPU: --tiny tries everything on a CPU")
    args.dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    args.rows = (16, 16) if args.tiny else (400, 441)
    transformers.utils.logging.set_verbosity_error()
    if args.part:
        parallel.begin()
        tokenizer = transformers.AutoTokenizer.from_pretrained(Path(args.part, "tokenizer"))
        tokenizer.pad_token = tokenizer.eos_token
        found = train("ReLearn", "7b", args, args.part, tokenizer, args.matrix, 2 if args.tiny else 32, 1, "fsdp")
        print_line(**{**found, "measurement": "fsdp"})
        parallel.end()
    else:
        raise SystemExit(main(args))
