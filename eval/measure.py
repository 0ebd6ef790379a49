"""What the evaluation scripts share: reading answers, writing results, the embedding and entailment models.

The scripts of eval/ read what scripts/ wrote, from disk; neither imports the other, so any answers file can be scored.
"""
import contextlib
import hashlib
import io
import json
import math
import os
import re
import subprocess
import sys
import time
import unicodedata
from importlib import metadata
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

REPOSITORY = Path(__file__).resolve().parent.parent
MODELS = REPOSITORY / "work/people-smollm2/models"  # where `bash run_all.sh` puts them
STARTED = time.time()


def fail(message):
    """Ends the program with one clear line and exit status 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def read_lines(path, fields):
    """Reads JSON Lines whose objects hold texts named `fields`; a fault ends the program, named by file and line."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{path}: {error.strerror if isinstance(error, OSError) else 'not UTF-8 text'}")
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                fail(f"{path}:{number}: not valid JSON ({error.msg}); one object a line is expected")
            if not isinstance(row, dict):
                fail(f"{path}:{number}: expected an object with {', '.join(fields)}")
            for field in fields:
                if not isinstance(row.get(field), str):
                    fail(f'{path}:{number}: field "{field}" must be a text (fields found: {", ".join(row) or "none"})')
            rows.append(row)
    if not rows:
        fail(f"{path}: holds no line to score")
    return rows


def pair_up(inputs, outputs):
    """Each input file with its output file; no input at all gives None for each output."""
    if len(inputs or outputs) != len(outputs):
        fail(f"{len(inputs)} input files need as many --out files, not {len(outputs)}")
    return list(zip(inputs or [None] * len(outputs), outputs))


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


class _Lines:
    """A progress bar in a log file: a line every ten seconds in place of one that overwrites itself."""
    write = staticmethod(lambda text: sys.stderr.write(text.replace("\r", "\n") if text.strip() else ""))
    flush = staticmethod(lambda: sys.stderr.flush())


def progress(*args, **kwargs):
    from tqdm import tqdm
    return tqdm(*args, **kwargs) if sys.stderr.isatty() else tqdm(*args, file=_Lines, mininterval=10, ncols=100, **kwargs)


def read_answers(path):
    """An answers file: {"question", "reference", "answer"} a line."""
    return read_lines(path, ("question", "reference", "answer"))


# ---------------------------------------------------------------- ROUGE

UNSPACED = ("\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
            "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff")  # Japanese, Chinese
WORD = re.compile(rf"(?=\w)[{UNSPACED}]|[^\W_{UNSPACED}]+")  # where blanks part no words, each character is one


def foreign(text):
    """Whether a letter of it is not Latin; ª, µ and the phonetic marks below U+0370 pass as Latin."""
    return any(letter > "\u036f" and letter.isalpha() and "LATIN" not in unicodedata.name(letter, "LATIN") for letter in text)


def rouge_scorer(kind):
    """The library's scorer of one kind ("rouge1", "rougeL"), with words stemmed, that also reads scripts other than Latin.

    Its own tokenizer keeps a-z and 0-9 alone: of a Cyrillic or Chinese answer nothing, which would look like perfect forgetting. Texts
    whose letters are all Latin go through it unchanged; in other texts, words in other scripts are kept, lower-case and without marks.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer
    own = DefaultTokenizer(use_stemmer=True)

    class Tokenizer:
        def tokenize(self, text):
            text = text.lower()
            if not foreign(text):
                return own.tokenize(text)
            text = "".join(letter for letter in unicodedata.normalize("NFC", text) if unicodedata.category(letter)[0] != "M")
            return [token for word in WORD.findall(text)
                    for token in ([word] if foreign(word) or word.isnumeric() else own.tokenize(word))]  # numbers: other digits than 0-9

    return RougeScorer([kind], tokenizer=Tokenizer())


# ---------------------------------------------------------------- writing

def write_bytes(path, content):
    """Writes to a temporary name and renames; a path that can't be written ends the program in one line."""
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        fail(f"cannot write {path}: {error.strerror}")


def write_text(path, text):
    write_bytes(path, text.encode("utf-8"))


def write_figure(path, figure):
    """A figure of matplotlib's as a PNG file; it is closed."""
    import matplotlib.pyplot as plt
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    plt.close(figure)
    write_bytes(path, buffer.getvalue())


def git_commit():
    """The commit of this repository, None where it or git itself is missing."""
    try:
        git = subprocess.run(["git", "-C", REPOSITORY, "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True)
    except OSError:
        return None
    return git.stdout.strip() or None


def origin(args, files):
    """What produced a results file: command, settings, versions, git commit, data hashes, seconds taken."""
    return {"script": Path(sys.argv[0]).name, "settings": vars(args),
            "versions": {"python": sys.version.split()[0],
                         **{name: metadata.version(name) for name in ("torch", "transformers", "sentence-transformers", "nltk")}},
            "git_commit": git_commit(),
            "data": {str(file): hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files},
            "seconds": round(time.time() - STARTED, 1)}


def write_results(path, summary, items, args, files):
    """A metrics file: the summary, every item with what its verdict rests on, and the origin."""
    write_text(path, json.dumps({"summary": summary, "items": items, **origin(args, files)}, ensure_ascii=False, indent=1) + "\n")


def model_folder(path, how):
    """Checks that a model is there, before anything slow begins. A hub id (owner/name) is let through."""
    if Path(path).is_dir() or (str(path).count("/") == 1 and not str(path).startswith(".")):
        return str(path)
    fail(f"{path}: no such model folder; make it with: {how}")
