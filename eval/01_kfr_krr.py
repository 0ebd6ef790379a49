"""KFR and KRR (ReLearn, ACL 2025): what was forgotten, what was kept; with ROUGE-L recall beside them. Definitions: lib/judge.py.

Entities are found by rules, or by a language model as in the paper (--entities llm; the prompt, data/prompts/entities.txt, is our own).
"""

import sys

from lib import llm
from lib.entities import entities, entities_by_model
from lib.files import MODELS, REPOSITORY, pair_up, progress, write_results
from lib.flags import Parser
from lib.formats import read_answers
from lib.judge import Judge, judge, summarise
from lib.models import model_folder

if __name__ == "__main__":
    parser = Parser(__doc__)
    parser.add_argument(
        "--forget",
        nargs="+",
        default=[],
        metavar="FILE",
        help='answers to forget questions: JSON Lines of {"question", "reference", "answer"}',
    )
    parser.add_argument("--retain", nargs="+", default=[], metavar="FILE", help="answers to retain questions, likewise")
    parser.add_argument(
        "--out", required=True, nargs="+", metavar="FILE", help="JSON to write for each: summary, items, origin"
    )
    parser.add_argument(
        "--as-released",
        action="store_true",
        help="let KFR and KRR be the released code's: matched pairs are counted, and with at most 3 reference "
        "entities the forget threshold is 0.5",
    )
    parser.add_argument(
        "--entities", choices=("rules", "llm"), default="rules", help="who finds the entities (default: rules, offline)"
    )
    llm.add_judge_flags(parser)
    parser.add_argument(
        "--embedding", default=str(MODELS / "minilm"), help="sentence-embedding model (default: %(default)s)"
    )
    parser.add_argument(
        "--nli",
        default=str(REPOSITORY / "data/nli"),
        help="entailment model: ours, or any three-class folder or hub id (default: %(default)s)",
    )
    args = parser.parse_args()
    if not (args.forget or args.retain):
        parser.error("give --forget, --retain or both")
    if args.entities == "llm":
        llm.check_judge_flags(args, "--entities llm")
    runs = [
        ({side: (path, read_answers(path)) for side, path in (("forget", forget), ("retain", retain)) if path}, out)
        for (forget, out), (retain, _) in zip(
            pair_up(args.forget, args.out), pair_up(args.retain, args.out), strict=True
        )
    ]
    model = Judge(
        model_folder(args.embedding, f"python scripts/00_models.py --model minilm --out {args.embedding}"),
        model_folder(args.nli, "python eval/00_train_nli.py --help"),
    )
    find = entities
    if args.entities == "llm":
        texts = [
            row[field]
            for sides, _ in runs
            for _, rows in sides.values()
            for row in rows
            for field in ("reference", "answer")
        ]
        find = entities_by_model(texts, args).__getitem__

    for sides, out in progress(runs, desc="KFR and KRR", unit="model"):
        items = [item for side, (_, rows) in sides.items() for item in judge(rows, side, model, find)]
        summary = summarise(items, args.as_released)
        if foreign := summary.get("not_english"):
            print(
                f"{out}: {foreign} of {len(items)} items are not in English, which alone the models know: their KFR and KRR rest on "
                "numbers, names and words said again, not on wordings that mean the same",
                file=sys.stderr,
            )
        write_results(out, summary, items, args, [path for path, _ in sides.values()])
        print(out, *(f"{name} {value:.3f}" for name, value in summary.items() if isinstance(value, float)), sep="  ")
