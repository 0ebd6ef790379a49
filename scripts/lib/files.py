"""Files and faults: reading, writing whole files or none, one clear line for what goes wrong, and the record of a run.

What the rows of each kind of file hold is in formats.py.
"""

import contextlib
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = REPOSITORY / "work/people-smollm2/models"  # where `bash run_all.sh` puts them
STARTED = time.time()


# ---------------------------------------------------------------- faults


def fail(message):
    """Ends the program with one clear line and exit status 2; with DEBUG=1 in the environment, with a traceback."""
    if os.environ.get("DEBUG") == "1":
        raise RuntimeError(message)
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def report_faults():
    """Turns what is no bug, Ctrl-C and a file that cannot be read or written, into one line; all else keeps its traceback."""

    def hook(kind, error, trace):
        if os.environ.get("DEBUG") == "1":
            sys.__excepthook__(kind, error, trace)
        elif issubclass(kind, KeyboardInterrupt):
            print("\ninterrupted: give the same command again to continue", file=sys.stderr)
            os._exit(130)
        elif issubclass(kind, OSError) or kind.__name__ == "SafetensorError":
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            os._exit(2)
        else:
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = hook


# ---------------------------------------------------------------- reading


def read_text(path):
    """A UTF-8 text file's content, without a byte order mark; a file that is not there ends the program."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        fail(f"{path}: not UTF-8 text ({error})")
    except FileNotFoundError:
        fail(f"{path}: no such file")
    except OSError as error:
        fail(f"{path}: {error.strerror}")


def _decoded(path, line, decode, text, *at):
    """json's decoding of a text that starts at `line` of a file; what it cannot read ends the program."""
    try:
        found = decode(text, *at)
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()  # half a character, "\ud800", could not be written again
        return found
    except json.JSONDecodeError as error:
        fail(f"{path}:{line + error.lineno - 1}: not valid JSON ({error.msg})")
    except UnicodeEncodeError:
        fail(f"{path}:{line}: not valid text (half of a surrogate pair, \\ud800 to \\udfff)")
    except (RecursionError, ValueError):  # so deep, or a number so long, that Python will not read it
        fail(f"{path}:{line}: not valid JSON (nested too deeply, or a number of thousands of digits)")


def read_rows(path):
    """Yields (line number, value) of a JSON Lines file, or of a JSON file that holds lists, the values of one after those of another."""
    text = read_text(path)
    if not text.lstrip().startswith("["):
        for line, row in enumerate(text.split("\n"), 1):
            if row.strip():
                yield line, _decoded(path, line, json.loads, row)
        return
    decode, at, inside, seen, line = json.JSONDecoder().raw_decode, 0, False, 0, 1
    while True:
        while at < len(text) and text[at] in (" \t\r\n," if inside else " \t\r\n"):
            at += 1
        line, seen = line + text.count("\n", seen, at), at
        if at >= len(text):
            return fail(f"{path}:{line}: the list is not closed by ]") if inside else None
        if inside and text[at] == "]" or not inside and text[at] == "[":
            inside, at = not inside, at + 1
        elif inside:
            try:
                row, at = decode(text, at)
            except json.JSONDecodeError as error:
                fail(f"{path}:{error.lineno}: not valid JSON ({error.msg})")
            except (RecursionError, ValueError):
                fail(f"{path}:{line}: not valid JSON (nested too deeply, or a number of thousands of digits)")
            if "\\u" in text[seen:at]:
                _decoded(path, line, json.loads, text[seen:at])
            yield line, row
        else:
            fail(f"{path}:{line}: text after the list's ]: one object a line, or lists alone, are read")


def read_json(path):
    """The value of a JSON file."""
    return _decoded(path, 1, json.loads, read_text(path))


def read_object(path):
    """The object of a JSON file; anything else in it ends the program."""
    found = read_json(path)
    return found if isinstance(found, dict) else fail(f"{path}: expected a JSON object, found {type(found).__name__}")


# ---------------------------------------------------------------- writing


def write_bytes(path, content):
    """Writes to a temporary name and renames, so that a reader never sees half a file; a path that can't be written ends the program.

    A file that already says the same keeps its date, so that no later step is repeated for it.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        if path.is_file() and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        fail(f"cannot write {path}: {error.strerror}")


def write_text(path, text):
    write_bytes(path, text.encode())


def write_json(path, value):
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def write_jsonl(path, rows):
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def replace_folder(partial, folder):
    """Puts a finished folder in place of an older one."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pair_up(inputs, outputs):
    """Each input file with its output file; no input at all gives None for each output."""
    if len(inputs or outputs) != len(outputs):
        fail(f"{len(inputs)} input files need as many --out files, not {len(outputs)}")
    return list(zip(inputs or [None] * len(outputs), outputs, strict=True))


# ---------------------------------------------------------------- progress and origin


class _Lines:
    """A progress bar in a log file: a line every ten seconds in place of one that overwrites itself."""

    write = staticmethod(lambda text: sys.stderr.write(text.replace("\r", "\n") if text.strip() else ""))
    flush = staticmethod(lambda: sys.stderr.flush())


def progress(*args, **kwargs):
    """tqdm, also readable in a log file."""
    from tqdm import tqdm

    if sys.stderr.isatty():
        return tqdm(*args, **kwargs)
    return tqdm(*args, file=_Lines, mininterval=10, ncols=100, **kwargs)


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


def git_commit():
    """The commit of this repository, None where it or git itself is missing."""
    try:
        git = subprocess.run(
            ["git", "-C", REPOSITORY, "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True
        )
    except OSError:
        return None
    return git.stdout.strip() or None


def record(args, files=()):
    """What a results file says of its origin: command, settings, versions, git commit, data hashes, seconds taken.

    Args:
        args: the flags, as argparse gives them. files: paths of everything that was read.
    """
    packages = ("torch", "transformers", "peft", "sentence-transformers", "nltk", "numpy")
    return {
        "script": Path(sys.argv[0]).name,
        "settings": vars(args),
        "versions": {"python": sys.version.split()[0], **{name: metadata.version(name) for name in packages}},
        "git_commit": git_commit(),
        "data": {str(path): sha256(path) for path in files},
        "seconds": round(time.time() - STARTED, 1),
    }


def write_results(path, summary, items, args, files):
    """A metrics file: the summary, every item with what its verdict rests on, and the origin."""
    write_json(path, {"summary": summary, "items": items, **record(args, files)})
