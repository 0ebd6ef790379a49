"""Files and faults: reading pairs, writing whole files or none, one clear line for what goes wrong, and the record of a run."""
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
STARTED = time.time()


def fail(message):
    """Ends the program with one clear line and exit status 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def _excepthook(kind, error, trace):
    """Turns a full disk, a missing file and Ctrl-C into one line; all else keeps its traceback."""
    if issubclass(kind, KeyboardInterrupt):
        print("\ninterrupted: give the same command again to continue", file=sys.stderr)
        os._exit(130)
    if issubclass(kind, OSError) or kind.__name__ == "SafetensorError":
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        os._exit(2)
    sys.__excepthook__(kind, error, trace)


sys.excepthook = _excepthook


def read_rows(path):
    """Yields (line number, object) of a JSON Lines file, or of a JSON file that holds one list."""
    path = Path(path)
    if not path.is_file():
        fail(f"{path}: no such file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        fail(f"{path}: not UTF-8 text ({error})")
    if text.lstrip().startswith("["):
        decoder, at = json.JSONDecoder(), text.index("[") + 1
        while True:
            while at < len(text) and text[at] in " \t\r\n,":
                at += 1
            line = text.count("\n", 0, at) + 1
            if at >= len(text):
                fail(f"{path}:{line}: the list is not closed by ]")
            if text[at] == "]":
                return
            try:
                row, at = decoder.raw_decode(text, at)
            except json.JSONDecodeError as error:
                fail(f"{path}:{error.lineno}: not valid JSON ({error.msg})")
            yield line, row
    else:
        for line, row in enumerate(text.split("\n"), 1):
            if row.strip():
                try:
                    yield line, json.loads(row)
                except json.JSONDecodeError as error:
                    fail(f"{path}:{line}: not valid JSON ({error.msg})")


def read_json(path):
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        fail(f"{path}: not UTF-8 text ({error})")
    except json.JSONDecodeError as error:
        fail(f"{path}:{error.lineno}: not valid JSON ({error.msg})")


def read_pairs(path):
    """Reads question-answer pairs in either published schema.

    Args:
        path: `.jsonl` or `.json` with `{"question", "answer"}` (TOFU) or `{"text", "labels"}` (KnowUnDo) objects.
    Returns:
        list of dicts with `question`, `answer` and whatever other fields the row has. Faults end the program,
        named by file and line.
    """
    pairs = []
    for line, row in read_rows(path):
        if not isinstance(row, dict):
            fail(f"{path}:{line}: expected an object with question and answer, found {type(row).__name__}")
        for theirs, ours in (("text", "question"), ("labels", "answer")):
            if theirs in row and ours not in row:
                row[ours] = row.pop(theirs)
        for field in ("question", "answer"):
            if not isinstance(row.get(field), str) or not row[field].strip():
                found = ", ".join(sorted(row)) or "nothing"
                fail(f'{path}:{line}: field "{field}" must be a non-empty text (fields found: {found}); '
                     'give {"question", "answer"} or {"text", "labels"}')
        pairs.append({**row, "question": row["question"].strip(), "answer": row["answer"].strip()})
    if not pairs:
        fail(f"{path}: holds no question-answer pair")
    return pairs


def write_text(path, text):
    """Writes to a temporary name and renames, so that a reader never sees half a file. A file that already says the same keeps
    its date, so that no later step is repeated for it."""
    path = Path(path)
    if path.is_file() and path.read_bytes() == text.encode():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def write_jsonl(path, rows):
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_json(path, value):
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


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


class _Lines:
    """A progress bar in a log file: a line every ten seconds in place of one that overwrites itself."""
    write = staticmethod(lambda text: sys.stderr.write(text.replace("\r", "\n") if text.strip() else ""))
    flush = staticmethod(lambda: sys.stderr.flush())


def progress(*args, **kwargs):
    from tqdm import tqdm
    return tqdm(*args, **kwargs) if sys.stderr.isatty() else tqdm(*args, file=_Lines, mininterval=10, ncols=100, **kwargs)


def record(args, files=()):
    """What a results file says of its origin: command, settings, versions, git commit, data hashes, seconds taken."""
    try:
        commit = subprocess.run(["git", "-C", REPOSITORY, "describe", "--always", "--dirty", "--abbrev=12"],
                                capture_output=True, text=True).stdout.strip()
    except OSError:  # no git on this machine
        commit = ""
    return {"script": Path(sys.argv[0]).name, "settings": vars(args),
            "versions": {"python": sys.version.split()[0],
                         **{name: metadata.version(name) for name in ("torch", "transformers", "peft", "numpy")}},
            "git_commit": commit or None, "data": {str(path): sha256(path) for path in files},
            "seconds": round(time.time() - STARTED, 1)}
