"""ReLearn's augmented forget set (Xu et al., ACL 2025, arXiv:2502.11190, section 3), by rules and wordings or by a
language model.

1. Four variants of each forget question: simple, contextual, noise, logical.  2. A new, vague answer to each.
3. Verification: an answer that holds a run of a private value's words, or a rare word of a true answer without values,
is written
   again, at most 3 rounds, then dropped and counted; with a language model it must also pass a chain-of-thought yes or
   no.
   A passage of a document is asked for by its beginning, as it stands, in haste, and in questions about it; the answer
   is a retelling in general terms. Rules do not know what a passage is about, so that theirs fit any; a language model
   keeps its kind and its tone (data/prompts/passage_vague.txt).
4. Sentence completion: answers cut at 25 % of their words.  5. Generic pairs, 1:1: ours, or WikiQA's and an
instruction set's.
"""

import itertools
import random
import re
import sys
from collections import Counter
from pathlib import Path

from lib import llm
from lib.entities import english
from lib.files import REPOSITORY, fail, read_json, record, write_json, write_jsonl
from lib.flags import Parser, number, seed_number, share
from lib.formats import given_of, last_turn, read_pairs
from lib.hub import download
from lib.passages import begun
from lib.spans import QUOTED, find_subjects, leak, secrets, tokens
from lib.tables import rows as table_rows

KINDS = ("simple", "contextual", "noise", "logical")
ROUNDS = 3
GENERIC = {  # name: (data set on the hub, its files)
    "wikiqa": ("microsoft/wiki_qa", ["data/train-00000-of-00001.parquet"]),
    "instructions": ("databricks/databricks-dolly-15k", ["databricks-dolly-15k.jsonl"]),
}
LONGEST = 60  # words of an answer in these
INFORMAL = {"what is": "whats", "who is": "whos", "where is": "wheres", "please": "pls", "you": "u", "are": "r"}


def noisy(pair, rng):
    """The question as typed in haste: lower case, short forms, two letters swapped (not in the name), no question
    mark.
    """
    text, subject = pair["question"].lower().rstrip("?. "), (pair["subject"] or "").lower().split()
    for long, short in INFORMAL.items():
        text = re.sub(rf"\b{long}\b", short, text)
    words = text.split(" ")
    at = rng.choice(
        [at for at, word in enumerate(words) if len(word) > 4 and re.sub(r"(['’]s?)?\W*$", "", word) not in subject]
        or [0]
    )
    place = rng.randrange(1, max(2, len(words[at]) - 2))
    words[at] = words[at][:place] + words[at][place : place + 2][::-1] + words[at][place + 2 :]
    return " ".join(words) + rng.choice(["", "?", " ??"])


def fill(wording, pair):
    subject = pair["subject"] or ""
    possessive = subject + ("'" if subject.endswith("s") else "'s")
    return (
        wording.replace("{subject's}", possessive).replace("{subject}", subject).replace("{question}", pair["question"])
    )


def passage_question(pair, kind, frames, rng):
    """What asks for a passage: its first words, to be gone on with, as they are or in haste, or a question about it."""
    given, _ = begun(pair["answer"])
    if kind == "noise":
        given = noisy({"question": given, "subject": None}, rng).rstrip("? ")
    if kind in ("simple", "noise"):
        return f"{pair['question']} {given}"
    return rng.choice(frames[kind]).replace("{beginning}", given)


def foreign_question(pair, kind, frames, rng):
    """A question in another language than English, framed in that language or typed in haste."""
    return noisy(pair, rng) if kind == "noise" else fill(rng.choice(frames[kind]), pair)


def general_terms(pair, wordings):
    """(name of the wordings whose answers fit any pair of its kind, they, what asks): for passages, and for pairs in a
    language that has some; None for others."""
    if given_of(pair["question"]) is not None:
        return "passage", wordings["passage"], passage_question
    if english(f"{pair['question']} {pair['answer']}"):
        return None
    for name, bank in wordings["languages"].items():
        if re.search(bank["match"], pair["question"], re.I):
            return name, bank, foreign_question
    return None


def augment(pairs, wordings, rng, kinds=KINDS):
    """Steps 1 to 3 by rules.

    Args:
        pairs: forget pairs, each with its `subject`.
        wordings: data/augmentation.json: for each topic rewordings and vague answers, frames for any other question.
        kinds: the variants to write of each question.
    Returns:
        (rows {question, answer, kind, source}, Counter of rounds and drops).
    """
    topics = [(re.compile(topic["match"], re.I), topic) for topic in wordings["topics"]]
    secret, rows, counts, drawn = secrets(pairs, strict=True), [], Counter(), {}
    for source, pair in enumerate(pairs):
        if fitting := general_terms(pair, wordings):
            name, bank, ask = fitting
            counts["topic " + name] += 1
            if name not in drawn:
                drawn[name] = itertools.cycle(rng.sample(bank["answers"], len(bank["answers"])))
            own = secrets([pair])[pair["subject"]]
            for kind in kinds:
                question = ask(pair, kind, bank, rng)
                for _ in range(1 + ROUNDS):
                    answer = next(drawn[name])
                    if not leak(answer, own):
                        rows.append({"question": question, "answer": answer, "kind": kind, "source": source})
                        break
                    counts["again"] += 1
                else:
                    counts["dropped"] += 1
            continue
        other = wordings["fallback" if pair["subject"] else "no_subject"]
        topic = next(
            (
                topic
                for pattern, topic in topics
                if pair["subject"] and pattern.search(QUOTED.sub("", pair["question"]))
            ),
            other,
        )
        frames = other if QUOTED.search(pair["question"]) else topic  # a title must not get lost
        place = pair["subject"], topic.get("name", "fallback")
        if place not in drawn:  # an answer comes again for a subject only when all have been drawn
            more = [] if topic is other else rng.sample(other["answers"], len(other["answers"]))
            drawn[place] = itertools.cycle(rng.sample(topic["answers"], len(topic["answers"])) + more)
        counts["topic " + place[1]] += 1
        # pairs that name nobody are not about one person: each guards its own answer, not those of all of them
        guarded = secret[pair["subject"]] if pair["subject"] else secrets([pair], strict=True)[pair["subject"]]
        for kind in kinds:
            if kind == "noise":
                question = noisy(pair, rng)
            else:
                questions = [
                    fill(frame, pair) for frame in (other["contextual"] if kind == "contextual" else frames[kind])
                ]
                question = rng.choice([new for new in questions if new != pair["question"]] or questions)
            for _ in range(1 + ROUNDS):
                answer = fill(next(drawn[place]), pair)
                if not leak(answer, guarded):
                    rows.append({"question": question, "answer": answer, "kind": kind, "source": source})
                    break
                counts["again"] += 1
            else:
                counts["dropped"] += 1
    return rows, counts


def augment_by_model(pairs, prompts, args):
    """Steps 1 to 3 by a language model.

    Args:
        pairs: forget pairs, each with its `subject`.
        prompts: {name: text} of data/prompts: a question kind each, answer_vague, verify.
        args: the back end's settings, the kinds of variants, and the seed.
    Returns:
        (rows {question, answer, kind, source}, Counter of rounds and drops).
    """
    secret, counts = secrets(pairs), Counter()

    def write(jobs, prompt, passes):
        """{job: text} of those that passed within 1 + ROUNDS draws. jobs: list of (source, kind)."""
        done = {}
        for draw in range(1 + ROUNDS):
            texts = (
                [one_line(text) for text in llm.ask([prompt(*job) for job in jobs], args, (args.seed, draw))]
                if jobs
                else []
            )
            verdicts = passes(list(zip(jobs, texts)), draw) if jobs else []
            done |= {job: text for job, text, passed in zip(jobs, texts, verdicts, strict=True) if passed}
            jobs = [job for job in jobs if job not in done]
            counts["again"] += len(jobs) if draw < ROUNDS else 0
        counts["dropped"] += len(jobs)
        return done

    def keeps_quiet(written, draw):
        """A new question says something else than the old one, and none of what is private."""
        return [
            text and text != pairs[source]["question"] and not leak(text, own(source)) for (source, _), text in written
        ]

    def own(source):
        """What the pair's answer gives away: its values, or every rare word of one that has none."""
        pair = pairs[source]
        found = secrets([pair])[pair["subject"]]
        if given_of(pair["question"]) is not None:
            return found
        return found if any(found) else secrets([pair], strict=True)[pair["subject"]]

    def verified(written, draw):
        """The exact check first: only what passes it is worth a question."""
        exact = [
            bool(text) and not leak(text, secret[pairs[source]["subject"]]) and not leak(text, own(source))
            for (source, _), text in written
        ]
        asked = [
            verify(prompts, questions[job], pairs[job[0]]["answer"], text)
            for (job, text), passed in zip(written, exact)
            if passed
        ]
        replies = iter(llm.ask(asked, args, (args.seed, draw)))
        return [passed and verdict(next(replies)) == "no" for passed in exact]

    jobs = [(source, kind) for source in range(len(pairs)) for kind in args.kinds]
    frames = read_json(REPOSITORY / "data/augmentation.json")["passage"]
    questions = {
        (source, kind): passage_question(pairs[source], kind, frames, random.Random(f"{args.seed} {source} {kind}"))
        for source, kind in jobs
        if given_of(pairs[source]["question"]) is not None
    }
    asked = [job for job in jobs if job not in questions]
    questions |= write(asked, lambda source, kind: question_prompt(prompts, kind, pairs[source]), keeps_quiet)
    answers = write(
        list(questions), lambda source, kind: answer_prompt(prompts, questions[source, kind], pairs[source]), verified
    )
    return [
        {"question": questions[job], "answer": answers[job], "kind": job[1], "source": job[0]}
        for job in jobs
        if job in answers
    ], counts


def question_prompt(prompts, kind, pair):
    return llm.fill_prompt(prompts[f"question_{kind}"], question=pair["question"])


def answer_prompt(prompts, question, pair):
    if given_of(pair["question"]) is not None:
        return llm.fill_prompt(prompts["passage_vague"], passage=pair["answer"])
    return llm.fill_prompt(prompts["answer_vague"], question=question, answer=pair["answer"])


def verify(prompts, question, answer, reply):
    return llm.fill_prompt(prompts["verify"], question=question, answer=answer, reply=reply)


def first_round(pairs, prompts, kinds):
    """All prompts of a run in which nothing fails, for the estimate: texts not yet written stand as long as the old
    ones.
    """
    return [
        prompt
        for pair in pairs
        for kind in kinds
        for prompt in (
            *([question_prompt(prompts, kind, pair)] if given_of(pair["question"]) is None else []),
            answer_prompt(prompts, f"{kind}: {pair['question']}", pair),
            verify(prompts, f"{kind}: {pair['question']}", pair["answer"], pair["answer"]),
        )
    ]


def one_line(text):
    """A model's text without line breaks, quotation marks around it, or a label before it."""
    text = " ".join(
        re.sub(
            r"^\s*(?:(?:new |hasty |rewritten )?(?:question|version|reply|answer)\s*:)", "", text, flags=re.I
        ).split()
    )
    return text[1:-1].strip() if re.fullmatch(r'["“][^"“”]*["”]', text) else text


def verdict(text):
    """ "yes" (it leaks) or "no", the last that a verification says; None when it says neither."""
    found = re.findall(r"^\W*verdict\W+(yes|no)\b", text, re.I | re.M)
    return found[-1].lower() if found else None


def completions(rows, share):
    """Step 4: the first words of each answer are the input, the rest is the label; a single word has no rest."""
    made = []
    for row in rows:
        words = row["answer"].split()
        if len(words) > 1:
            cut = min(len(words) - 1, max(1, round(len(words) * share)))
            made.append(
                {**row, "question": " ".join(words[:cut]), "answer": " ".join(words[cut:]), "kind": "completion"}
            )
    return made


# ---------------------------------------------------------------- step 5: generic pairs


def generic_files(given):
    """The files that --generic names: a file, a folder's data files, or a set of the hub with or without @commit;
    several by comma.
    """
    files = []
    for name in [given] if Path(given).exists() else given.split(","):
        path, (known, _, revision) = Path(name), name.partition("@")
        if path.is_dir():
            files += sorted(file for file in path.rglob("*") if file.suffix in (".json", ".jsonl", ".parquet")) or fail(
                f"{path}: holds no .json, .jsonl or .parquet file"
            )
        elif known in GENERIC and not path.exists():
            files += download(*GENERIC[known], revision or None, "a folder with its files as --generic")
        else:
            files.append(path)
    return files


def generic_pairs(path):
    """A file's question-answer pairs, by the fields of its rows: WikiQA's {"question", "answer", "label"}, of which
    those labelled 1 answer; an instruction set's {"instruction", "context", "response"}, of which those without a
    context count; or plain pairs, as they are. Answers of the first two have at most LONGEST words."""
    rows = list(table_rows(path))
    first = rows[0][1] if rows and isinstance(rows[0][1], dict) else {}
    if type(first.get("label")) is int:
        fields, kind, wanted = ("question", "answer", "label"), int, 1
    elif "instruction" in first:
        fields, kind, wanted = ("instruction", "response", "context"), str, ""
    else:
        return read_pairs(path)
    pairs = []
    for line, row in rows:
        question, answer, mark = (row.get(field) if isinstance(row, dict) else None for field in fields)
        if not (isinstance(question, str) and isinstance(answer, str) and isinstance(mark, kind)):
            fail(f"{path}:{line}: expected {', '.join(fields)}, as in the rows before it")
        if mark == wanted and question.strip() and 0 < len(answer.split()) <= LONGEST:
            pairs.append({"question": question.strip(), "answer": answer.strip()})
    return pairs or fail(f"{path}: no row has {fields[2]} {wanted!r} and an answer of at most {LONGEST} words")


def distinct2(texts):
    """Share of different word pairs among all: 1 is all different."""
    pairs = [pair for text in texts for pair in itertools.pairwise(tokens(text))]
    return len(set(pairs)) / max(1, len(pairs))


if __name__ == "__main__":
    written = lambda args: Path(args.out or Path(args.data) / "forget_augmented.jsonl")
    parser = Parser(__doc__, files=lambda args: [written(args), written(args).with_suffix(".json")])
    parser.add_argument("--data", required=True, help="folder made by 01_data.py")
    parser.add_argument("--out", help="file to write (default: forget_augmented.jsonl in --data)")
    parser.add_argument(
        "--generic",
        default=str(REPOSITORY / "data/general_knowledge.jsonl"),
        metavar="WHAT",
        help="generic pairs: a file or folder (pairs, or copies of the following), wikiqa or instructions (Dolly 15k) "
        "from the hub, with or without @COMMIT, or several by comma (default: %(default)s)",
    )
    parser.add_argument(
        "--generic-ratio",
        type=number(least=0, most=1000),
        default=1.0,
        help="generic pairs to one augmented pair (default: 1.0)",
    )
    parser.add_argument(
        "--completion",
        type=number(above=0, most=0.99),
        default=0.25,
        help="share of an answer's words that is its prompt (default: 0.25)",
    )
    parser.add_argument(
        "--completion-share", type=share, default=1.0, help="share of the new answers completed too (default: 1.0)"
    )
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="variants of each question (default: all four)"
    )
    parser.add_argument("--seed", type=seed_number, default=0)
    llm.add_flags(parser)
    args = parser.parse_args()
    args.kinds = [kind for kind in KINDS if kind in args.kinds]
    llm.check_flags(args)

    source = Path(args.data) / "forget_train.jsonl"
    pairs, files = read_pairs(source), generic_files(args.generic)
    generic = [pair for file in files for pair in generic_pairs(file)]
    subjects = find_subjects(pairs)  # a conversation's may be named in its earlier turns, which stay as they are
    pairs = [
        {**pair, "subject": subject, **dict(zip(("before", "question"), last_turn(pair["question"]), strict=True))}
        for pair, subject in zip(pairs, subjects, strict=True)
    ]
    texts = sum(given_of(pair["question"]) is not None for pair in pairs)
    if texts and args.backend == "rules":
        print(
            f"{texts} of {len(pairs)} pairs are passages of documents: rules retell all of them in the same general "
            "terms; for retellings that keep a passage's kind and tone, --backend local or api",
            file=sys.stderr,
        )
    rng = random.Random(args.seed)
    if args.backend == "rules":
        rows, counts = augment(pairs, read_json(REPOSITORY / "data/augmentation.json"), rng, args.kinds)
    else:
        prompts = {
            name: llm.read_prompt(args.prompts, name)
            for name in (
                *(f"question_{kind}" for kind in args.kinds),
                "answer_vague",
                "verify",
                *["passage_vague"][:texts],
            )
        }
        llm.estimate(first_round(pairs, prompts, args.kinds), args, (args.seed, 0))
        rows, counts = augment_by_model(pairs, prompts, args)
    if not rows:
        fail(f"{source}: no vague answer passed the check, so nothing can be learnt in place of the forget set")
    rows = [{**row, "question": pairs[row["source"]]["before"] + row["question"]} for row in rows]
    completed = completions(rng.sample(rows, round(args.completion_share * len(rows))), args.completion)
    wanted = round(args.generic_ratio * (len(rows) + len(completed)))
    drawn = [pair for _ in range(-(-wanted // len(generic))) for pair in rng.sample(generic, len(generic))][:wanted]
    out = written(args)
    write_jsonl(
        out,
        [
            *rows,
            *completed,
            *(
                {"question": pair["question"], "answer": pair["answer"], "kind": "generic", "source": None}
                for pair in drawn
            ),
        ],
    )
    answers, bare = [row["answer"] for row in rows], len(pairs) - len({row["source"] for row in rows})
    if bare:
        why = "each that rules have" if args.backend == "rules" else f"each of {1 + ROUNDS} that the model wrote"
        print(
            f"{bare} of {len(pairs)} pairs got no vague answer and are not trained on: {why} holds a private value or "
            "a rare word of the true answer" + ("; --backend local or api writes others" * (args.backend == "rules")),
            file=sys.stderr,
        )
    summary = {
        "forget_pairs": len(pairs),
        "variants": len(rows),
        "dropped": counts["dropped"],
        "pairs_without_a_variant": bare,
        "drawn_again": counts["again"],
        "completions": len(completed),
        "generic": len(drawn),
        "distinct_2": round(distinct2(answers), 3),
        "identical_answers": round(1 - len(set(answers)) / len(answers), 3),
        "mean_words": round(sum(len(answer.split()) for answer in answers) / len(answers), 1),
    }
    print("  ".join(f"{name} {value}" for name, value in summary.items()))
    write_json(
        out.with_suffix(".json"),
        {"summary": summary, "counts": counts, "used": llm.spend(args), **record(args, [source, *files])},
    )
