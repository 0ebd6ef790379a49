"""What a certificate may tell of a run: hashes of what was forgotten, settings by kind, numbers; no private text.

Used by 50_export.py, a finished model as one folder, and eval/19_requests.py, requests one after another.
"""

import hashlib
import re
import sys
from pathlib import Path

from lib.files import fail, file_of_data, left_out, outdated, read_json
from lib.flags import COMMON, FORGET_FLAGS, RETAIN_FLAGS
from lib.spans import find_subjects

CHOICES = {  # settings that are words of the scripts, not of the user
    *(choice for flag in {**COMMON, **RETAIN_FLAGS, **FORGET_FLAGS}.values() for choice in flag.choices or ()),
    *("bfloat16", "float16", "float32"),
    *("own", "plain", "chatml", "llama2", "llama3", "gemma2", "open-unlearning"),  # 00_models.py
    *("1", "2/beta", "sum", "mean"),  # 13_dpo.py
    *("largest", "smallest", "random"),  # 17_meow.py
    "states",  # 27_rmu.py
}
VOCABULARY = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")
# flags that name files of the training data, or a folder whose weights are read
FILES = ("forget", "retain_data", "memo", "augmented", "prefer", "alternatives")
HASH = "SHA-256; of a pair: question, line feed, answer; UTF-8"
HASH_OF_TEXTS = (  # for people: what stands in a question's place
    "Of a conversation and of a document, what scripts/01_data.py made of them is hashed: in the question's place the "
    "turns before the answer, each as `[[user]] text` or `[[assistant]] text` on a line of its own; or `[[text N]]`, "
    "line feed, the N-th passage."
)


def pair_hash(pair):
    """SHA-256 of a pair, as HASH says it. Who holds the pair can find it in the list."""
    return hashlib.sha256(f"{pair['question']}\n{pair['answer']}".encode()).hexdigest()


def own_record(folder):
    """The record of the script that made a folder (training.json, uipe.json, origin.json), or None. Training's comes
    first: 40_in_out.py's folder has another beside it."""
    for path in sorted(Path(folder).glob("*.json"), key=lambda path: (path.name != "training.json", path.name)):
        found = read_json(path)
        if isinstance(found, dict) and isinstance(found.get("settings"), dict) and isinstance(found.get("script"), str):
            return found


def told(found):
    """What a record may tell: no path, no free text.

    Returns:
        {"script", "settings": numbers, switches and choices; "withheld": names of the other flags; "data": {role:
        SHA-256}; "versions"; "git_commit"; "updates": how many}.
    """
    settings, data = found["settings"], {}
    open_ = {
        name: value
        for name, value in settings.items()
        if isinstance(value, (int, float)) or isinstance(value, str) and value in CHOICES
    }
    for path, digest in found.get("data", {}).items():
        names = {name: Path(str(settings[name])) for name in FILES if settings.get(name)}
        role = next(
            (name for name, of in names.items() if of.name == Path(path).name or of == Path(path).parent), "other"
        )
        data[role if role not in data else f"{role}_{len(data) + 1}"] = digest
    script = found["script"] if re.fullmatch(r"\d\d_[a-z_]{1,20}\.py", found["script"]) else "other"
    withheld = sorted(name for name in settings if settings[name] not in (None, "") and name not in open_)
    return {
        "script": script,
        "settings": open_,
        "withheld": withheld,
        "data": data,
        "versions": found.get("versions"),
        "git_commit": found.get("git_commit"),
        "updates": len(found.get("updates", [])),
    }


def line(folder):
    """The records from a folder back to the base model: its own, that of the model it was made from, and so on; and
    where the line begins: what that was made from, or the unlearning.json of a model that was exported before."""
    found, name = [], str(folder)
    while Path(name).is_dir() and len(found) < 1000:
        if Path(name, "unlearning.json").is_file():
            return found, read_json(Path(name, "unlearning.json"))
        if not (own := own_record(name)):
            break
        found.append(own)
        name = str(own["settings"].get("model") or "")
    return found, name


def history(folder):
    """What the records of a folder's line tell, and the hub id or the name of a shipped model where it begins, or
    None."""
    found, begin = line(folder)
    steps = [told(one) for one in found]
    if isinstance(begin, dict):
        return steps + begin["made_by"], begin["base"]
    known = steps and steps[-1]["script"] == "00_models.py" and not Path(begin).exists()
    return steps, begin if known and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", begin) else None


def forgotten(folder):
    """What a folder's model was made to forget, by its own training and by every unlearning before it.

    Returns:
        (files of the pairs, the last training's first; hashes of the pairs of a model that was exported before).
    """
    found, begin = line(folder)
    files = [forget_file(one) for one in [one for one in found if unlearns(one)] or found[:1]]
    return list(dict.fromkeys(files)), begin["forgotten"]["pairs"] if isinstance(begin, dict) else []


def unlearns(found):
    """Is a record that of an unlearning with a forget set of its own? UIPE goes on from one that has."""
    return found["script"] not in ("00_models.py", "02_finetune.py", "20_uipe.py")


def forget_file(found):
    """The pairs to be forgotten, by a record: what --forget names, where that is not learnt."""
    settings, name = found["settings"], "forget_train.jsonl"
    if found["script"] not in ("02_finetune.py", "12_relearn.py", "17_meow.py"):
        name = settings.get("forget") or name
    return file_of_data(str(settings.get("data") or ""), str(name))


def numbers(value, name=""):
    """The numbers of a summary: {dotted name: number}; all other values stay behind."""
    if isinstance(value, (dict, list)):
        parts = value.items() if isinstance(value, dict) else enumerate(value, 1)
        return {
            inner: number
            for key, part in parts
            for inner, number in numbers(part, f"{name}.{key}" if name else str(key)).items()
        }
    return {name: value} if isinstance(value, (int, float)) and not isinstance(value, bool) else {}


def measured(folder, model):
    """Every number of the metrics files of a model: {file's name: {name: number}}; of an earlier one none."""
    found, older = {}, outdated(folder, model)
    if older:
        print(left_out(older), file=sys.stderr)
    for path in sorted(Path(folder).glob("*.json")):
        summary = read_json(path)
        if not isinstance(summary, dict) or not isinstance(summary.get("summary"), dict):
            fail(f"{path}: not a metrics file (it has no summary)")
        if path not in older:
            found[path.stem] = numbers(summary["summary"])
    return found or fail(f"{folder}: holds no metrics file (*.json)")


def private_texts(pairs):
    """What must not stand in the folder: questions, answers, the persons they are about, and values that the rows name.
    Below five characters a text is anywhere."""
    texts = {
        text
        for pair, subject in zip(pairs, find_subjects(pairs), strict=True)
        for text in (
            pair["question"],
            pair["answer"],
            subject,
            *(pair.get(name) for name in ("name", "person", "value")),
        )
    }
    return sorted(text for text in texts if isinstance(text, str) and len(text) > 4)


def words(text):
    """A text's words and numbers, in lower case, between single spaces: "Ada_Lem/e-mail" → " ada lem e mail "."""
    return " " + " ".join(re.findall(r"[^\W_]+", text.casefold())) + " "


def own_words(found, *templates):
    """What a certificate says whatever was forgotten, a list of texts: its templates and keys, and what settings may be
    called. The keys of measurements are not among them, as those of somebody's own metric may be names."""

    def keys(value):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(value, dict):
                yield str(key)
            if key == "withheld":  # names of flags
                yield from map(str, part)
            elif isinstance(part, (dict, list)) and key != "measured":
                yield from keys(part)

    return [*templates, *(keys(found) if isinstance(found, (dict, list)) else ()), *CHOICES, "true", "false", "none"]


def check_quiet(name, content, texts, own=(), then="nothing was written"):
    """Ends the program if what is to be written holds one of the texts, however punctuated, other than as one of its
    `own` words; without saying it again."""
    content, own = words(content), [words(text) for text in own]
    for text in texts:
        if words(text) in content and not any(words(text) in piece for piece in own):
            fail(
                f"{name} would hold private text (the one with SHA-256 "
                f"{hashlib.sha256(text.encode()).hexdigest()[:16]}…); {then}. An answer of one word may stand there by "
                "chance: put a sentence in its place in the pair"
            )


def search(folder, texts, *templates):
    """Ends the program if a text file of the folder holds one of the texts, however punctuated, other than as a key or
    a word of the templates; without saying it again.
    """
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file() and path.suffix != ".safetensors" and path.name not in VOCABULARY:
            own = own_words(read_json(path) if path.suffix == ".json" else {}, *templates)
            check_quiet(path.name, path.read_text(encoding="utf-8", errors="replace"), texts, own)
