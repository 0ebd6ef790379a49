"""KFR and KRR (ReLearn, ACL 2025): what was forgotten, what was kept; leak and ROUGE-L recall beside them.

Definitions are in lib/judge.py and lib/leak.py. Entities are found by rules, or by a language model as in the paper
(--entities llm; the prompt, data/prompts/entities.txt, is our own).
"""

import sys
from argparse import Namespace

from lib.files import pair_up, write_results
from lib.flags import Parser
from lib.formats import read_answers
from lib.judge import judge_together, summarise
from lib.judge_flags import add_flags, entity_finder, load_judge


def parser() -> Parser:
    made = Parser(__doc__)
    made.add_argument(
        "--forget",
        nargs="+",
        default=[],
        metavar="FILE",
        help='answers to forget questions: JSON Lines of {"question", "reference", "answer"}',
    )
    made.add_argument("--retain", nargs="+", default=[], metavar="FILE", help="answers to retain questions, likewise")
    made.add_argument(
        "--out", required=True, nargs="+", metavar="FILE", help="JSON to write for each: summary, items, origin"
    )
    add_flags(made)
    return made


def read_runs(args: Namespace) -> list[tuple[dict, str]]:
    """[({side: (file, its answers)}, file to write)], one a model."""
    forget, retain = pair_up(args.forget, args.out), pair_up(args.retain, args.out)
    return [
        ({side: (path, read_answers(path)) for side, path in (("forget", one), ("retain", other)) if path}, out)
        for (one, out), (other, _) in zip(forget, retain, strict=True)
    ]


def main(args: Namespace):
    if not (args.forget or args.retain):
        parser().error("give --forget, --retain or both")
    runs, model = read_runs(args), load_judge(args)
    rows = [row for sides, _ in runs for _, part in sides.values() for row in part]
    find = entity_finder(args, [row[field] for row in rows for field in ("reference", "answer")])
    parts = [(part, side) for sides, _ in runs for side, (_, part) in sides.items()]
    judged = iter(judge_together(parts, model, find, args.as_released))
    foreign = total = 0
    for sides, out in runs:
        items = [item for _ in sides for item in next(judged)]
        summary = summarise(items)
        foreign, total = foreign + summary.get("not_english", 0), total + len(items)
        write_results(out, summary, items, args, [path for path, _ in sides.values()])
        print(out, *(f"{name} {value:.3f}" for name, value in summary.items() if isinstance(value, float)), sep="  ")
    if foreign:
        print(
            f"{foreign} of {total} items are not in English, which alone the models know: their KFR and KRR rest on "
            "numbers, names and words said again, not on wordings that mean the same",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main(parser().parse_args())
