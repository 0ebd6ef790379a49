"""Asks a language model what the offline metrics compute: through scripts/backends.py and files, so that caching, retries, rate limits
and the cost estimate are the same as for the augmentation."""
import json
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import REPOSITORY, fail, read_lines

AGAIN = 2  # times an unusable reply is asked for again


def add_flags(parser):
    parser.add_argument("--judge-model", metavar="NAME",
                        help="the model's name at the OpenAI-compatible endpoint; key and address: OPENAI_API_KEY, OPENAI_BASE_URL")
    parser.add_argument("--backend-flags", default="", metavar="FLAGS",
                        help='more flags for scripts/backends.py, in one text: " --price-in 0.3 --price-out 1.1", or " --backend local" for '
                             "a model folder or hub id on this machine")


def check_flags(args, what):
    if not args.judge_model:
        fail(f"{what} needs --judge-model: the name of a language model")


def json_of(reply):
    """The JSON value that a reply consists of, with or without a code fence around it; None when it is anything else."""
    try:
        return json.loads(re.sub(r"\A\s*```(?:json)?\s*\n(.*)\n\s*```\s*\Z", r"\1", reply, flags=re.S))
    except (json.JSONDecodeError, RecursionError):
        return None


def ask(prompt, values, parse, args):
    """Replies to one prompt of data/prompts filled in with several values.

    The first reply is greedy. What `parse` refuses is asked for again, at most AGAIN times, with a temperature, since a greedy model
    would repeat itself; what is still refused is None, and for the caller to count.

    Args:
        prompt: name of the prompt file. values: list of {placeholder: text}. parse: (reply, values) → what it says, or None.
    Returns:
        list of what parse made of the replies, in the order of values.
    """
    found, waiting = [None] * len(values), list(range(len(values)))
    for draw in range(1 + AGAIN):
        if not waiting:
            break
        with tempfile.TemporaryDirectory() as folder:
            questions, replies = Path(folder, "questions.jsonl"), Path(folder, "replies.jsonl")
            questions.write_text("".join(json.dumps({"prompt": prompt, "values": values[at]}) + "\n" for at in waiting), encoding="utf-8")
            status = subprocess.run([sys.executable, REPOSITORY / "scripts/backends.py", "--ask", questions, "--out", replies, "--draw", str(draw),
                                     "--backend", "api", "--backend-model", args.judge_model, "--temperature", "0" if draw == 0 else "0.7",
                                     *shlex.split(args.backend_flags)]).returncode
            if status:
                raise SystemExit(status)  # it has said why
            for at, row in zip(waiting, read_lines(replies, ("reply",)), strict=True):
                found[at] = parse(row["reply"], values[at])
        waiting = [at for at in waiting if found[at] is None]
    if waiting:
        print(f"{len(waiting)} of {len(values)} replies were unusable {1 + AGAIN} times and count as missing", file=sys.stderr)
    return found
