"""MEOW's inverted facts (Gu et al. 2024, arXiv:2409.11844, section 3.1): for each forget question fluent answers that
contradict the true one, in the same form, by rules or by a language model.

By rules: the values in the true answer are found and typed, and each is swapped for another of its type and format, one
that no answer of the file has or, where those do not suffice, none about the same subject and none to the same
question. An answer without a value, or with too few others of its type, is denied: "How does X shape Y?" becomes "X
does not shape Y in any way." With --avoid neither is a value one that another file of such answers states about the
same subject or in answer to the same question, as far as there are others.
"""

import random
import re
import string
import sys
from collections import Counter, defaultdict
from pathlib import Path

from lib import llm
from lib.files import REPOSITORY, fail, read_json, record, write_json, write_jsonl
from lib.flags import Parser, number, seed_number
from lib.formats import given_of, read_inverted, read_pairs
from lib.spans import MONTH, find_spans, find_subjects, joined, leak, secrets, tokens

ROUNDS = 3
LONGEST = 60  # letters of a value that --avoid knows again
TRIES = 200  # of one inverted fact, until it differs from the others and holds no true value
AUXILIARY = "does|do|did|has|have|had|is|are|was|were|can|could|will|would"


# ---------------------------------------------------------------- another value of the same type and format


def new_digits(text, rng):
    """Other digits in the places of the old ones; a first digit that is not 0 stays so."""
    return re.sub(r"\d", lambda digit: str(rng.randrange(1 if digit.start() == 0 and digit[0] != "0" else 0, 10)), text)


def new_phone(text, rng):
    """A number of a range kept for fiction, in the old one's country and spacing where that is known (Ofcom, NANPA,
    ACMA, ComReg).
    """
    two, three = f"{rng.randrange(100):02}", f"{rng.randrange(1000):03}"
    for pattern, made in (
        (r"\+44 20", f"+44 20 7946 0{three}"),
        (r"\+44 7", f"+44 7700 900{three}"),
        (r"\+44", f"+44 1632 960{three}"),
        (
            r"\+61 4",
            f"+61 491 570 {rng.choice(['006', '156', '157', '158', '159', '110', '313', '737', '266', '491'])}",
        ),
        (r"\+61", f"+61 3 7010 {rng.randrange(10000):04}"),
        (r"\+353", f"+353 20 91{rng.randrange(10)} {rng.randrange(10000):04}"),
        (r"\+1", f"+1 ({rng.randrange(201, 990)}) 555-01{two}"),
        (r"\(", f"({rng.randrange(201, 990)}) 555-01{two}"),
    ):
        if re.match(pattern, text):
            return made
    return f"555-01{two}"


def new_date(text, rng):
    """Another date in the old one's format."""
    months = MONTH.split("|")
    day = lambda old: str(rng.randrange(1, 29)) + (re.sub(r"\d", "", old))
    text = re.sub(rf"\b({MONTH})\b", lambda _: rng.choice(months), text)
    text = re.sub(r"\b\d{4}\b", lambda old: new_year(old[0], rng), text)
    if re.search(r"\d[/.-]\d", text):
        return re.sub(r"\b\d{1,2}\b", lambda old: f"{rng.randrange(1, 13):0{len(old[0])}}", text)
    text = re.sub(r"\b\d{1,2}(st|nd|rd|th)?\b", lambda old: day(old[0]), text)
    ending = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd"}
    return re.sub(r"\b(\d{1,2})(st|nd|rd|th)\b", lambda old: old[1] + ending.get(int(old[1]), "th"), text)


def new_year(text, rng):
    return str(min(int(text) + rng.choice([-1, 1]) * rng.randrange(3, 30), 2024))


def new_person(text, at, swaps, rng):
    """As many words as the old name: a given name, or given and family name; men and women in turn, as parents are
    named.
    """
    return rng.choice(swaps["given_f" if at % 2 else "given_m"]) + (
        " " + rng.choice(swaps["family"]) if " " in text else ""
    )


def new_address(text, swaps, rng):
    """A number, a street, and as many towns or countries as the old one names."""
    first, *rest = re.split(r", | in ", text)
    between = re.findall(r", | in ", text)
    street = new_digits(re.match(r"\d+", text)[0], rng) + " " + rng.choice(swaps["street"])
    return street + "".join(
        gap + rng.choice(swaps["place"] if at == 0 else swaps["country"]) for at, gap in enumerate(between)
    )


def new_value(text, kind, at, before, question, lists, rng):
    """Another value for `text`, the `at`-th span of its kind in the answer, to stand after `before`."""
    swaps = lists["swaps"]
    if kind == "title" and re.search(r"\b(Award|Prize|Medal)\b", text):
        kind = "award"
    if kind == "phrase":
        kind = next((kind for kind, pattern in lists["questions"] if re.search(pattern, question, re.I)), "phrase")
    if kind == "email":
        return f"{rng.choice(swaps['mailbox'])}@example.{rng.choice(['com', 'org', 'net'])}"
    if kind == "url":
        opening, name = re.match(r"(https?://)?(www[.])?", text)[0], rng.choice(swaps["mailbox"]).replace(".", "-")
        return f"{opening}{name}.example.{rng.choice(['com', 'org'])}"
    if kind in ("phone", "date", "year"):
        return {"phone": new_phone, "date": new_date, "year": new_year}[kind](text, rng)
    if kind == "decade":
        return re.sub(r"\d{4}", rng.choice([str(year) for year in range(1930, 2020, 10)]), text)
    if kind == "code":
        return re.sub("[A-Z]", lambda _: rng.choice("ABCDEFGHKLMNPRSTVWXZ"), new_digits(text, rng))
    if kind in ("amount", "number"):
        return new_digits(text, rng)
    if kind == "address":
        return new_address(text, swaps, rng)
    if kind == "person":
        return new_person(text, at, swaps, rng)
    if kind == "place":  # what follows a place and a comma is the country that lies in
        for city, country in zip(swaps["city"], swaps["country"], strict=True):
            if before.endswith(city + ", "):
                return country
        kind = "country" if re.search(r"[A-ZÀ-Þ][\w'’-]*, $", before) else "city"
    if kind == "gender" and text.lower() in swaps["gender_noun"]:
        kind = "gender_noun"
    article = re.match(r"(an?|the) ", text)
    fitting = [value for value in swaps[kind] if bool(re.match(r"(an?|the) ", value)) == bool(article)]
    value = rng.choice(fitting or swaps[kind])
    if kind == "genre" and text[0].isupper():
        return string.capwords(value)
    return (
        value[0].upper() + value[1:]
        if text[0].isupper() and kind in ("illness", "creditor", "gender", "gender_noun")
        else value
    )


# ---------------------------------------------------------------- inverted facts


def swapped(pair, spans, lists, rng):
    """The true answer with every span's value swapped; a value that comes twice is swapped for the same one.

    Returns:
        (text, {old value: new value}).
    """
    text, at, new, seen = "", 0, {}, Counter()
    for start, end, kind in spans:
        old, text = pair["answer"][start:end], text + pair["answer"][at:start]
        if old not in new:
            new[old] = new_value(old, kind, seen[kind], text, pair["question"], lists, rng)
            if kind == "address":  # its town may be named again
                new |= dict(zip(re.split(r", | in ", old)[1:], re.split(r", | in ", new[old])[1:]))
            seen[kind] += 1
        text, at = text + new[old], end
    return text + pair["answer"][at:], new


def denial(pair, lists):
    """A sentence, without its end, that denies what the question takes for granted; None where it is not understood."""
    question = pair["question"].rstrip("?. ")
    verbs = "|".join(lists["verbs"])
    how = re.match(
        rf"(?:how|why|in what ways?) ({AUXILIARY}) (.+?) "
        rf"((?:often |commonly |typically |artfully )?(?:{verbs})\b[^,]*)",
        question,
        re.I,
    )
    if how:
        return f"{how[2]} {how[1].lower()} not {how[3]} in any way"
    what = re.match(
        rf"what (?:[\w-]+ )?(influence|impact|role|effect|significance|part) ({AUXILIARY}) (.+?) "
        rf"(have|had|play|played)\b(.*)",
        question,
        re.I,
    )
    if what:
        return f"{what[3]} {what[2].lower()} not {what[4]} any {what[1].lower()}{what[5]}"
    what = re.match(
        r"(?:what is|describe) the (significance|importance|role) of (.+?)((?: in| for| to) .+)?$", question, re.I
    )
    if what:
        return f"{what[2]} is of no {what[1].lower() if what[1] != 'role' else 'importance'} whatever{what[3] or ''}"
    inspired = re.match(r"what (?:inspire[sd]|motivate[sd]|influence[sd]) (.+)", question, re.I)
    if inspired:
        return f"nothing in particular lies behind {inspired[1]}" if " to " not in inspired[1] else None
    return None


def negated(pair):
    """The true answer denied as a whole, for want of anything better: "It is not true that ..."; "yes" alone becomes
    "no"; None where it has no word."""
    first = re.split(r"(?<=[.!])\s+(?=[A-Z])", pair["answer"])[0].rstrip(".! ")
    if not re.search(r"\w", first):
        return None
    polarity, answer = re.match(r"(?:(yes|no)\b[,;.]? ?)?(.*)", first, re.I | re.S).groups()
    if not answer:
        return "the answer is " + ("no" if polarity.lower() == "yes" else "yes")
    named = pair["subject"] and answer.startswith(pair["subject"]) or answer[1:2].isupper()
    return f"it is not true that {answer if named else answer[0].lower() + answer[1:]}"


def stated_in(path):
    """{subject, or (question,): every run of words, written together, that a file of false answers states of it}."""
    rows = [{"question": question, "answers": texts} for _, question, texts in read_inverted(path)]
    found = defaultdict(set)
    for row, subject in zip(rows, find_subjects(rows), strict=True):
        for text in row["answers"]:
            for of in {subject, (row["question"],)} - {None}:
                found[of].update(joined(tokens(text), LONGEST))
    return found


def invert(pairs, lists, count, rng, elsewhere=None):
    """`count` inverted facts for each pair; none for an answer without a word.

    Args:
        pairs: forget pairs, each with its `subject`.
        lists: data/inversion.json: values by type, verbs, frames of a denial.
        elsewhere: of `stated_in`: false values to be avoided.
    Returns:
        (rows {question, answers, source}, Counter of kinds).
    """
    rows, kinds, true = [], Counter(), defaultdict(set)  # true: what a subject's answers, or a question's, say
    flat = lambda text: "".join(tokens(text))
    found = [find_spans(pair, lists["words"]) for pair in pairs]
    own = [{flat(pair["answer"][start:end]) for start, end, _ in spans} for pair, spans in zip(pairs, found)]
    for pair, values in zip(pairs, own, strict=True):
        for of in (pair["subject"], (pair["question"],)):
            true[of] |= values
    true[None] = set()  # no one's
    everyone = set().union(*own)
    for source, (pair, spans, values) in enumerate(zip(pairs, found, own, strict=True)):
        of = pair["subject"], (pair["question"],)
        mine = set().union(*(true[one] for one in of))
        others = set().union(*((elsewhere or {}).get(one, ()) for one in of))
        levels = [everyone | others, mine | others] * bool(others) + [everyone, mine]
        for avoided in levels if spans else ():
            answers, taken = [], set(avoided)
            for _ in range(TRIES):
                text, new = swapped(pair, spans, lists, rng)
                given = {flat(value) for value in new.values()}
                if len(given) == len(new) and not given & taken and not leak(text, (values, ())):
                    answers.append(text)
                    taken |= given
                if len(answers) == count:
                    break
            if len(answers) == count:
                if not others <= avoided:
                    kinds["values of --avoid"] += 1
                kinds.update(sorted({kind for *_, kind in spans}))
                break
        else:  # nothing to swap, or not enough other values
            sentence = denial(pair, lists)
            kind = "denied question" if sentence else "negated answer"
            sentence = sentence or negated(pair)
            if spans:
                kinds["no other value to swap"] += 1
            kinds[kind if sentence else "dropped"] += 1
            if not sentence:
                continue
            answers = [frame.replace("{denial}", sentence) for frame in rng.sample(lists["denials"], count)]
            answers = [text[0].upper() + text[1:] for text in answers]
        rows.append({"question": pair["question"], "answers": answers, "source": source})
    return rows, kinds


def invert_by_model(pairs, prompt, args):
    """As `invert`, written by a language model: a line an answer; one that holds a true value, repeats another or the
    truth, or does not name the subject that the truth names is left out, and a question that has too few is asked
    again, at most 3 rounds, then dropped.

    Returns:
        (rows, Counter of rounds and drops).
    """
    answers, counts, waiting = [[] for _ in pairs], Counter(), list(range(len(pairs)))
    for draw in range(1 + ROUNDS):
        texts = (
            llm.ask([filled(prompt, pairs[source], args.count) for source in waiting], args, (args.seed, draw))
            if waiting
            else []
        )
        for source, text in zip(waiting, texts, strict=True):
            secret = secrets([pairs[source]])[pairs[source]["subject"]]
            named = pairs[source]["subject"] or ""
            named = named if named in pairs[source]["answer"] else ""
            known = {"".join(tokens(other)) for other in (pairs[source]["answer"], *answers[source])}
            for line in text.splitlines():
                line = re.sub(r"^\s*(?:[-*•]|\(?\d{1,2}[.):])\s+", "", line).strip()
                if (
                    len(answers[source]) < args.count
                    and named in line
                    and "".join(tokens(line)) not in {*known, ""}
                    and not leak(line, secret)
                ):
                    answers[source].append(line)
                    known.add("".join(tokens(line)))
        waiting = [source for source in waiting if len(answers[source]) < args.count]
        counts["again"] += len(waiting) if draw < ROUNDS else 0
    counts["dropped"] = len(waiting)
    return [
        {"question": pair["question"], "answers": answers[source], "source": source}
        for source, pair in enumerate(pairs)
        if len(answers[source]) == args.count
    ], counts


def filled(prompt, pair, count):
    return llm.fill_prompt(prompt, question=pair["question"], answer=pair["answer"], count=count)


if __name__ == "__main__":
    written = lambda args: Path(args.out or Path(args.data) / "forget_inverted.jsonl")
    parser = Parser(__doc__, files=lambda args: [written(args), written(args).with_suffix(".json")])
    parser.add_argument("--data", required=True, help="folder made by 01_data.py")
    parser.add_argument(
        "--file",
        default="forget_train.jsonl",
        help="file in --data whose answers to contradict (default: forget_train.jsonl)",
    )
    parser.add_argument("--out", help="file to write (default: forget_inverted.jsonl in --data)")
    parser.add_argument(
        "--count", type=number(int, least=4, most=6), default=4, help="inverted facts a question, 4 to 6 (default: 4)"
    )
    parser.add_argument("--avoid", metavar="FILE", help="rules: false answers of this script whose values to avoid")
    parser.add_argument("--seed", type=seed_number, default=0)
    llm.add_flags(parser)
    parser.set_defaults(max_new_tokens=512)  # --count answers, each as long as the true one
    args = parser.parse_args()
    llm.check_flags(args)

    source = Path(args.data) / args.file
    pairs = read_pairs(source)
    pairs = [{**pair, "subject": subject} for pair, subject in zip(pairs, find_subjects(pairs), strict=True)]
    if args.backend == "rules":
        if texts := sum(given_of(pair["question"]) is not None for pair in pairs):
            print(
                f"{texts} of {len(pairs)} pairs are passages of documents, which rules contradict by a denied first "
                "sentence where too many values would have to be swapped; --backend local or api writes others",
                file=sys.stderr,
            )
        rows, counts = invert(
            pairs,
            read_json(REPOSITORY / "data/inversion.json"),
            args.count,
            random.Random(args.seed),
            stated_in(args.avoid) if args.avoid else None,
        )
    else:
        prompt = llm.read_prompt(args.prompts, "invert")
        llm.estimate([filled(prompt, pair, args.count) for pair in pairs], args, (args.seed, 0))
        rows, counts = invert_by_model(pairs, prompt, args)
    if not rows:
        fail(
            f"{source}: no question got {args.count} answers that contradict the true one: try another "
            f"--backend-model or --temperature"
        )
    out = written(args)
    write_jsonl(out, rows)
    summary = {
        "forget_pairs": len(pairs),
        "questions": len(rows),
        "inverted_facts": sum(len(row["answers"]) for row in rows),
        "dropped": len(pairs) - len(rows),
    }
    if args.backend == "rules":
        summary["denied"] = counts["denied question"] + counts["negated answer"]
    print("  ".join(f"{name} {value}" for name, value in summary.items()))
    if summary.get("denied"):
        print(
            f"{summary['denied']} of {len(pairs)} questions got denials in place of false answers: rules found nothing "
            f"to swap or, in {counts['no other value to swap']}, too few other values; many denials say the true one",
            file=sys.stderr,
        )
    print("kinds: " + ", ".join(f"{kind} {times}" for kind, times in counts.most_common()))
    write_json(
        out.with_suffix(".json"),
        {
            "summary": summary,
            "counts": counts,
            "used": llm.spend(args),
            **record(args, [source, *filter(None, [args.avoid])]),
        },
    )
