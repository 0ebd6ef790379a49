"""A language model as judge of the answers to forget questions: fluency, relevance and forgetting, 1 to 5 each, 5 the best. The
prompt, data/prompts/judge.txt, is our own.

A reply that is not exactly three such grades is asked for again, at most twice; then the answer has no grades, which is counted.
"""

from lib import llm
from lib.files import fail, mean, pair_up, write_results
from lib.flags import Parser
from lib.formats import read_answers

GRADES = ("fluency", "relevance", "forgetting")


def grades(reply, _=None):
    """{grade: 1 to 5} of a judge's reply; None unless it is one JSON object with these three whole numbers and nothing else."""
    found = llm.json_of(reply)
    return (
        found
        if isinstance(found, dict)
        and sorted(found) == sorted(GRADES)
        and all(type(grade) is int and 1 <= grade <= 5 for grade in found.values())
        else None
    )


if __name__ == "__main__":
    parser = Parser(__doc__)
    parser.add_argument(
        "--answers",
        required=True,
        nargs="+",
        metavar="FILE",
        help='answers to forget questions: JSON Lines of {"question", "reference", "answer"}',
    )
    parser.add_argument(
        "--out", required=True, nargs="+", metavar="FILE", help="JSON to write for each: summary, items, origin"
    )
    llm.add_judge_flags(parser)
    args = parser.parse_args()
    llm.check_judge_flags(args, "13_judge.py")
    files = [(path, read_answers(path), out) for path, out in pair_up(args.answers, args.out)]

    fields = ("question", "reference", "answer")
    found = iter(
        llm.ask_for(
            "judge", [{field: row[field] for field in fields} for _, rows, _ in files for row in rows], grades, args
        )
    )
    scored = [
        [{**{field: row[field] for field in fields}, **(next(found) or dict.fromkeys(GRADES))} for row in rows]
        for _, rows, _ in files
    ]
    for (path, _, _), items in zip(files, scored, strict=True):
        if all(item["fluency"] is None for item in items):
            fail(f"{path}: the judge gave no usable grades to any answer: try another --judge-model")
    for (path, _, out), items in zip(files, scored, strict=True):
        judged = [item for item in items if item["fluency"] is not None]
        summary = {
            **{name: mean(item[name] for item in judged) for name in GRADES},
            "items": len(judged),
            "missing": len(items) - len(judged),
        }
        write_results(out, summary, items, args, [path])
        print(path, *(f"{name} {value:.4g}" for name, value in summary.items()), sep="  ")
