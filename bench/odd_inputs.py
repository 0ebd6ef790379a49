"""Gives every script odd files and odd flags, and run_all.sh odd flags.

Files: what a script's command names (of a folder, a random file in it) is replaced: empty, cut, rubbish, of another
encoding, nested deeply, of other types, a folder, a link that leads nowhere or in a circle, unreadable. Flags: every
numeric flag of every script with nan, inf, words, signs and sizes beyond sense.

One holds if the command ends with status 2 and exactly one line that begins with "error:", and leaves no output; or
with status 0, and writes as many rows as it does of the good file. Never a traceback, the key of OPENAI_API_KEY, or a
changed input.
"""

import json
import runpy
import shutil
import sys

from faults import EACH, REFUSES, REPOSITORY, Shop, Tally, content, differences, faults_of, flags, key_forms, words_of

SECONDS = 100  # that one may take

# ---------------------------------------------------------------- odd files


def first_value(data, rng):
    """JSON, or JSON Lines, whose first object has something of another type in one place; other text as it is."""
    text = data.decode()
    try:
        whole = json.loads(text)
        rest = None
    except ValueError:
        head, _, rest = text.partition("\n")
        whole = json.loads(head)
    at = whole
    while isinstance(at, (list, dict)) and at:
        name = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
        if not (isinstance(at[name], (dict, list)) and at[name] and rng.random() < 0.6):
            at[name] = rng.choice([None, 3, -1.5, True, [], {}, [[]], "", " ", {"a": 1}, "x" * 300, 10**30])
            break
        at = at[name]
    return (json.dumps(whole) + ("" if rest is None else "\n" + rest)).encode()


def inside(data, rng, piece):
    at = rng.randrange(len(data) + 1)
    return data[:at] + piece + data[at:]


KEEPS = {  # what says the same in another way, and must be read as that or refused
    "byte order mark": lambda data, rng: b"\xef\xbb\xbf" + data,
    "CRLF": lambda data, rng: data.replace(b"\n", b"\r\n"),
    "blank lines after": lambda data, rng: data + b"\n\n \n",
    "no line end": lambda data, rng: data.rstrip(b"\n"),
}
BYTES = KEEPS | {
    "empty": lambda data, rng: b"",
    "blank": lambda data, rng: b" \n\t\n",
    "cut": lambda data, rng: data[: rng.randrange(len(data) or 1)],
    "rubbish": lambda data, rng: rng.randbytes(300),
    "NUL bytes": lambda data, rng: inside(data, rng, b"\0\0"),
    "all NUL": lambda data, rng: bytes(len(data)),
    "UTF-16": lambda data, rng: data.decode().encode("utf-16"),
    "Latin-1": lambda data, rng: inside(data, rng, b" caf\xe9 "),
    "half a surrogate": lambda data, rng: inside(data, rng, b"\xed\xa0\x80"),
    "a surrogate escaped": lambda data, rng: data.replace(b'": "', b'": "\\ud800', 1),
    "deep": lambda data, rng: b"[" * 6000,
    "deep and closed": lambda data, rng: b'{"a":' * 3000 + b"1" + b"}" * 3000,
    "a long number": lambda data, rng: b'{"question": ' + b"7" * 9000 + b"}",
    "another type": lambda data, rng: rng.choice((b"[]", b"{}", b"3", b"null", b'"x"', b"[[]]", b"[null]", b"true")),
    "NaN": lambda data, rng: rng.choice((b"NaN", b"[NaN]", b'{"question": NaN, "answer": Infinity}')),
    "rubbish after": lambda data, rng: data + b"rubbish",
    "a list after": lambda data, rng: data + b'[{"question": "Who?", "answer": "Ada."}]',
    "first value": first_value,
    "a huge header": lambda data, rng: b"\xff" * 7 + b"\x7f" + data[8:],
}
PLACES = {  # what stands in the file's place
    "a folder": lambda path: path.mkdir(),
    "a link in a circle": lambda path: path.symlink_to(path.name),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "nothing": lambda path: None,
    "unreadable": lambda path: path.symlink_to("/proc/self/mem"),
    "/dev/null": lambda path: path.symlink_to("/dev/null"),
}


def odd_file(shop, script, rng):
    """(name, words, did it keep the content): the command with one odd file, in c/."""
    words, case = words_of(script, "c/out"), shop.folder / "c"
    at = rng.choice([at for at, word in enumerate(words) if word.startswith("s/")])
    source, target = shop.folder / words[at], case / words[at]
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
        files = [path for path in sorted(target.rglob("*")) if path.is_file() and path.name != "README.md"]
        path = rng.choice(files)
        whole_folder = rng.random() < 0.08
    else:
        shutil.copy(source, target)
        path, whole_folder = target, False
    if whole_folder:  # the folder itself
        shutil.rmtree(target)
        path = target
    words[at] = f"c/{words[at]}"
    while True:
        kind = rng.choice(list(PLACES) if whole_folder or rng.random() < 0.2 else list(BYTES))
        if kind in BYTES:
            try:
                found = BYTES[kind](path.read_bytes(), rng)
            except (UnicodeDecodeError, ValueError):  # weights are no text
                continue
            path.write_bytes(found)
        else:
            path.unlink(missing_ok=True)
            PLACES[kind](path)
        return f"{script} {path.relative_to(case)}: {kind}", words, kind in KEEPS


# ---------------------------------------------------------------- odd flags

ODD = (
    "nan",
    "inf",
    "-inf",
    "1e400",
    "many",
    "",
    " ",
    "²",
    "-1",
    "-0.5",
    "0",
    "1e308",
    "-1e308",
    "1e-320",
    "٣",
    "9" * 40,
    str(2**63),
    str(10**12),
    "0x10",
    "1,5",
    "½",
    "1e3",
    "--",
    "\udcff",
    "None",
    "True",
)
NEVER = ("nan", "inf", "-inf", "1e400", "many", "", " ", "²", "0x10", "1,5", "½", "-1e308", "\udcff", "None", "True")
LARGE = ("1e308", str(2**63), str(10**12), "1e3")  # of which there may be no end, as asked


class Seen(Exception):
    pass


def numeric_flags(script):
    """The flags of a script whose value is read as something other than text."""
    from lib.flags import Parser

    found = []

    def look(parser, *_):
        found.extend(
            action.option_strings[-1]
            for action in parser._actions
            if action.option_strings and action.type not in (None, str)
        )
        raise Seen

    before, argv, Parser.parse_args, sys.argv = Parser.parse_args, sys.argv, look, [script]
    try:
        runpy.run_path(str(REPOSITORY / script), run_name="__main__")
    except Seen:
        pass
    finally:
        Parser.parse_args, sys.argv = before, argv
    return found


def odd_flags():
    """(script, flag, value) of all: every numeric flag of every script with every odd value."""
    sys.path[:0] = [str(REPOSITORY / "eval"), str(REPOSITORY / "scripts/tools")]
    plan = [("scripts/tools/plan.py", flag) for flag in numeric_flags("scripts/tools/plan.py")]
    each = [(script, flag) for script in EACH for flag in numeric_flags(script)]
    return [(script, flag, value) for script, flag in each + plan for value in ODD]


TEXTS = (
    " ",
    "nan",
    "../x",
    "/",
    "a b",
    "é",
    "*",
    "$(touch pwned)",
    "`touch pwned`",
    ";touch pwned",
    "a\nb",
    "x" * 5000,
    "\udce9",
    "-",
    "%s%n",
    "work",
    "run_all.sh",
    "'",
    '"',
    "\\",
    "${PATH}",
    "a[$(touch pwned)]",
    "=",
    "GA=1",
    "~",
    "/dev/null",
    "/proc/self/mem",
    "s/data/data.json",
    "{a,b}",
    "--plan",
    "x/y/z",
    "٣",
)
WORDS = (
    "preset",
    "data",
    "model",
    "methods",
    "set",
    "show",
    "metrics",
    "judge",
    "vanilla",
    "retrained",
    "tuned",
    "run",
    "force",
    "persons",
    "seeds",
    "tune",
    "jobs",
)


def odd_run(rng):
    """Flags of run_all.sh, one of which is odd."""
    flag, kind = rng.choice(WORDS), rng.random()
    value = rng.choice(ODD if flag in ("persons", "seeds", "tune", "jobs") else TEXTS + ODD[:8])
    if flag == "set" and kind < 0.8:
        value = f"GA {rng.choice(('--lr', '--epochs', '--batch', '--seed'))} {rng.choice(ODD)}"
    if flag == "judge" and kind < 0.5:
        value = f"--judge-model m --backend-flags {rng.choice(TEXTS)}"
    words = ["--preset", "smoke", "--run", "odd", "--methods", "GA", f"--{flag}", value]
    if flag == "run":
        words = words[:2] + words[4:]
    if kind < 0.1:
        return [
            "--preset",
            "smoke",
            "--methods",
            "GA",
            f"--plan=--{rng.choice(('tflops', 'params'))} {rng.choice(ODD)}",
        ]
    return words + (["--plan"] if flag != "show" and (kind < 0.7 or flag in ("vanilla", "retrained", "model")) else [])


# ---------------------------------------------------------------- what came of it


def written(case):
    """Files that a case has written: all beside its own odd copies."""
    paths = [path for path in sorted(case.rglob("*")) if path.is_file()]
    return {str(path.relative_to(case)): path for path in paths if path.relative_to(case).parts[0] != "s"}


def amounts(case):
    """Rows of what was written, by file: lines of .jsonl, items or updates of .json; None of others."""
    found = {}
    for name, path in written(case).items():
        found[name] = path.read_bytes().count(b"\n") if path.suffix == ".jsonl" else None
        if path.suffix == ".json":
            try:
                whole = json.loads(path.read_text())
            except ValueError:  # JSON Lines, as TOFU's
                whole = path.read_text().splitlines()
            parts = ("items", "updates", "points", "rows")
            found[name] = (
                [len(whole[part]) for part in parts if part in whole] if isinstance(whole, dict) else len(whole)
            )
    return found


def spoken(case):
    """Does a written file hold the key?"""
    for path in case.rglob("*"):
        if path.is_file() and not path.is_symlink() and any(form.encode() in path.read_bytes() for form in key_forms()):
            return True
    return False


def judge(shop, done, script, good, keeps=False, refused=None, large=False, file=True):
    """What is wrong with how one command ended."""
    case, wrong = shop.folder / "c", faults_of(done, refused)
    if wrong == ["no end"] and large:
        return []
    if done.status:
        if left := written(case):
            wrong.append(f"status {done.status}, but wrote {' '.join(sorted(left)[:4])}")
    elif script in EACH:
        now = amounts(case)
        if file and now != good[script]:
            wrong.append(f"other amounts: {differences(now, good[script])}")
        elif not file and not now:
            wrong.append("status 0, and nothing is written")
    if spoken(case):
        wrong.append("THE KEY in a file")
    return wrong


def fresh(shop):
    shutil.rmtree(shop.folder / "c", ignore_errors=True)
    (shop.folder / "c").mkdir()


def undisturbed(shop, scripts, tally):
    """{script: amounts} of the good commands."""
    good = {}
    for script in scripts:
        fresh(shop)
        done = shop.script(*words_of(script, "c/out")).end(SECONDS)
        if done.status and script not in REFUSES:
            tally.add("good input", script, [f"status {done.status}"], done.err)
        good[script] = amounts(shop.folder / "c")
    return good


def main(args, rng):
    tally = Tally()
    scripts = [script for script in EACH if args.only in script]
    numeric = [one for one in odd_flags() if args.only in one[0]] if args.flags else []
    with Shop(args.cold, args.hollow) as shop:
        if args.hollow:
            scripts = numeric = []
        else:
            shop.stock()
        stock, good = content(shop.folder / "s"), undisturbed(shop, scripts, tally)
        for number in range(args.count if scripts else 0):
            fresh(shop)
            what, words, keeps = odd_file(shop, scripts[number % len(scripts)], rng)
            done = shop.script(*words).end(SECONDS)
            tally.add("file", what, judge(shop, done, words[0], good, keeps), done.err)
        for script, flag, value in rng.sample(numeric, min(args.flags, len(numeric))):
            fresh(shop)
            if script in EACH:
                words = [*words_of(script, "c/out"), flag, value]
                done = shop.script(*words).end(SECONDS)
            else:
                done = shop.run_all("--preset", "smoke", f"--plan={flag} {value}").end(SECONDS)
            wrong = judge(shop, done, script, good, refused=value in NEVER, large=value in LARGE, file=False)
            tally.add("flag", f"{script} {flag} {value!r}", wrong, done.err)
        for _ in range(0 if args.only else args.runs):
            fresh(shop)
            words = odd_run(rng)
            done = shop.run_all(*words).end(SECONDS)
            wrong = faults_of(done) + ["a text was run"] * bool([*shop.folder.glob("**/pwned*")])
            tally.add("flag of run_all.sh", " ".join(map(repr, words[4:])), wrong, done.err)
        if changed := differences(stock, content(shop.folder / "s")):
            tally.add("the stock", "unchanged", [f"changed: {' '.join(changed)}"])
    return tally.told()


if __name__ == "__main__":
    sys.exit(
        main(
            *flags(
                __doc__,
                60,
                flags=(60, "numeric flags tried, at most as many as there are (default: 60)"),
                runs=(40, "odd command lines of run_all.sh (default: 40)"),
            )
        )
    )
