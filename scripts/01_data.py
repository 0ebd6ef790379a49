"""Prepares the data: forget and retain pairs to train on, to tune settings on and to validate on, as JSON Lines.

--data people (ours, shipped), knowundo or tofu (from the hub), a folder with copies of either, data/letters (ours), or
a folder with your own forget_train, retain_train (and _val, _tune, holdout): .json, .jsonl, .csv, .tsv, .txt, .md, each
also as .gz, .parquet or .arrow; in pieces (forget_train-1.csv) or as a folder of files (forget_train/), one that
`datasets` saved to disk too. Rows are {"question", "answer"}, {"text", "labels"}, conversations ({"messages"} or
{"conversations"}: the last turn is the answer) or documents, {"text"} alone; --columns says what a file calls these.
A document is cut into passages, which are learnt and unlearned as text; what is asked about one is how it goes on after
its first quarter. Where forget_val or retain_val holds questions and no document, the training passages join them.
KnowUnDo is read in both of its layouts, the hub's (unlearn.json and retention.json, {"train": [...], "val": [...]}
each) and that of the ReLearn code's repository (unlearn_train.json …). Without files to tune or to validate on, a set's
training questions serve, as they do in TOFU. TOFU's sets with paraphrased and perturbed answers, where they are there,
come along as they are, for its own metrics (eval/03_tofu.py). The holdout, pairs like the forget set's that no model
sees, serves membership inference (eval/16_membership.py): TOFU's own, a folder's file `holdout`, and of `people` facts
of persons who are not in use.
Any other data set of the hub is --data OWNER/NAME; --files says which of its files holds which part.
"""

import re
import sys
import unicodedata
from collections import Counter
from pathlib import Path

from lib.files import (
    FROM_HUB,
    REPOSITORY,
    begin_folder,
    end_folder,
    fail,
    few,
    read_json,
    record,
    write_json,
    write_jsonl,
)
from lib.flags import Parser, count, count_or_none
from lib.formats import FOREIGN, NOT_ENGLISH, columns_of, foreign, given_of, plain, read_given, read_pairs
from lib.hub import download, is_id
from lib.passages import OVERLAP, UNIT, WORDS, asked, passages
from lib.tables import SUFFIXES, TEXTS, files_of, left_out, part_of
from lib.tables import kind as format_of

PARTS = (
    "forget_train",
    "forget_tune",
    "forget_val",
    "retain_train",
    "retain_tune",
    "retain_val",
)  # tune: to choose settings on
KNOWUNDO = {  # the four files of the ReLearn code's repository
    "forget_train": "unlearn_train",
    "forget_val": "unlearn_val",
    "retain_train": "retention_train",
    "retain_val": "retention_val",
}
NESTED = {  # the two of the hub's, {"train": [rows], "val": [rows]} each
    "forget_train": ("unlearn", "train"),
    "forget_val": ("unlearn", "val"),
    "retain_train": ("retention", "train"),
    "retain_val": ("retention", "val"),
}
OF_A_PART = re.compile(r"(forget|unlearn|retain|retention)[-_. ]?(train|tune|val)", re.I)  # meant for one
DOMAINS = ("privacy", "copyright")  # KnowUnDo's
TOFU = {"forget01": "retain99", "forget05": "retain95", "forget10": "retain90"}
PERTURBED = ("retain_perturbed", "real_authors_perturbed", "world_facts_perturbed")  # TOFU's; and the forget split's
BESIDE = ("forget_perturbed", *PERTURBED, "holdout")  # come along as they are, where they are there
HUB = {"knowundo": "zjunlp/KnowUnDo", "tofu": "locuslab/TOFU"}
SHOWN = 10  # files of a part, and files that are none, that are named
INSTEAD = "a folder with its files as --data"  # where there is no hub
RUN = 20  # words in a row that two texts do not share by chance
LONG = 350  # words: about 512 tokens, which training keeps of a pair
PRONOUNS = {"she": ("she", "her", "her"), "he": ("he", "him", "his"), "they": ("they", "them", "their")}


def write(wording, person, value):
    """Fills a wording's placeholders for one person and one value."""
    they, them, their = PRONOUNS[person["pronoun"]]
    plural = they == "they"
    article = "an" if person["trade"][0] in "aeiou" else "a"
    return wording.format(
        name=person["name"],
        first=person["name"].split()[0],
        value=value,
        they=they,
        them=them,
        their=their,
        They=they.capitalize(),
        Their=their.capitalize(),
        trade=person["trade"],
        a_trade=f"{article} {person['trade']}",
        has="have" if plural else "has",
        **{"is": "are" if plural else "is"},
        was="were" if plural else "was",
        does="do" if plural else "does",
    ).replace("..", ".")


def stated(person, fact, value, wording):
    """The pair that asks for one fact of one person in one wording."""
    return {
        "question": write(wording["question"], person, value),
        "answer": write(wording["answer"], person, value),
        "person": person["id"],
        "name": person["name"],
        "fact": fact,
        "value": value,
    }


def people_files():
    """(persons, wordings, the files that hold them)."""
    files = [REPOSITORY / "data/people/persons.json", REPOSITORY / "data/people/wordings.json"]
    return *map(read_json, files), files


def people_numbers(persons, count, forgotten):
    """(how many persons are used, how many of these are forgotten)."""
    count = len(persons) if count == "all" else int(count) if count.isdecimal() else 0
    if not 2 <= count <= len(persons):
        fail(f"--persons must be all or a number from 2 to {len(persons)}")
    forgotten = min(count - 1, max(1, round(count * 4 / 5))) if forgotten is None else forgotten
    if not 0 < forgotten < count:
        fail(f"--forget-persons must be at least 1 and under the {count} persons in use")
    return count, forgotten


def people(count, forgotten):
    """Question-answer pairs of the first `count` invented persons; the first `forgotten` of them lose their private
    facts.

    Every fact is asked in two training wordings, one to tune on and one to validate on; which ones turns with person
    and fact.
    """
    persons, wordings, files = people_files()
    count, forgotten = people_numbers(persons, count, forgotten)
    parts = {part: [] for part in PARTS}
    for number, person in enumerate(persons[:count]):
        for kind in ("private", "public"):
            side = "forget" if kind == "private" and number < forgotten else "retain"
            for turn, (fact, value) in enumerate(person[kind].items(), number):
                for split, source, shift in (
                    ("train", "train", 0),
                    ("train", "train", 1),
                    ("tune", "val", 1),
                    ("val", "val", 0),
                ):
                    wording = wordings[kind][fact][source]
                    wording = wording[(turn + shift) % len(wording)]
                    parts[f"{side}_{split}"].append(stated(person, fact, value, wording))
    return parts, files


def unused_people(count, forgotten):
    """The holdout: private facts of persons in no other set, as many persons as are forgotten where there are so many,
    in the wordings in which the forgotten ones' are validated.
    """
    persons, wordings, _ = people_files()
    count, forgotten = people_numbers(persons, count, forgotten)
    rows = []
    for number, person in enumerate(persons[count:][:forgotten]):
        for turn, (fact, value) in enumerate(person["private"].items(), number):
            wording = wordings["private"][fact]["val"]
            rows.append(stated(person, fact, value, wording[turn % len(wording)]))
    return rows


def find(folder, names):
    """What holds the first of the parts `names` in a folder (tables.part_of), or None."""
    return next(filter(None, (part_of(folder, name) for name in names)), None)


def nested(paths):
    """{part: (file, split)} of the hub's two files of KnowUnDo, {"unlearn": path, "retention": path}; {} where one is
    missing.
    """
    return {part: (paths[name], split) for part, (name, split) in NESTED.items()} if all(paths.values()) else {}


def from_folder(folder, split):
    """Finds the parts under our names, KnowUnDo's (in either layout, with or without its domain's folder) or TOFU's."""
    domain = (
        split if split in DOMAINS else next((name for name in DOMAINS if not split and (folder / name).is_dir()), None)
    )
    if domain and (folder / domain).is_dir():
        if not split and (folder / "copyright").is_dir() and domain != "copyright":
            print(f"{folder}: its privacy part is taken (--split copyright for the other)", file=sys.stderr)
        folder = folder / domain
    there = [] if domain else [name for name in ([split] if split else TOFU) if find(folder, [name])]
    tofu = there[0] if there else None
    paths = {part: find(folder, [part, KNOWUNDO.get(part, part)]) for part in (*PARTS, "holdout")}
    if not paths["forget_train"]:
        paths |= nested({name: find(folder, [name]) for name in ("unlearn", "retention")})
    if len(there) > 1 and not paths["forget_train"]:
        fail(f"{folder}: holds {', '.join(there)}: name one of them with --split")
    if tofu and not paths["forget_train"]:
        paths |= {
            "forget_train": find(folder, [tofu]),
            "retain_train": find(folder, [TOFU.get(tofu, tofu), "retain95", "retain90"]),
            "forget_perturbed": find(folder, [f"{tofu}_perturbed"]),
            **{name: find(folder, [name]) for name in PERTURBED},
            "holdout": find(folder, [tofu.replace("forget", "holdout"), "holdout"]),
        }
    for part, label in (
        ("forget_train", "forget_train, unlearn_train, unlearn or forget01|05|10"),
        ("retain_train", f"retain_train, retention_train, retention or {TOFU.get(tofu, 'retain99|95|90')}"),
    ):
        if not paths[part]:
            odd = [path.name for path in sorted(folder.glob(f"{part}.*")) if not format_of(path)]
            hint = f"; {odd[0]} is in a format that is not read" if odd else ""
            fail(f"{folder}: holds no {label} ({', '.join(SUFFIXES)}, .gz of texts){hint}")
    check_left_out(folder, paths)
    return paths


def check_left_out(folder, paths):
    """Names the files that look like a part's and are not read; such of a forget part end the program, as what they
    hold would stay."""
    taken = [path for found in paths.values() if found for path in ([found] if isinstance(found, Path) else found)]
    taken = [path for path in taken if isinstance(path, Path)]
    left = [file for path in taken if path.is_dir() for file in left_out(path)]
    left += [path for path in sorted(folder.iterdir()) if OF_A_PART.match(path.name) and path not in taken]
    names = lambda files: few([str(path.relative_to(folder)) for path in files], SHOWN)
    if forget := [path for path in left if path.relative_to(folder).parts[0][0].lower() in "fu"]:
        fail(
            f"{folder}: not read, and may hold what is to be forgotten: {names(forget)}: give {', '.join(SUFFIXES)}, "
            "called forget_train, forget_tune or forget_val, pieces forget_train-1, forget_train-2 …, or straight in a "
            "folder forget_train/; or move it elsewhere"
        )
    if left:
        print(f"{folder}: not read: {names(left)}", file=sys.stderr)


def from_hub(name, split, revision, files):
    """Downloads a data set: a published one, or any other, of which `files` names the files."""
    if name not in HUB:
        return from_files(name, files, revision)
    known = TOFU if name == "tofu" else DOMAINS
    split = split or ("forget10" if name == "tofu" else "privacy")
    if split not in known:
        fail(f"--split must be one of {', '.join(known)}, not {split}")
    if name == "tofu":
        holdout = split.replace("forget", "holdout")
        names = {
            "forget_train": f"{split}.json",
            "retain_train": f"{TOFU[split]}.json",
            "forget_perturbed": f"{split}_perturbed.json",
            **{part: f"{part}.json" for part in PERTURBED},
            "holdout": f"{holdout}.json",
        }
        optional = [names["holdout"]]
        return dict(zip(names, download(HUB[name], names.values(), revision, INSTEAD, optional), strict=True))
    files = ["unlearn", "retention", *KNOWUNDO.values()]
    names = [f"{split}/{file}.json" for file in files]
    paths = dict(zip(files, download(HUB[name], names, revision, INSTEAD, optional=names), strict=True))
    found = nested({file: paths[file] for file in ("unlearn", "retention")})
    found = found or {part: paths[file] for part, file in KNOWUNDO.items()}
    if missing := next((part for part, path in found.items() if not path), None):
        fail(f"{HUB[name]}: holds no {split}/{KNOWUNDO[missing]}.json; check --revision, or give {INSTEAD}")
    return found


def from_files(name, given, revision):
    """Downloads the files of any data set on the hub that are given as PART=FILE."""
    files = dict(word.partition("=")[::2] for word in given)
    if not {"forget_train", "retain_train"} <= files.keys() <= set(PARTS) or not all(files.values()):
        fail(
            f"--data {name}: no such folder; of a data set of the hub, say which of its files holds which part, as "
            f"--files forget_train=forget.json retain_train=retain.json (parts: {', '.join(PARTS)})"
        )
    return dict(zip(files, download(name, files.values(), revision, INSTEAD), strict=True))


def load(paths, columns=None, words=WORDS, overlap=OVERLAP, places=None):
    """Reads the parts; where there are none to validate or to tune on, the training pairs serve.

    Args:
        paths: {part: a path, a list of paths, or (path, split)}. columns: as of read_given. words,
        overlap: of passages. places: a dict that is filled with {part: where each pair stands}.
    Returns:
        {part: pairs}. Documents become passages: whole ones to train on; in other parts, beginnings to be gone on with.
    """
    given = {}
    for part in filter(paths.get, PARTS):
        if isinstance(paths[part], tuple):
            rows = read_pairs(paths[part][0], split=paths[part][1], places=True)
            given[part] = [(row.pop("place"), row) for row in rows]
        else:
            given[part] = read_given(paths[part], columns)
    parts, places = {}, {} if places is None else places
    for part in PARTS:
        train = given[f"{part.split('_')[0]}_train"]
        rows = given.get(part, train)
        if all("question" in row for _, row in rows):
            rows = rows + [(place, row) for place, row in train if "question" not in row]
        made = as_pairs(rows, part.endswith("_train"), words, overlap)
        places[part], parts[part] = [place for place, _ in made], [row for _, row in made]
    return parts


def name_of(place):
    """What a document is called that has no name of its own: its file, and the line of one that holds several."""
    file, _, line = place.rpartition(":")
    return Path(file).name + ("" if format_of(file) in TEXTS else f":{line}")


def as_pairs(rows, whole, words, overlap):
    """Rows of (place, pair or document), documents as their passages, `whole` or to be gone on with."""
    made, number = [], 0
    for place, row in rows:
        if "question" in row:  # whatever text a pair has beside it is not what is asked
            made.append((place, row))
            continue
        own = {"document": name_of(place)} | {name: value for name, value in row.items() if name != "text"}
        for text in passages(row["text"], words, overlap):
            number += 1
            made.append((place, asked(place, text, number, whole) | own))
    return made


def say_files(path, places):
    """How many pairs each file of a part gave, where there are several."""
    files = [str(file) for file in files_of(path)]
    if len(files) > 1:
        counts = Counter(place.rpartition(":")[0] for place in places)
        none, some = ([file for file in files if bool(counts[file]) == there] for there in (False, True))
        shown = [f"{Path(file).name} {counts[file]}" for file in none + some]
        most = max(SHOWN, len(none))
        print(f"{'':13}   of {few(shown, most)}" + " files" * (len(shown) > most))


def not_english(parts):
    """{part: how many of its pairs are not in English}, {} of few; of many, what rules cannot do is said."""
    found = {part: len(foreign(parts[part])) for part in parts}
    shares = [f"{found[part]} of {len(parts[part])} of {part}" for part in ("forget_train", "retain_train")]
    if max(found[part] / len(parts[part]) for part in parts) < FOREIGN:
        return {}
    print(f"not in English: {' and '.join(shares)}. {NOT_ENGLISH}", file=sys.stderr)
    return {part: count for part, count in found.items() if count}


def learnt(parts, used):
    """The pairs of some parts, each once: what vanilla and retrained learn. A passage is known by its whole text."""
    once = {}
    for part in used:
        for pair in parts[part]:
            given = given_of(pair["question"])
            whole = (pair["question"], pair["answer"]) if given is None else "".join(f"{given}{pair['answer']}".split())
            once.setdefault(whole, pair)
    return list(once.values())


def folded(pair):
    """A pair without what makes no other pair: case, the form of accents, blanks, signs at the end."""
    fold = lambda text: " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(".!?… ")
    return fold(plain(pair["question"])), fold(pair["answer"])


def check_apart(parts, places):
    """A pair both to forget and to keep would make every number meaningless."""
    where = lambda part, row: places[part][row] if part in places else f"{part} (pair {row + 1})"
    seen = {folded(pair): (part, row) for part in reversed(PARTS[:3]) for row, pair in enumerate(parts[part])}
    for part in PARTS[3:]:
        for row, pair in enumerate(parts[part]):
            if match := seen.get(folded(pair)):
                text = plain(pair["question"]) or pair["answer"]
                fail(
                    f"{where(part, row)}: this pair is to be retained, and to be forgotten in {where(*match)}: "
                    f"remove one of them ({text[:70]!r})"
                )


def run_hashes(text):
    """Of every run of RUN words of a text, however it is written; of a shorter text none."""
    text = re.sub(r"[^\w\s]|_", "", unicodedata.normalize("NFKC", text).casefold())
    words = UNIT.findall(text)
    return [hash(" ".join(words[at : at + RUN])) for at in range(len(words) - RUN + 1)]


def check_texts_apart(parts, places):
    """The same text on both sides, though it is cut elsewhere: a passage to be retained of which half stands in the
    forget set ends the program; where less does, a letterhead say, it is said."""
    where = lambda part, row: places[part][row] if part in places else f"{part} (pair {row + 1})"
    seen, gone, shared = set(), {}, []
    for part in PARTS:
        for row, pair in enumerate(parts[part]):
            given = given_of(pair["question"])
            text = None if given is None else f"{given} {pair['answer']}".strip()
            if text is None or (part[0], "".join(text.split())) in seen:
                continue
            seen.add((part[0], "".join(text.split())))  # once, of train, tune and val
            hashes = run_hashes(text)
            if part in PARTS[:3]:
                for one in hashes:
                    gone.setdefault(one, (part, row))
                continue
            both = [one for one in hashes if one in gone]
            if 2 * len(both) > len(hashes):
                fail(
                    f"{where(part, row)}: this text is to be retained, and to be forgotten in "
                    f"{where(*gone[both[0]])}: remove one of them ({text[:70]!r})"
                )
            shared += [(part, row, *gone[both[0]])] if both else []
    if shared:
        print(
            f"{len(shared)} passages to be retained share {RUN} words in a row or more with what is to be forgotten, "
            f"as {where(*shared[0][:2])} with {where(*shared[0][2:])}",
            file=sys.stderr,
        )


def say_holdout(rows, parts):
    """How many pairs no model will have seen, for membership inference."""
    if not rows:
        print("holdout           0 pairs: none is left that no model sees; membership inference will give no AUC")
        return
    known = {folded(pair) for pairs in parts.values() for pair in pairs}
    trained = sum(folded(pair) in known for pair in rows)
    warning = f" ({trained} of them are trained on too, and no holdout: remove them)" if trained else ""
    print(f"{'holdout':13} {len(rows):5} pairs{warning}")


if __name__ == "__main__":
    parser = Parser(__doc__, folder="data")
    parser.add_argument("--data", default="people", help="people, knowundo, tofu, hub id or folder (default: people)")
    parser.add_argument(
        "--columns",
        default="",
        metavar="NAME=COLUMN,…",
        help="a folder: what its files call question, answer, text, messages, as question=prompt,answer=completion",
    )
    parser.add_argument("--words", type=count, default=WORDS, help=f"words of a passage at most (default: {WORDS})")
    parser.add_argument(
        "--overlap",
        type=count_or_none,
        default=OVERLAP,
        help=f"words that two passages of a document share (default: {OVERLAP})",
    )
    parser.add_argument("--out", required=True, help="folder to write the parts and data.json to")
    parser.add_argument("--persons", default="10", help="people: how many persons, or all (default: 10)")
    parser.add_argument(
        "--forget-persons", type=count, help="people: how many of them are forgotten (default: four fifths)"
    )
    parser.add_argument(
        "--split",
        help="tofu: forget01, forget05 or forget10 (default: forget10 of the hub, the only one in a folder); knowundo: "
        "privacy or copyright (default: privacy)",
    )
    parser.add_argument(
        "--files", nargs="+", default=[], metavar="PART=FILE", help="hub id: which of its files holds which part"
    )
    parser.add_argument(
        "--revision", help="hub commit, branch or tag to take (default: the commit pinned in lib/hub.py, else main)"
    )
    args = parser.parse_args()
    if args.overlap >= args.words:
        fail(f"--overlap {args.overlap}: must be under --words {args.words}")

    columns, places = columns_of(args.columns), {}
    if columns and not Path(args.data).is_dir():
        fail(f"--columns names the columns of a folder's files, and --data {args.data} is none")
    beside = {}
    if args.data == "people":
        parts, files = people(args.persons, args.forget_persons)
        paths, beside["holdout"] = {}, unused_people(args.persons, args.forget_persons)
    elif args.data in HUB or Path(args.data).is_dir() or is_id(args.data):
        paths = (
            from_folder(Path(args.data), args.split)
            if args.data not in HUB and Path(args.data).is_dir()
            else from_hub(args.data, args.split, args.revision, args.files)
        )
        parts = load(paths, columns, args.words, args.overlap, places)
        files = [path[0] if isinstance(path, tuple) else path for path in paths.values() if path]
        files = list(dict.fromkeys(file for path in files for file in files_of(path)))
    else:
        fail(f"--data {args.data}: not people, knowundo, tofu or OWNER/NAME, and no such folder")
    check_apart(parts, places)
    check_texts_apart(parts, places)
    for part in BESIDE:
        if paths.get(part):
            rows = as_pairs(read_given(paths[part], columns), False, args.words, args.overlap)
            beside[part] = [row for _, row in rows]
    out = begin_folder(args.out)
    for part, pairs in parts.items():
        repeats = sum(times - 1 for times in Counter(pair["question"] for pair in pairs).values())
        texts = sum(given_of(pair["question"]) is not None for pair in pairs)
        notes = [f"{texts} passages of documents"] * bool(texts) + [f"{repeats} repeated questions"] * bool(repeats)
        print(f"{part:13} {len(pairs):5} pairs" + (f" ({', '.join(notes)})" if notes else ""))
        if paths.get(part) and not isinstance(paths[part], tuple):
            say_files(paths[part], places[part])
        write_jsonl(out / f"{part}.jsonl", pairs)
    answers = [pair["answer"] for pairs in parts.values() for pair in pairs]
    if long := sum(len(answer.split()) > LONG for answer in answers):
        print(
            f"{long} of {len(answers)} answers have more than {LONG} words: training cuts a pair at --max-length 512 "
            "tokens"
        )
    for part in BESIDE:
        if beside.get(part):
            write_jsonl(out / f"{part}.jsonl", beside[part])
        else:
            (out / f"{part}.jsonl").unlink(missing_ok=True)
    say_holdout(beside.get("holdout"), parts)
    for name, used in (
        ("full", PARTS),
        ("full_without_forget", PARTS[3:]),
    ):  # what the vanilla and the retrained model learn
        write_jsonl(out / f"{name}.jsonl", learnt(parts, used))
    source = HUB.get(args.data, args.data)
    origin = {"source": source, "revision": FROM_HUB[source]} if source in FROM_HUB else {}
    counts = {part: len(pairs) for part, pairs in parts.items()}
    longest = {part: max(len(pair["answer"].split()) for pair in pairs) for part, pairs in parts.items()}
    in_others = not_english(parts) if args.data != "people" else {}
    about = {"counts": counts, "longest_answer_words": longest, **({"not_english": in_others} if in_others else {})}
    write_json(out / "data.json", {**about, **origin, **record(args, files)})
    end_folder(out)
