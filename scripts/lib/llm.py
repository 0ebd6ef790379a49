"""The one client of language models, prompts in and texts out: `local`, a model on this machine, or `api`, an
OpenAI-compatible endpoint.

Each reply is appended to a file under --cache as it arrives, under the SHA-256 of (back end, model, settings, prompt):
an interrupted run loses the requests under way, at most --concurrency, and no other prompt is paid for twice.
"""

import base64
import concurrent.futures
import functools
import hashlib
import json
import os
import random
import re
import sys
import threading
import time
import urllib.parse
from collections import Counter
from pathlib import Path

from lib.files import REPOSITORY, fail, progress, read_text, without_password, writing
from lib.flags import Parser, count, count_or_none, number, positive, words_of

AGAIN = 2  # times a reply that cannot be used is asked for again
FATAL = (400, 401, 402, 403, 404, 405, 413, 415, 422)  # asking again would not help
LONGEST_WAIT = 600  # seconds that a server may ask to wait (Retry-After) before the run ends in place of waiting
used = Counter()  # requests, tokens in, tokens out of this program so far
longest = {}  # model: its name for the longest reply, where it is not max_tokens


def add_flags(parser):
    """The flags that name a back end and its settings, the same for every script that writes with a model."""
    parser.add_argument(
        "--backend",
        default="rules",
        choices=("rules", "local", "api"),
        help="rules: no model (default); local: a language model here; api: an OpenAI-compatible endpoint, its key in "
        "OPENAI_API_KEY, its address in OPENAI_BASE_URL",
    )
    parser.add_argument("--backend-model", help="local: model folder or hub id; api: the model's name there")
    parser.add_argument(
        "--prompts", default=str(REPOSITORY / "data/prompts"), help="folder of prompts (default: data/prompts)"
    )
    parser.add_argument(
        "--cache",
        default=str(REPOSITORY / "work/replies"),
        help="folder that keeps every reply (default: work/replies)",
    )
    parser.add_argument(
        "--max-new-tokens", type=count, default=256, help="longest reply, in tokens (default: %(default)s)"
    )
    parser.add_argument("--temperature", type=number(least=0), default=0.7, help="0 is greedy (default: 0.7)")
    parser.add_argument(
        "--top-p", type=number(above=0, most=1), default=0.9, help="with a temperature: nucleus mass (default: 0.9)"
    )
    parser.add_argument("--batch", type=count, default=16, help="local: prompts in one batch (default: 16)")
    parser.add_argument("--dtype", default="auto", help="local: auto, bfloat16, float16 or float32 (default: auto)")
    parser.add_argument("--concurrency", type=count, default=8, help="api: requests under way at once (default: 8)")
    parser.add_argument(
        "--requests-per-minute", type=number(least=0), default=0, help="api: rate limit (default: 0, none)"
    )
    parser.add_argument("--timeout", type=positive, default=60, help="api: seconds to wait for one reply (default: 60)")
    parser.add_argument(
        "--retries", type=count_or_none, default=5, help="api: times a failed request is sent again (default: 5)"
    )
    parser.add_argument(
        "--price-in", type=number(least=0), default=0, help="api: price of a million tokens of prompt (default: 0)"
    )
    parser.add_argument(
        "--price-out", type=number(least=0), default=0, help="api: price of a million tokens of reply (default: 0)"
    )


def check_flags(args):
    """Ends the program where a back end cannot work, before anything is read or paid."""
    if args.backend == "rules":
        return
    if not args.backend_model:
        fail(
            f"--backend {args.backend} needs --backend-model: "
            + ("a model folder or hub id" if args.backend == "local" else "a name")
        )
    if args.backend == "api":
        if not api_key():
            fail(
                "--backend api: no key in the environment variable OPENAI_API_KEY (any text will do where the server "
                "wants none)"
            )
        try:
            import openai  # noqa: F401
        except ImportError:
            fail("--backend api needs the package openai: pip install -r requirements.txt")
        if not api_key().isascii() or not api_key().isprintable():
            fail("--backend api: the key in OPENAI_API_KEY holds a letter that no header can: set it again")
        _client(args)


def api_key():
    """The key, without the line end of a file that it may come from."""
    return os.environ.get("OPENAI_API_KEY", "").strip()


def _client(args):
    """The client of an OpenAI-compatible endpoint; base URL from the environment."""
    import openai

    try:
        return openai.OpenAI(api_key=api_key(), max_retries=0, timeout=args.timeout)
    except Exception as error:  # the URL is what it can stumble over
        url = without_password(os.environ.get("OPENAI_BASE_URL", ""))
        fail(hidden(f"OPENAI_BASE_URL {url} is no address ({type(error).__name__})"))


def hidden(text, surely=True):
    """A text with *** in place of the key, as it is, in base64 or as in a URL: client and server may repeat it.

    Args:
        surely: False for a model's replies, in which a key that is a mere word ("none") or very short is no secret.
    """
    key = api_key()
    if not key or not surely and (len(key) < 6 or key.isalpha()):
        return text
    forms, raw = (
        {key, urllib.parse.quote(key, safe=""), urllib.parse.quote(key), urllib.parse.quote_plus(key)},
        key.encode(),
    )
    for shift in range(
        3
    ):  # base64 of a text that holds the key somewhere: its letters depend on where; those it shares are cut
        code = base64.b64encode(bytes(shift) + raw)[-(-shift * 8 // 6) : (shift + len(raw)) * 8 // 6].decode()
        forms |= {code, code.replace("+", "-").replace("/", "_")} if len(code) >= min(6, len(key)) else set()
    if len(key) < 4 and surely:
        forms = {key}
    found = "|".join(re.escape(form) for form in sorted(forms - {""}, key=len, reverse=True))
    return re.sub(found, "***", text, flags=re.I)


def read_prompt(folder, name):
    """The text of a prompt file, without its line breaks at the end."""
    path = Path(folder) / f"{name}.txt"
    if not path.is_file():
        fail(f"{path}: no such prompt file")
    text = read_text(path).strip()
    if not text:
        fail(f"{path}: the prompt is empty")
    return text


def fill_prompt(prompt, **values):
    """Puts values in place of {their names}, in one pass, so that braces in a value stay as they are."""
    missing = [name for name in values if "{" + name + "}" not in prompt]
    if missing:
        fail(f"a prompt lacks the placeholder {{{missing[0]}}}: {prompt[:60]!r}")
    return re.sub(r"\{(\w+)\}", lambda name: str(values.get(name[1], name[0])), prompt)


# ---------------------------------------------------------------- replies on disk


def _identity(args):
    """What a reply depends on beside its prompt: back end, model (a folder by its weights' sizes and dates),
    settings.
    """
    model, folder = args.backend_model, Path(args.backend_model)
    if args.backend == "local" and folder.is_dir():
        model = [
            str(folder.resolve()),
            *sorted([file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in folder.glob("*.safetensors")),
        ]
    else:
        model = [model, os.environ.get("OPENAI_BASE_URL", "") if args.backend == "api" else ""]
    return [
        args.backend,
        model,
        {"max_new_tokens": args.max_new_tokens, "temperature": args.temperature, "top_p": args.top_p},
    ]


def _key(identity, draw, prompt):
    return hashlib.sha256(json.dumps([*identity, draw, prompt], sort_keys=True).encode()).hexdigest()


def _file(args):
    return Path(args.cache) / (
        re.sub(r"[^\w.-]+", "-", f"{args.backend}-{args.backend_model}").strip("-")[:100] + ".jsonl"
    )


def _read(path):
    """{key: reply} of a cache file. The last line of a run that was cut off may be half a line: it is asked again."""
    kept = {}
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else ():
        try:
            row = json.loads(line)
            kept[row["key"]] = row["reply"]
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    return kept


def ask(prompts, args, draw=(0, 0)):
    """Replies of a language model to `prompts`.

    Args:
        prompts: list of texts.
        args: the flags of `add_flags`.
        draw: (seed, time): another value asks for another reply to the same prompt, the same value never asks again.
    Returns:
        list of texts, in the order of the prompts. Ends the program when a prompt gets no reply; the others are kept.
    """
    identity, path, draw = _identity(args), _file(args), list(draw)
    keys = [_key(identity, draw, prompt) for prompt in prompts]
    kept = _read(path)
    missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in kept}
    if missing:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        with open(path, "a+b") as file:
            if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                file.write(b"\n")
            replies = (_local if args.backend == "local" else _api)(missing, args, draw)
            for key, reply in replies:
                line = json.dumps({"key": key, "prompt": missing[key], "reply": reply}, ensure_ascii=False).encode()
                with writing(path, "; the replies before are kept: the same command asks for the rest"):
                    file.write(line + b"\n")
                    file.flush()
                kept[key] = reply
    return [kept[key] for key in keys]


def ended(text):
    """What is whole of a reply that was cut at --max-new-tokens: its lines but the last, or its sentences but that."""
    whole = re.match(r"(?s).*\S(?=\s*\n)", text) or re.match(r"(?s).*[.!?。！？…][\"”’»)]*(?=\s)", text)
    return whole[0].strip() if whole else ""


# ---------------------------------------------------------------- local


@functools.cache
def _model(name, dtype):
    from lib.models import load_model

    return load_model(name, dtype)


def _local(missing, args, draw):
    """Yields (key, reply), in batches of prompts of like length; the seed of a batch comes from its prompts."""
    from lib.generation import answers

    import torch

    model, tokenizer = _model(args.backend_model, args.dtype)
    drawn = {"do_sample": True, "temperature": args.temperature, "top_p": args.top_p, "top_k": 0}
    sampling = drawn if args.temperature else {}
    keys = sorted(missing, key=lambda key: (len(missing[key]), key))
    for at in progress(range(0, len(keys), args.batch), desc="replies", unit="batch"):
        batch = keys[at : at + args.batch]
        torch.manual_seed(int("".join(key[:4] for key in batch)[:15], 16))
        prompts = [missing[key] for key in batch]
        size = args.batch, args.max_new_tokens
        yield from zip(batch, answers(prompts, model, tokenizer, *size, cut=ended, **sampling), strict=True)


# ---------------------------------------------------------------- api


def estimate(prompts, args, draw=(0, 0), again=3):
    """Says what a run of `prompts` will cost at most, before it starts: a token is about four characters, replies are
    at their longest, prompts whose reply is on disk cost nothing (of texts that depend on other replies that shows only
    later).

    again: how often a text that fails the caller's check is asked for again."""
    kept, identity = _read(_file(args)), _identity(args)
    new = [prompt for prompt in set(prompts) if _key(identity, list(draw), prompt) not in kept]
    tokens = round(sum(map(len, new)) / 4), len(new) * args.max_new_tokens
    print(
        f"{args.backend} {args.backend_model}: at most {len(new)} requests, {tokens[0]:,} tokens of prompts and "
        f"{tokens[1]:,} of replies: "
        f"{_cost(args, *tokens)}" + (f"; and up to {again} more for each text that fails its check" if again else ""),
        file=sys.stderr,
    )


def _cost(args, tokens_in, tokens_out):
    if not args.price_in and not args.price_out:
        return "cost unknown (give --price-in and --price-out)"
    return f"{(tokens_in * args.price_in + tokens_out * args.price_out) / 1e6:.4f} at the prices given"


def spend(args):
    """Says what this program's requests used, and returns it for the record."""
    if args.backend == "api":
        print(
            f"used {used['requests']} requests, {used['in']:,} tokens of prompts, {used['out']:,} of replies: "
            f"{_cost(args, used['in'], used['out'])}",
            file=sys.stderr,
        )
    return dict(used)


class _Gone(Exception):
    """A prompt that got no reply, with the reason as its text."""


def _create(client, prompt, args):
    """One request. A model that wants another name for the longest reply, as newer ones do, says so once."""
    import openai

    name = longest.get(args.backend_model, "max_tokens")
    try:
        return client.chat.completions.create(
            model=args.backend_model,
            messages=[{"role": "user", "content": prompt}],
            temperature=args.temperature,
            **{name: args.max_new_tokens},
            **({"top_p": args.top_p} if args.temperature else {}),
        )
    except openai.BadRequestError as error:
        if name != "max_tokens" or "max_completion_tokens" not in error.message:
            raise
    longest[args.backend_model] = "max_completion_tokens"
    return _create(client, prompt, args)


def _request(client, prompt, args, wait, stop):
    """One prompt's reply, with retries: exponential back-off with jitter, or what Retry-After says.

    Returns:
        (text, tokens in, tokens out). Raises _Gone, at once when `stop` is set and nothing is under way.
    """
    import openai

    reason = ""
    for attempt in range(args.retries + 1):
        wait()
        if stop.is_set():
            raise _Gone(reason)
        after = None
        try:
            reply = _create(client, prompt, args)
            text, usage = reply.choices[0].message.content, reply.usage
            if isinstance(text, str) and text.strip():
                return (
                    ended(text) if getattr(reply.choices[0], "finish_reason", None) == "length" else text.strip(),
                    getattr(usage, "prompt_tokens", 0) or 0,
                    getattr(usage, "completion_tokens", 0) or 0,
                )
            reason = "the reply holds no text"
        except openai.APIStatusError as error:
            reason = f"HTTP {error.status_code}: {error.message}"
            if error.status_code in FATAL:
                raise _Gone(reason) from None
            try:
                after = float(error.response.headers.get("retry-after", ""))
            except ValueError:
                pass
            if after is not None and not after <= LONGEST_WAIT:  # a daily quota, or no number
                raise _Gone(f"{reason}; it asks to wait {after:g} s") from None
        except openai.APITimeoutError:
            reason = f"no reply within {args.timeout:g} s"
        except openai.APIConnectionError as error:
            reason = f"no connection ({error.__cause__ or error})"
        except (openai.OpenAIError, ValueError, TypeError, AttributeError, IndexError) as error:
            reason = f"the reply is not what an OpenAI-compatible server sends ({type(error).__name__})"
        if attempt < args.retries:
            stop.wait(after if after is not None else min(30, 0.5 * 2**attempt) * random.uniform(0.75, 1.25))
    raise _Gone(f"{reason} ({args.retries + 1} times)")


def _api(missing, args, draw):
    """Yields (key, reply) as they arrive. The first prompt that gets none stops the rest: those under way are still
    kept.
    """
    client = _client(args)
    lock, turn, stop, reason = threading.Lock(), [0.0], threading.Event(), None

    def wait():
        if args.requests_per_minute:
            with lock:
                turn[0] = at = max(time.monotonic(), turn[0] + 60 / args.requests_per_minute)
            stop.wait(at - time.monotonic())

    with concurrent.futures.ThreadPoolExecutor(args.concurrency) as pool:
        running = {pool.submit(_request, client, prompt, args, wait, stop): key for key, prompt in missing.items()}
        try:
            for done in progress(
                concurrent.futures.as_completed(running), total=len(running), desc="replies", unit="reply"
            ):
                try:
                    text, tokens_in, tokens_out = done.result()
                    text = hidden(text, surely=False)
                except _Gone as error:
                    reason = reason or str(error)
                    stop.set()
                    continue
                used.update({"requests": 1, "in": tokens_in, "out": tokens_out})
                yield running[done], text
        finally:
            stop.set()
    if reason:
        spend(args)
        reason = " ".join(hidden(reason).split())[:300]
        fail(
            f"{client.base_url.host}: {reason}; the replies so far are kept in {_file(args)}: the same command asks "
            f"for the rest"
        )


# ---------------------------------------------------------------- a judge: replies that must be read as data


def add_judge_flags(parser):
    """The flags of the metrics that ask a language model."""
    parser.add_argument(
        "--judge-model",
        metavar="NAME",
        help="the model's name at the OpenAI-compatible endpoint; key and address: OPENAI_API_KEY, OPENAI_BASE_URL",
    )
    parser.add_argument(
        "--backend-flags",
        default="",
        metavar="FLAGS",
        help='more flags, in one text: " --price-in 0.3 --price-out 1.1", or " --backend local" for a model folder '
        "or hub "
        "id on this machine; those of 03_augment.py",
    )


def check_judge_flags(args, what):
    """The flags of the back end, for `ask_for`; ends the program where it cannot work."""
    if not args.judge_model:
        fail(f"{what} needs --judge-model: the name of a language model")
    parser = Parser("flags in --backend-flags")
    add_flags(parser)
    words = words_of("--backend-flags", args.backend_flags)
    flags = parser.parse_args(["--backend", "api", "--backend-model", args.judge_model, "--temperature", "0", *words])
    if flags.backend == "rules":
        fail("--backend must be local or api: rules answer no prompt")
    check_flags(flags)
    return flags


def json_of(reply):
    """The JSON value that a reply consists of, with or without a code fence around it; None when it is anything
    else.
    """
    try:
        return json.loads(re.sub(r"\A\s*```(?:json)?\s*\n(.*)\n\s*```\s*\Z", r"\1", reply, flags=re.S))
    except (ValueError, RecursionError):
        return None


def ask_for(prompt, values, parse, args):
    """Replies to one prompt of data/prompts filled in with several values.

    The first reply is greedy. What `parse` refuses is asked for again, at most AGAIN times, with a temperature, since
    a greedy model would repeat itself; what is still refused is None, and for the caller to count.

    Args:
        prompt: name of the prompt file. values: list of {placeholder: text}. parse: (reply, values) → what it says, or
        None.
        args: the flags of `add_judge_flags`.
    Returns:
        list of what parse made of the replies, in the order of values.
    """
    flags, found, waiting = check_judge_flags(args, "a language model"), [None] * len(values), list(range(len(values)))
    text = read_prompt(flags.prompts, prompt)
    for draw in range(1 + AGAIN):
        if not waiting:
            break
        if draw and not flags.temperature:
            flags.temperature = 0.7
        prompts = [fill_prompt(text, **values[at]) for at in waiting]
        estimate(prompts, flags, (0, draw), 0)
        for at, reply in zip(waiting, ask(prompts, flags, (0, draw)), strict=True):
            found[at] = parse(reply, values[at])
        waiting = [at for at in waiting if found[at] is None]
        spend(flags)
    if waiting:
        print(
            f"{len(waiting)} of {len(values)} replies were unusable {1 + AGAIN} times and count as missing",
            file=sys.stderr,
        )
    return found
