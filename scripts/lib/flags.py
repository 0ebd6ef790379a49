"""Flags of the training scripts: what all of them have, and what each adds. A flag knows its own type and limits."""

import argparse
import math
import os
import shlex
from pathlib import Path
from typing import NamedTuple

from lib.files import base_model, check_files, check_folder, fail, report_faults

# ---------------------------------------------------------------- types that refuse what makes no sense


LARGEST = 10**9  # of whole numbers without a limit of their own: products of two must fit 64 bits


def number(kind=float, above=None, least=None, most=None):
    """The reader of a number for argparse: finite, and within the limits given.

    Args:
        kind: int or float. above: must be larger. least, most: must not be smaller, larger.
    """
    limits = [
        text
        for text, limit in ((f"above {above}", above), (f"at least {least}", least), (f"at most {most}", most))
        if limit is not None
    ]

    def read(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if kind is int and abs(value) > (most or LARGEST):
            raise argparse.ArgumentTypeError(f"must be a whole number, and at most {most or LARGEST}")
        if not (
            math.isfinite(value)
            and (above is None or value > above)
            and (least is None or value >= least)
            and (most is None or value <= most)
        ):
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(
                f"must be {what}{' ' + ' and '.join(limits) if limits else ''}, not {text}"
            )
        return value

    return read


PARTS = (
    "*_train.json*",
    "*_tune.json*",
    "*_val.json*",
    "*_perturbed.json*",
    "holdout*.json*",
    "full*.json*",
    "data.json",
)  # of a data folder

count = number(int, least=1)  # 1, 2, 3 …
count_or_none = number(int, least=0)  # 0 for none
positive = number(above=0)
share = number(least=0, most=1)
seed_number = number(int, least=0, most=2**62)


class Flag(NamedTuple):
    """One flag: its default, what --help says, and the reader of its value; or the texts among which to choose."""

    default: object
    help: str
    type: object = None  # None: that of the default
    choices: tuple = None


class Parser(argparse.ArgumentParser):
    """argparse's, which names a fault in one line, takes no abbreviations and keeps the line breaks of the description.

    Args:
        folder: --out is a folder that is made anew, or several such, a "model" or "data". files: a function from the
        flags to the files that are written, where those are not --out itself. shared: flags that may name an output as
        well.
    """

    def __init__(self, doc, folder=None, files=None, shared=()):
        super().__init__(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
        self.folder, self.files, self.shared = folder, files, ("out", "report", *shared)

    def error(self, message):
        fail(f"{message} (see {self.prog} --help)")

    def parse_args(self, args=None, namespace=None):
        """The flags. An output in the place of an input, or of what is not ours, ends the program; nothing is read yet.

        From here on Ctrl-C, a full disk and a missing file are one line, once what is under way is put in order.
        """
        report_faults()
        args = super().parse_args(args, namespace)
        if not hasattr(args, "out"):
            return args
        inputs = {path for name, value in vars(args).items() if name not in self.shared for path in _paths(args, value)}
        outs = args.out if isinstance(args.out, list) else [args.out]
        if self.folder:
            for out in outs:
                check_folder(out, inputs, self.folder)
            if len({*map(os.path.realpath, outs)}) < len(outs):
                fail("--out: one folder is named twice")
        else:
            check_files(self.files(args) if self.files else outs, inputs)
        return args


def _paths(args, value):
    """What a flag's value names on disk: a file, one in --data, a data folder and its parts, a model and its base."""
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, list):
            yield from _paths(args, text)
        elif isinstance(text, str) and text:
            for path in {Path(text), Path(getattr(args, "data", None) or "", text)}:
                if os.path.exists(path):  # False also for what cannot be a path
                    yield str(path)
                    yield from filter(os.path.exists, [base_model(path)])
                    yield from (str(part) for name in PARTS for part in path.glob(name))


# ---------------------------------------------------------------- training scripts

SHARD = (
    "weights of several processes: ddp, each has all of them; fsdp, each has a part of every layer; auto, fsdp where "
    "they would fill more than 60 %% of a GPU"
)
COMMON = {
    "data": Flag("work/people-smollm2/data", "folder made by 01_data.py"),
    "forget": Flag("forget_train.jsonl", "pairs to unlearn: a file, or the name of one in --data"),
    "retain_data": Flag("retain_train.jsonl", "pairs to keep: a file, or the name of one in --data"),
    "lr": Flag(1e-4, "peak learning rate", positive),
    "epochs": Flag(5.0, "passes over the forget pairs", number(above=0, most=1e6)),
    "batch": Flag(8, "pairs in one forward pass, forget and retain each", count),
    "accumulation": Flag(1, "forward passes to one update", count),
    "warmup": Flag(0.1, "share of the updates in which the rate rises; then it falls linearly to 0", share),
    "clip": Flag(1.0, "largest gradient norm", positive),
    "full": Flag(False, "train all weights, not a LoRA adapter; the three LoRA flags then say nothing"),
    "lora_r": Flag(8, "LoRA rank", count),
    "lora_alpha": Flag(16, "LoRA alpha", positive),
    "lora_dropout": Flag(0.1, "LoRA dropout", share),
    "max_length": Flag(512, "tokens kept of question and answer", count),
    "dtype": Flag(
        "auto",
        "weights: bfloat16, float16, float32; auto: bfloat16 where the processor computes in it and no "
        "adapter has to join the weights. With --full the optimiser keeps float32 copies of 16-bit ones",
    ),
    "checkpoint_every": Flag(20, "updates between checkpoints", count),
    "keep": Flag(
        0,
        "models kept on the way, evenly apart, the last being the finished one: the others are in OUT/points/UPDATE",
        count_or_none,
    ),
    "probes": Flag(
        4,
        "times that the NLL of a few validation pairs is taken on the way, for the report's curves; 0: never, "
        "nor where the forget set lies outside the folder that --data is in",
        number(int, least=0, most=1000),
    ),
    "seed": Flag(0, "seed of order, dropout and new weights", seed_number),
    "continue_adapter": Flag(
        False,
        "--model is an adapter: train it further, in place of a fresh one on its merged weights; rank and alpha are "
        "its own, and the losses' reference is the model as it was when training began",
    ),
    "shard": Flag("auto", SHARD, choices=("auto", "ddp", "fsdp")),
}
RETAIN = ("none", "gdr", "klr", "gdr+klr")
RETAIN_FLAGS = {
    "retain": Flag("gdr", "retain loss: NLL (gdr), KL to the vanilla model (klr), both, or none", choices=RETAIN),
    "kl": Flag(
        "forward",
        "direction of klr: forward KL(vanilla‖model), the released code's; reverse, ReLearn's Eq. 8",
        choices=("forward", "reverse"),
    ),
    "kl_positions": Flag(
        "answer",
        "what klr is a mean over: answer tokens, or padded, all positions of rows padded to --max-length, as in the "
        "released code: about a tenth as strong on short pairs",
        choices=("answer", "padded"),
    ),
}
FORGET_FLAGS = {
    "loss": Flag(
        "ga", "forget loss: gradient ascent (ga) or negative preference optimisation (npo)", choices=("ga", "npo")
    ),
    "beta": Flag(0.1, "inverse temperature β of npo", positive),
}


def words_of(flag, text):
    """The words of a flag that holds other flags in one text, quoted as in the shell."""
    try:
        return shlex.split(text)
    except ValueError:
        fail(f"{flag} {text}: a quote is open")


def parser(doc, **flags):
    """The parser of a training script: --model, --out, all of COMMON, and `flags`.

    Args:
        doc: the script's docstring, shown by --help.
        flags: `name=default` changes a flag's default; `name=Flag(…)`, or a tuple of its parts, adds one or replaces
        it; `name=None` leaves out one that says nothing to this script.
    """
    made = Parser(doc, folder="model")
    made.add_argument("--model", required=True, help="model folder (or hub id) that training starts from")
    made.add_argument("--out", required=True, help="folder to write the trained model to")
    known = {**COMMON, **RETAIN_FLAGS}
    for name, spec in {**COMMON, **flags}.items():
        if spec is None:
            continue
        flag = Flag(*spec) if isinstance(spec, tuple) else known[name]._replace(default=spec)
        option = "--" + name.replace("_", "-")
        if isinstance(flag.default, bool):
            made.add_argument(option, action="store_true", help=flag.help)
        else:
            kind = flag.type or (number(type(flag.default)) if isinstance(flag.default, (int, float)) else str)
            made.add_argument(
                option,
                type=kind,
                default=flag.default,
                choices=flag.choices,
                help=f"{flag.help} (default: {flag.default})",
            )
    return made


def arguments(doc, **flags):
    """Parses the flags of a training script (see `parser`), and joins the other processes where there are several."""
    from lib import parallel

    args = parser(doc, **flags).parse_args()
    parallel.begin()
    return args
