"""Files and faults: reading, writing whole files or none, one clear line for what goes wrong, and the record of a run.

What the rows of each kind of file hold is in formats.py.
"""

import contextlib
import functools
import gzip
import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib
from importlib import metadata
from pathlib import Path

from lib.sources import sources

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = REPOSITORY / "work/people-smollm2/models"  # where `bash run_all.sh` puts them
STARTED = time.time()
FROM_HUB = {}  # hub id: the commit that came, of all that this program took from there (hub.py)


# ---------------------------------------------------------------- faults


def fail(message):
    """Ends the program with one clear line and exit status 2; with DEBUG=1 in the environment, with a traceback."""
    if os.environ.get("DEBUG") == "1":
        raise RuntimeError(message)
    for bar in list(getattr(getattr(sys.modules.get("tqdm"), "tqdm", None), "_instances", ())):
        bar.close()  # the line is not to stand behind it
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def without_password(text):
    """A text with *** in place of user and password of an address in it, http://user:password@host."""
    return re.sub("//[^/]*@", "//***@", text)


def report_faults():
    """Turns what is no bug, Ctrl-C, a file that cannot be read or written and memory that is not there, into one line;
    all else keeps its traceback.
    """

    def hook(kind, error, trace):
        if os.environ.get("DEBUG") == "1":
            sys.__excepthook__(kind, error, trace)
        elif issubclass(kind, KeyboardInterrupt):
            print("\ninterrupted: give the same command again to continue", file=sys.stderr)
            os._exit(130)
        elif issubclass(kind, OSError) or kind.__name__ == "SafetensorError":
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            os._exit(2)
        elif kind.__name__ in ("MemoryError", "OutOfMemoryError") or "can't allocate memory" in str(error):
            reason = " ".join(str(error).split("\n")[0].split()) or "Python's own"
            print(f"error: not enough memory ({reason}): a smaller --batch or a shorter --max-length", file=sys.stderr)
            os._exit(2)
        else:
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = hook
    if getattr(signal.getsignal(signal.SIGINT), "__module__", "") == "lib":  # while libraries were loaded
        signal.signal(signal.SIGINT, signal.default_int_handler)


# ---------------------------------------------------------------- reading


def read_text(path):
    """A UTF-8 text file's content, without a byte order mark, gzipped (.gz) or not; a file that is not there ends the
    program.
    """
    try:
        if str(path).lower().endswith(".gz"):
            return gzip.decompress(Path(path).read_bytes()).decode("utf-8-sig")
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        fail(f"{path}: not UTF-8 text ({error})")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        fail(f"{path}: not a whole gzip file ({error})")
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


def read_rows(path, names=()):
    """Yields (line number, value) of a JSON Lines file; of a JSON file that holds lists, the values of one after those
    of another; of a JSON file that is one object with one list of objects in it, under whatever key, the list's; of one
    that is an object over several lines with a row's fields in it, that alone. names: such fields beside OF_A_ROW.
    """
    text = read_text(path)
    start = text.lstrip()[:1]
    at = _list_inside(path, text, OF_A_ROW.union(names)) if start == "{" else None
    if start != "[" and at is None:
        with contextlib.suppress(ValueError, RecursionError):
            if start == "{" and "\n" in text.strip() and json.loads(text):
                yield 1, _decoded(path, 1, json.loads, text)
                return
        for line, row in enumerate(text.split("\n"), 1):
            if row.strip():
                yield line, _decoded(path, line, json.loads, row)
        return
    decode, at, inside, seen, line, alone = json.JSONDecoder().raw_decode, at or 0, False, 0, 1, at is not None
    while True:
        while at < len(text) and text[at] in (" \t\r\n," if inside else " \t\r\n"):
            at += 1
        line, seen = line + text.count("\n", seen, at), at
        if at >= len(text):
            return fail(f"{path}:{line}: the list is not closed by ]") if inside else None
        if inside and text[at] == "]" or not inside and text[at] == "[":
            inside, at = not inside, at + 1
            if alone and not inside:
                return None
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


OF_A_ROW = {"messages", "conversations", "question", "answer", "text", "labels"}  # an object with these is itself a row


def _list_inside(path, text, of_a_row):
    """Where the list begins that an object, which is all of a file, holds rows in; None where the file is none such.

    An object on a line of its own with other things than lists of objects in it is a row of JSON Lines.
    """
    first = text.lstrip().split("\n", 1)[0]
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        with contextlib.suppress(ValueError, RecursionError):
            json.loads(first)
            return None  # JSON Lines, whose first row is whole
        return fail(f"{path}:{error.lineno}: not valid JSON ({error.msg})")
    except (RecursionError, ValueError):
        return None  # told line by line
    lists = [key for key, value in whole.items() if value and isinstance(value, list) and isinstance(value[0], dict)]
    if not lists or of_a_row & set(whole):
        return None
    if len(lists) > 1:
        fail(f"{path}: holds several lists of rows, {', '.join(map(repr, lists))}: keep one of them in the file")
    decode, at = json.JSONDecoder().raw_decode, text.index("{") + 1
    while True:  # its keys and values, up to the list
        at = re.compile(r"[\s,]*").match(text, at).end()
        key, at = decode(text, at)
        at = re.compile(r"[\s:]*").match(text, at).end()
        if key == lists[0]:
            return at
        _, at = decode(text, at)


def read_json(path):
    """The value of a JSON file."""
    return _decoded(path, 1, json.loads, read_text(path))


def read_object(path):
    """The object of a JSON file; anything else in it ends the program."""
    found = read_json(path)
    return found if isinstance(found, dict) else fail(f"{path}: expected a JSON object, found {type(found).__name__}")


def real_path(path):
    """An absolute path without links. One in a circle stays as it is (pathlib raises, until Python 3.13)."""
    return Path(os.path.realpath(path))


def base_model(path):
    """Whose weights are loaded for a model folder or hub id: an adapter's base, or its own.

    Where the base has moved, with a whole repository say, it is what the adapter's record says it was trained on.
    """
    adapter = Path(path, "adapter_config.json")
    if not adapter.is_file():
        return str(path)
    base = read_object(adapter).get("base_model_name_or_path")
    if not base or not isinstance(base, str):
        fail(f"{adapter}: names no base model (base_model_name_or_path)")
    for made in (Path(path, name) for name in ("training.json", "uipe.json")):
        if os.path.isabs(base) and not Path(base).is_dir() and made.is_file():
            settings = read_object(made).get("settings")
            there = settings.get("model") if isinstance(settings, dict) else None
            if isinstance(there, str) and Path(there).is_dir() and real_path(there) != real_path(path):
                return base_model(there)
    return base


def file_of_data(data, name):
    """What a flag names: a file in the data folder; where there is none, or the name holds a slash, one from here."""
    inside = Path(data) / name
    return Path(name) if os.sep in name or not inside.is_file() and Path(name).is_file() else inside


# ---------------------------------------------------------------- writing


def write_bytes(path, content):
    """Writes to a temporary name and renames, so that a reader never sees half a file; a path that can't be written
    ends the program.

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


@contextlib.contextmanager
def writing(path, then=""):
    """Names the file where a library meets a full disk: torch, tokenizers and safetensors each raise another kind.

    Args:
        then: what the user should know beside.
    """
    try:
        yield
    except Exception as error:
        text = " ".join(str(error).split())
        if isinstance(error, OSError) or re.search(
            r"os error|no space|I/O error|inline_container|file write fail", text, re.I
        ):
            reason = error.strerror if isinstance(error, OSError) and error.strerror else text
            reason = "no space left, or the disk fails" if "inline_container" in reason else reason
            fail(f"cannot write {path}: {reason}{then}")
        raise


MARK = ".unfinished"  # in a folder that is being made
MADE = {  # the records in one that is
    "model": ("training.json", "uipe.json", "origin.json", "unlearning.json"),
    "data": ("data.json", "requests.json"),
}


def _ours(folder, kind):
    """Did a script here make a folder, as its record or its mark says, or is it empty?"""
    if not any(folder.iterdir()) or (folder / MARK).is_file():  # a checkpoint alone may be anybody's
        return True
    for path in (folder / name for name in MADE[kind]):
        with contextlib.suppress(OSError, ValueError, RecursionError):
            found = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(found, dict) and ({"script", "versions"} <= set(found) or "exported_by" in found):
                return True
    return False


def _check_place(out):
    """A path can be written at all: it has a name, and what it lies in is, or can become, a folder."""
    if not str(out).strip() or Path(out).name in ("", "..") or "\0" in str(out):
        fail(f"--out {str(out)!r}: give a name")
    if len(os.fsencode(Path(out).name)) > 240:
        fail(f"--out {Path(out).name[:40]}…: the name is too long")
    try:
        there = next(folder for folder in Path(out).absolute().parents if folder.exists())
    except OSError as error:
        fail(f"--out {str(out)[:60]}…: {error.strerror}")
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        fail(f"--out {out}: {there} is {'not writable' if there.is_dir() else 'a file'}")


def few(texts, most, separator=", "):
    """Texts in one, the first of them where they are more than `most`: "a, b and 3 more"."""
    more = len(texts) - most
    return separator.join(texts[:most]) + (f" and {more} more" if more > 0 else "")


def check_folder(out, inputs, kind):
    """Ends the program unless a folder, and what is put beside it on the way, may be replaced: it is no input and holds
    none, and is not there, or empty, or made by a script here."""
    _check_place(out)
    inputs = {real_path(path): path for path in inputs}
    for name in (str(Path(out)), f"{Path(out)}.partial", f"{Path(out)}.old"):
        folder = Path(name)
        own = real_path(folder)
        for real, given in sorted(inputs.items(), key=lambda one: (one[0] != own, one[0])):
            if own in (real, *real.parents):
                fail(f"--out {out}: {'is' if own == real else 'holds'} what is read, {given}: give another folder")
        if folder.exists() and not folder.is_dir():
            fail(f"{folder}: is a file, and --out {out} a folder")
        if folder.is_dir() and not _ours(folder, kind):
            fail(f"{folder}: is no {kind} folder that a script here made, and would be lost: give another --out")


def check_files(outs, inputs):
    """Ends the program unless files may be written: none is an input, or a folder, or another of them."""
    seen, inputs = set(), {real_path(path): path for path in inputs}
    for out in outs:
        _check_place(out)
        real = real_path(out)
        if Path(out).is_dir():
            fail(f"cannot write {out}: Is a directory")
        if real in inputs or real.with_name(real.name + ".partial") in inputs:
            fail(f"{out}: would be written over what is read: give another --out")
        if real in seen:
            fail(f"{out}: would be written twice: give another --out")
        seen.add(real)


def begin_folder(folder, empty=False):
    """Makes a folder with the mark of one that is being made; with `empty`, without what an earlier try left in it."""
    folder = Path(folder)
    try:
        if empty and folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).touch()
    except OSError as error:
        fail(f"cannot write {folder}: {error.strerror}")
    return folder


def end_folder(folder):
    """The folder is whole: its record says what it is."""
    (Path(folder) / MARK).unlink(missing_ok=True)


def replace_folder(partial, folder):
    """Puts a finished folder in place of an older one, and of a link only in the link's."""
    end_folder(partial)
    if folder.is_symlink():
        folder.unlink()
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def new_folder(out):
    """A folder to fill, which then takes the place of `out`. What a fault leaves of it is deleted: it could not go on
    from there.
    """
    partial = begin_folder(f"{Path(out)}.partial", empty=True)
    try:
        yield partial
        replace_folder(partial, Path(out))
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache  # adapters share a base, whose files are read once
def _digest(path, *_size_and_date):
    return sha256(path)


def _digest_now(path):
    stat = path.stat()
    return _digest(str(path), stat.st_size, stat.st_mtime_ns)


def contents(folder):
    """{file: SHA-256} of a model folder's files, those of an adapter's base too; a hub id stands for itself."""
    if not Path(folder).is_dir():
        return {str(folder): "hub"}
    found = {str(path): _digest_now(path) for path in sorted(Path(folder).iterdir()) if path.is_file()}
    return found | contents(base) if (base := base_model(folder)) != str(folder) else found


def inputs_of(args, files, script, without=("model", "out")):
    """What the results of one model rest on, for `finished`: a function of the model's folder.

    Args:
        files: all that is read for every model, models too. script: its path, __file__. without: flags that are another
        for each model, or change no result.
    """
    settings, hashes = {name: value for name, value in vars(args).items() if name not in without}, {}
    for path in (*files, *sources(script)):
        hashes |= {str(path): sha256(path)} if Path(path).is_file() else contents(path)
    return lambda folder: {"settings": settings, "files": hashes | contents(folder)}


def finished(path, inputs):
    """The summary of a results file that holds the same `inputs`, so that it need not be made again, or None."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        if found["inputs"] != inputs:
            return None
        os.utime(path)  # it is of the model as it is now, whose files may be younger: see `outdated`
        return found["summary"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


OF_ANSWERS = ("kfr_krr", "linguistic_forget", "linguistic_retain")  # a run makes these anew whenever answers change
BESIDE = {  # metric: the models of a run that it sets beside its own
    "tofu": ["retrained"],
    "membership": ["base", "retrained"],
    "depth": ["vanilla", "retrained"],
    "exposure": ["retrained"],
}
JUDGED = ("sampling", "robustness")  # metrics with answers of their own, which RULES judge
RULES = {f"scripts/lib/{name}.py" for name in ("judge", "leak", "spans", "entities", "clauses", "entailment")}


VERDICTS = ("entities", "judge_model", "embedding", "nli", "as_released")  # flags of the judge that decide verdicts


def outdated(metrics, model):
    """Metrics files of a folder that are older than what they rest on: their model, or one of BESIDE, was trained,
    chosen or linked once more since, the data, RULES or judge's models that they record have another content now, or
    the run's answers were judged with other flags since.

    A model trained again may give the same answers, and then what is made of these need not be made again: judge.json
    counts by their date, OF_ANSWERS never.
    """
    model, run = Path(model), Path(model).parent.parent
    date = lambda path: path.stat().st_mtime_ns if path.exists() else 0
    newest = lambda folder, *patterns: max((date(path) for part in patterns for path in folder.glob(part)), default=0)
    made = lambda folder: newest(folder, "*.safetensors", "select.json", "origin.json")
    own = made(model)  # by all three: weights may be links to older ones
    when = {**dict.fromkeys(OF_ANSWERS, 0), "judge": newest(run / "answers" / model.name, "*.jsonl")}
    when |= {name: max(own, *(made(run / "models" / other) for other in others)) for name, others in BESIDE.items()}
    return [
        path
        for path in sorted(Path(metrics).glob("*.json"))
        if date(path) < when.get(path.stem, own)
        or path.stem not in OF_ANSWERS
        and (_of_other_files(path) or path.stem in JUDGED and _judged_otherwise(path))
    ]


def _of_other_files(path):
    """Has a file that a metrics file was made from another content now: its data or, of JUDGED, the RULES and models?

    Of data those count by which `finished` decides: all others do not make a metric be measured again.
    """
    found = read_json(path)
    try:
        files = found["inputs"]["files"] if "inputs" in found else found["data"]
        then = {Path(name): digest for name, digest in found["data"].items() if name in files}
        if path.stem in JUDGED:
            rules = {str(Path(*Path(name).parts[-3:])): digest for name, digest in files.items()}  # wherever they lay
            then |= {REPOSITORY / name: digest for name, digest in rules.items() if name in RULES}
            flags = found.get("settings") or {}
            models = [Path(flags[name]) for name in ("embedding", "nli") if flags.get(name)]
            then |= {Path(name): digest for name, digest in files.items() if Path(name).parent in models}
        return any(name.is_file() and _digest_now(name) != digest for name, digest in then.items())
    except (KeyError, TypeError, AttributeError):  # it records nothing, or is somebody's own
        return False


def _judged_otherwise(path):
    """Were a metrics file's answers judged with other flags than those of kfr_krr.json beside it?"""
    beside = path.with_name("kfr_krr.json")
    found = [read_json(file) for file in (path, beside if beside.is_file() else path)]
    if not all(isinstance(one, dict) and isinstance(one.get("settings"), dict) for one in found):  # somebody's own
        return False
    own, others = (one["settings"] for one in found)
    return any(own[name] != others[name] for name in VERDICTS if name in own and name in others)


def left_out(paths):
    """What the user is told of outdated metrics files, in one line."""
    files = few([f"{path.name} of {path.parent.name}" for path in paths], 6)
    names = " ".join(dict.fromkeys(path.stem for path in paths))
    return (
        f"left out, as older than what they rest on: {files}; give run_all.sh the same flags with --metrics "
        f'"{names}" to measure again (files copied without their dates, by cp -r, look old too: cp -a keeps them)'
    )


def pair_up(inputs, outputs):
    """Each input file with its output file; no input at all gives None for each output."""
    if len(inputs or outputs) != len(outputs):
        fail(f"{len(inputs)} input files need as many --out files, not {len(outputs)}")
    return list(zip(inputs or [None] * len(outputs), outputs, strict=True))


# ---------------------------------------------------------------- progress and origin


class _Lines:
    """A progress bar in a log file: a line every ten seconds in place of one that overwrites itself."""

    write = staticmethod(lambda text: sys.stderr.write(text.strip() + "\n" if text.strip("\x1b[A \r\n") else ""))
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
        **({"hub": dict(FROM_HUB)} if FROM_HUB else {}),
        "seconds": round(time.time() - STARTED, 1),
    }


def write_results(path, summary, items, args, files, inputs=None):
    """A metrics file: the summary, every item with what its verdict rests on, origin and, for `finished`, inputs."""
    known = {"inputs": inputs} if inputs else {}
    write_json(path, {"summary": summary, "items": items, **known, **record(args, files)})
    os.utime(path)  # measured now, even if it says what an earlier one said: see `outdated`
