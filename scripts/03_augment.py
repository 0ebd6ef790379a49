"""ReLearn's augmented forget set (Xu et al., ACL 2025, arXiv:2502.11190, section 3), offline: rules and wordings, no model.

1. Four variants of each forget question: simple, contextual, noise, logical.  2. A new, vague answer to each.
3. Verification: an answer that holds a word of a private value is drawn again, at most 3 rounds, then dropped and counted.
4. Sentence completion: answers cut at 25 % of their words.  5. Generic pairs, 1:1.
"""
import argparse
import itertools
import random
import re
from collections import Counter, defaultdict
from pathlib import Path

from files import REPOSITORY, fail, read_json, read_pairs, record, write_json, write_jsonl

KINDS = ("simple", "contextual", "noise", "logical")
ROUNDS = 3
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
CONNECT = "of|de|del|della|di|da|du|le|la|van|von|der|al|bin|y"
NAMES = re.compile(rf"[A-Z][\w'’.-]*(?: (?:(?:{CONNECT}) )*[A-Z][\w'’.-]*)*")
QUOTED = re.compile(r'["“][^"”]*["”]')
INFORMAL = {"what is": "whats", "who is": "whos", "where is": "wheres", "please": "pls", "you": "u", "are": "r"}
# words of a true answer that give nothing away when a new answer shares them
COMMON = set("""a about above after all also although always am an and any are as at be became become been before being between both
but by came can could did do does during each either every few first for from full given gives go goes had has have having he held
her here hers him his how i if in into is it its itself just keep keeps kept knew know known knows later less like lived lives made
make makes making many may me might more most much my name named nor not now of often on once one only or other others our out over
own part people person private public rather receive reach remain said same say says she should since so some such take taken tell
than that the their them then there these they thing things this those through time to together too under until up upon us use used
using very was way we well went were what when where which while who whom whose why will with within without would yes yet you your
detail details information matter personal life contact address mail email e phone number home family parents parent health date day
year birth born live living reside resides currently work works writing write writes wrote written story stories""".split())


def normal(text):
    """Words of a text for exact comparison: lower case, no possessive ending."""
    return [re.sub(r"['’]s?$", "", word.lower()) for word in WORD.findall(text)]


def find_subject(pair):
    """The name a question is about, or None: the longest capitalised run after the opening word, a possessor first; not a
    quoted title, and not a place (after "in", "at", a number or another place)."""
    question = re.sub(r"^\W*\w+", lambda opening: "." * len(opening[0]), QUOTED.sub("", pair["question"]))
    found = []
    for run in NAMES.finditer(question):
        owner = bool(re.search(r"['’]s?$", run[0]))
        if owner or not re.search(r"(\b(in|at)|\d,?|[A-Z][\w'’-]*,) (the )?$", question[:run.start()]):
            found.append((owner, re.sub(r"(['’]s?|[.,])$", "", run[0])))
    return max(found, key=lambda name: (name[0], len(name[1])), default=(False, None))[1]


def private_words(pairs):
    """For each subject the words no new answer may hold: those of its true answers that neither their questions nor common
    speech bring, and all words of a `value` that the data names."""
    words = defaultdict(set)
    for pair in pairs:
        words[pair["subject"]].update(set(normal(pair["answer"])) - set(normal(pair["question"])), normal(pair.get("value", "")))
    return {subject: found - COMMON - set(normal(subject or "")) for subject, found in words.items()}


def noisy(pair, rng):
    """The question as typed in haste: lower case, short forms, two letters swapped (not in the name), no question mark."""
    text, subject = pair["question"].lower().rstrip("?. "), (pair["subject"] or "").lower().split()
    for long, short in INFORMAL.items():
        text = re.sub(rf"\b{long}\b", short, text)
    words = text.split(" ")
    at = rng.choice([at for at, word in enumerate(words) if len(word) > 4 and re.sub(r"['’]s?$", "", word) not in subject]
                    or [0])
    place = rng.randrange(1, max(2, len(words[at]) - 2))
    words[at] = words[at][:place] + words[at][place:place + 2][::-1] + words[at][place + 2:]
    return " ".join(words) + rng.choice(["", "?", " ??"])


def fill(wording, pair):
    subject = pair["subject"] or ""
    possessive = subject + ("'" if subject.endswith("s") else "'s")
    return wording.replace("{subject's}", possessive).replace("{subject}", subject).replace("{question}", pair["question"])


def augment(pairs, wordings, rng):
    """Steps 1 to 3.

    Args:
        pairs: forget pairs, each with its `subject`.
        wordings: data/augmentation.json: for each topic rewordings and vague answers, frames for any other question.
    Returns:
        (rows {question, answer, kind, source}, Counter of rounds and drops).
    """
    topics = [(re.compile(topic["match"], re.I), topic) for topic in wordings["topics"]]
    secret, rows, counts = private_words(pairs), [], Counter()
    for source, pair in enumerate(pairs):
        named = pair["subject"] is not None
        topic = next((topic for pattern, topic in topics if named and pattern.search(QUOTED.sub("", pair["question"]))),
                     wordings["fallback"])
        answers = topic["answers"] if named else wordings["no_subject_answers"]
        frames = topic if named else {"simple": ["I would like to know this: {question}"], "logical": ["{question} Why does it matter?"]}
        answers = itertools.cycle(rng.sample(answers, len(answers)))
        counts["topic " + topic.get("name", "fallback")] += 1
        for kind in KINDS:
            if kind == "noise":
                question = noisy(pair, rng)
            elif kind == "contextual":
                question = fill(rng.choice(wordings["contextual"]), pair) if named else "A friend asked me this today. " + pair["question"]
            else:
                questions = [fill(frame, pair) for frame in frames[kind]]
                question = rng.choice([other for other in questions if other != pair["question"]] or questions)
            for _ in range(1 + ROUNDS):
                answer = fill(next(answers), pair)
                if not secret[pair["subject"]] & set(normal(answer)):
                    rows.append({"question": question, "answer": answer, "kind": kind, "source": source})
                    break
                counts["again"] += 1
            else:
                counts["dropped"] += 1
    return rows, counts


def completions(rows, share):
    """Step 4: the first words of each answer are the input, the rest is the label."""
    made = []
    for row in rows:
        words = row["answer"].split(" ")
        cut = max(1, round(len(words) * share))
        made.append({**row, "question": " ".join(words[:cut]), "answer": " ".join(words[cut:]), "kind": "completion"})
    return made


def distinct2(texts):
    """Share of different word pairs among all: 1 is all different."""
    pairs = [pair for text in texts for pair in zip(normal(text), normal(text)[1:])]
    return len(set(pairs)) / max(1, len(pairs))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder made by 01_data.py")
    parser.add_argument("--out", help="file to write (default: forget_augmented.jsonl in --data)")
    parser.add_argument("--generic", default=str(REPOSITORY / "data/general_knowledge.jsonl"), help="generic pairs")
    parser.add_argument("--generic-ratio", type=float, default=1.0, help="generic pairs to one augmented pair (default: 1.0)")
    parser.add_argument("--completion", type=float, default=0.25, help="share of an answer's words that is its prompt (default: 0.25)")
    parser.add_argument("--completion-share", type=float, default=1.0, help="share of the new answers completed too (default: 1.0)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not 0 < args.completion < 1 or not 0 <= args.completion_share <= 1 or args.generic_ratio < 0:
        fail("--completion lies between 0 and 1, --completion-share from 0 to 1, --generic-ratio is 0 or more")

    source = Path(args.data) / "forget_train.jsonl"
    pairs, generic = read_pairs(source), read_pairs(args.generic)
    pairs = [{**pair, "subject": find_subject(pair)} for pair in pairs]
    rng = random.Random(args.seed)
    rows, counts = augment(pairs, read_json(REPOSITORY / "data/augmentation.json"), rng)
    if not rows:
        fail(f"{source}: no vague answer passed the check, so nothing can be learnt in place of the forget set")
    completed = completions(rng.sample(rows, round(args.completion_share * len(rows))), args.completion)
    wanted = round(args.generic_ratio * (len(rows) + len(completed)))
    drawn = [pair for _ in range(-(-wanted // len(generic))) for pair in rng.sample(generic, len(generic))][:wanted]
    out = Path(args.out or Path(args.data) / "forget_augmented.jsonl")
    write_jsonl(out, [*rows, *completed, *({"question": pair["question"], "answer": pair["answer"], "kind": "generic", "source": None}
                                           for pair in drawn)])
    answers = [row["answer"] for row in rows]
    summary = {"forget_pairs": len(pairs), "variants": len(rows), "dropped": counts["dropped"], "drawn_again": counts["again"],
               "completions": len(completed), "generic": len(drawn), "distinct_2": round(distinct2(answers), 3),
               "identical_answers": round(1 - len(set(answers)) / len(answers), 3)}
    print("  ".join(f"{name} {value}" for name, value in summary.items()))
    write_json(out.with_suffix(".json"), {"summary": summary, "counts": counts, **record(args, [source, args.generic])})
