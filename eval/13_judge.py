"""A language model as judge of the answers to forget questions: fluency, relevance and forgetting, 1 to 5 each, 5 the
best. The prompt, data/prompts/judge.txt, is our own.

A reply that is not exactly three such grades is asked for again, at most twice; then the answer has no grades, which is
counted.
"""

from argparse import Namespace

from lib import llm
from lib.files import fail, mean, pair_up, write_results
from lib.flags import Parser
from lib.formats import read_answers

GRADES = ("fluency", "relevance", "forgetting")
FIELDS = ("question", "reference", "answer")


def grades(reply: str, _=None) -> dict | None:
    """{grade: 1 to 5} of a judge's reply; None unless it is one JSON object with these three whole numbers and nothing
    else.
    """
    found = llm.json_of(reply)
    return (
        found
        if isinstance(found, dict)
        and sorted(found) == sorted(GRADES)
        and all(type(grade) is int and 1 <= grade <= 5 for grade in found.values())
        else None
    )


def parser() -> Parser:
    made = Parser(__doc__)
    made.add_argument(
        "--answers",
        required=True,
        nargs="+",
        metavar="FILE",
        help='answers to forget questions: JSON Lines of {"question", "reference", "answer"}',
    )
    made.add_argument(
        "--out", required=True, nargs="+", metavar="FILE", help="JSON to write for each: summary, items, origin"
    )
    llm.add_judge_flags(made)
    return made


def summarise(items: list[dict]) -> dict:
    """Mean grades of the answers that have any, and how many have none."""
    judged = [item for item in items if item["fluency"] is not None]
    means = {name: mean(item[name] for item in judged) for name in GRADES}
    return {**means, "items": len(judged), "missing": len(items) - len(judged)}


def main(args: Namespace):
    llm.check_judge_flags(args, "13_judge.py")
    files = [(path, read_answers(path), out) for path, out in pair_up(args.answers, args.out)]
    rows = [[{field: row[field] for field in FIELDS} for row in part] for _, part, _ in files]
    found = iter(llm.ask_for("judge", [row for part in rows for row in part], grades, args))
    scored = [[{**row, **(next(found) or dict.fromkeys(GRADES))} for row in part] for part in rows]
    for (path, _, _), items in zip(files, scored, strict=True):
        if all(item["fluency"] is None for item in items):
            fail(f"{path}: the judge gave no usable grades to any answer: try another --judge-model")
    for (path, _, out), items in zip(files, scored, strict=True):
        summary = summarise(items)
        write_results(out, summary, items, args, [path])
        print(path, *(f"{name} {value:.4g}" for name, value in summary.items()), sep="  ")


if __name__ == "__main__":
    main(parser().parse_args())
