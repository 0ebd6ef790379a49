"""Splits the forget set into requests that come one after another: a data folder for each, in the order of unlearning.

--requests N: the forget set in N requests, in its own order. Pairs that belong together stay together: those with one
`request`, where the rows have that field; else the passages of a document, and the questions whose `document` it is;
else those of one person (`person`, or in English the subject that is found); where there are more requests than
persons, those of one fact; where rows tell none of these, each pair by itself. What each request is about is printed.
--requests FILE: a request a line, the names of what it is about (values of `request`, `person`, `name` or `document`,
several by semicolon), or a file of its pairs or documents (.txt and .md are a document each).

Folder t holds what unlearning request t reads, after requests 1 to t-1 are done: forget_train, forget_tune, forget_val,
its own pairs; retain_train, retain_tune, retain_val, the run's and those of the requests still to come, which must not
suffer yet (as in the continual setting of Yuan et al. 2024, arXiv:2410.08109: forget.py of
sail-sg/closer-look-LLM-unlearning adds the tasks not yet unlearned to the retain set; MUSE's sustainability, Shi et al.
2024, arXiv:2407.06460, keeps one retain set); requested_val, the questions of requests 1 to t. What was requested
before is neither trained on nor kept. Rows of the forget set carry `request`, their request's number.
"""

import os
from pathlib import Path

from lib.files import begin_folder, check_folder, end_folder, fail, few, read_text, record, write_json, write_jsonl
from lib.flags import Parser
from lib.formats import FOREIGN, foreign, given_of, plain, read_given, read_pairs
from lib.spans import find_subjects

SPLITS = ("train", "tune", "val")
NAMES = ("request", "person", "name", "subject", "document")  # fields by which a line of FILE may call its pairs
LABELS = ("name", "person", "document", "subject")  # what a pair is about, the first that it has
SHOWN = 5  # of these, a request


def keys(parts):
    """What pairs belong together by: a list, from wide to narrow, of {split: [a key for each pair]}."""
    pairs = [pair for split in SPLITS for pair in parts[split]]
    known = {pair.get("document") for pair in parts["train"] if given_of(pair["question"]) is not None} - {None}
    about_one = lambda pair: isinstance(pair.get("document"), str) and pair["document"] in known

    def by(*fields):
        of = lambda pair: ("document", pair["document"]) if about_one(pair) else tuple(map(pair.get, fields))
        return {split: [of(pair) for pair in parts[split]] for split in SPLITS}

    if without := [pair for pair in pairs if pair.get("request") in (None, "")]:
        if len(without) < len(pairs):
            fail(f'{without[0]["place"]}: has no field "request", and other rows have one: give it to all or to none')
    else:
        odd = next((pair for pair in pairs if not isinstance(pair["request"], (str, int))), None)
        if odd:
            fail(f'{odd["place"]}: field "request" must be a text or a number, not {odd["request"]!r}')
        return [{split: [str(pair["request"]) for pair in parts[split]] for split in SPLITS}]
    rest = [pair for pair in pairs if not about_one(pair)]
    if all("person" in pair for pair in rest):
        return [by("person"), *([by("person", "fact")] if rest and all("fact" in pair for pair in rest) else [])]
    others = foreign(rest)
    if len(others) >= FOREIGN * len(rest):
        fail(
            f"{others[0]['place']}: whom a pair is about is found in English alone, and {len(others)} of {len(rest)} "
            'are in other languages: give every row a field "request" or "person", or --requests FILE'
        )
    found = [by("subject")] if all(pair["subject"] for pair in rest) else []
    return [*found, by("question", "answer")]


def split_evenly(parts, count):
    """The numbers, from 1, of the requests of each pair: {split: [number]}; units of like size, in the order of the
    training pairs.
    """
    for wide in keys(parts):
        units = list(dict.fromkeys(wide["train"]))
        if len(units) >= count:
            numbers = {unit: at * count // len(units) + 1 for at, unit in enumerate(units)}
            return {split: [numbers.get(key) for key in wide[split]] for split in SPLITS}
    fail(
        f"--requests {count}: the forget set has only {len(units)} pairs, persons or requests that can be told apart "
        "(a document is one)"
    )


def squeezed(text):
    return "".join(text.split())


def read_list(path):
    """(the requests of FILE, [(place, names, pairs, texts of documents)]; FILE and the files that it names)."""
    found, files = [], [Path(path)]
    for line, text in enumerate(read_text(path).split("\n"), 1):
        text, place = text.strip(), f"{path}:{line}"
        if not text:
            continue
        file = Path(path).parent / text
        if os.path.isfile(file) or file.suffix in (".json", ".jsonl"):
            rows = [row for _, row in read_given(file)]
            pairs = {(row["question"], row["answer"]) for row in rows if "question" in row}
            texts = [squeezed(row["text"]) for row in rows if "question" not in row]
            names = [file.name] if texts else []  # that questions on it may give
            found.append((place, names, pairs, texts))
            files.append(file)
        else:
            found.append((place, [name.strip() for name in text.split(";") if name.strip()], (), ()))
    if len(found) < 2:
        fail(f"{path}: names {len(found)} requests, a line each; give at least 2")
    return found, files


def split_by_list(parts, requests):
    """As `split_evenly`, by the lines of FILE."""
    numbers, used = {split: [] for split in SPLITS}, set()
    for split in SPLITS:
        for pair in parts[split]:
            called = {str(pair[field]) for field in NAMES if pair.get(field) not in (None, "")}
            given = given_of(pair["question"])
            passage = None if given is None else squeezed(given + pair["answer"])
            mine = [
                (number, place)
                for number, (place, names, pairs, texts) in enumerate(requests, 1)
                if called & set(names)
                and not (passage and texts)
                or (pair["question"], pair["answer"]) in pairs
                or (passage and any(passage in text for text in texts))
            ]
            if len(mine) > 1:
                fail(f"{mine[1][1]}: a pair of this request is in that of {mine[0][1]} too ({pair['question'][:70]!r})")
            numbers[split].append(mine[0][0] if mine else None)
            if split == "train" and mine:
                used.add(mine[0][0])
    for number, (place, names, *_) in enumerate(requests, 1):
        if number not in used:
            fail(
                f"{place}: no training pair of the forget set is in this request" + (f" ({names[0]})" if names else "")
            )
    return numbers


def about(pairs):
    """What a request is about, in words: its persons or documents, or the first questions."""
    named = [
        next((str(pair[field]) for field in LABELS if pair.get(field)), f'"{plain(pair["question"])[:60]}"')
        for pair in pairs
    ]
    return few(list(dict.fromkeys(named)), SHOWN, "; ")


def split(parts, requests, listed=()):
    """(how many requests; the request of every pair, {split: [number, from 1]}; what each is about). A pair without
    one, or a request without a question to validate on, ends the program.

    Args:
        parts: {"train", "tune", "val": forget pairs}. requests: N, or a file, of which `listed` is what it lists.
    """
    parts = {name: [dict(pair) for pair in pairs] for name, pairs in parts.items()}
    every = [pair for name in SPLITS for pair in parts[name]]
    for pair, subject in zip(every, find_subjects(every), strict=True):
        pair.setdefault("subject", subject)
    if requests.isdecimal():
        count = int(requests)
        if count < 2:
            fail(f"--requests {requests}: give at least 2, or a file with a request a line")
        numbers = split_evenly(parts, count)
    else:
        count, numbers = len(listed), split_by_list(parts, listed)
    for name in SPLITS:
        for pair, number in zip(parts[name], numbers[name], strict=True):
            if number is None:
                fail(
                    f"{pair['place']}: this pair of the forget set is in no request: give every row a field "
                    f'"request", a question on a document the field "document", or name it in --requests FILE '
                    f"({pair['question'][:70]!r})"
                )
    if missing := sorted(set(range(1, count + 1)) - set(numbers["val"])):
        fail(f"--requests {requests}: request {missing[0]} has no question in forget_val")
    of = lambda number: [pair for pair, its in zip(parts["train"], numbers["train"], strict=True) if its == number]
    return count, numbers, [about(of(number)) for number in range(1, count + 1)]


if __name__ == "__main__":
    parser = Parser(__doc__, folder="data")
    parser.add_argument("--data", required=True, help="folder made by 01_data.py")
    parser.add_argument("--requests", required=True, help="how many, or a file with a request a line")
    parser.add_argument("--out", required=True, nargs="+", help="folders to write: as many as there are requests")
    args = parser.parse_args()

    files = {
        f"{side}_{split}": Path(args.data) / f"{side}_{split}.jsonl"
        for side in ("forget", "retain")
        for split in SPLITS
    }
    pairs = {name: read_pairs(path, places=True) for name, path in files.items()}
    listed, named = ([], []) if args.requests.isdecimal() else read_list(args.requests)
    for out in args.out:
        check_folder(out, named, "data")
    count, numbers, words = split({split: pairs[f"forget_{split}"] for split in SPLITS}, args.requests, listed)
    if len(args.out) != count:
        fail(f"--requests {args.requests}: {count} requests need as many --out folders, not {len(args.out)}")
    for name, rows in pairs.items():
        pairs[name] = [
            {field: value for field, value in pair.items() if field not in ("place", "request")} for pair in rows
        ]
    for name in SPLITS:
        pairs[f"forget_{name}"] = [
            {**pair, "request": number} for pair, number in zip(pairs[f"forget_{name}"], numbers[name], strict=True)
        ]
    origin = record(args, [*files.values(), *named])
    for number, out in enumerate(args.out, 1):
        out, counts = begin_folder(out), {}
        for name in SPLITS:
            forget = pairs[f"forget_{name}"]
            own = [pair for pair in forget if pair["request"] == number]
            later = [pair for pair in forget if pair["request"] > number]
            write_jsonl(out / f"forget_{name}.jsonl", own)
            write_jsonl(out / f"retain_{name}.jsonl", pairs[f"retain_{name}"] + later)
            counts |= {f"forget_{name}": len(own), f"retain_{name}": len(pairs[f"retain_{name}"] + later)}
        write_jsonl(out / "requested_val.jsonl", [pair for pair in pairs["forget_val"] if pair["request"] <= number])
        write_json(out / "requests.json", {"request": number, "of": count, "counts": counts, **origin})
        end_folder(out)
        print(
            f"request {number}: "
            + ", ".join(f"{name} {size}" for name, size in counts.items())
            + f"; about {words[number - 1]}"
        )
