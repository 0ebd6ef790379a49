"""Labels pairs of texts with the entailment model: does the premise entail, contradict or leave open the hypothesis?

Reads {"premise", "hypothesis"} a line; writes one line a pair: the pair, `label` and `scores`. With a `label` in the
pairs too (entailment, contradiction, neutral), their shares are printed by it, and what was given is kept as
`expected`.
"""

from argparse import Namespace
from collections import Counter, defaultdict

from lib import judge_flags
from lib.entailment import Entailment
from lib.files import fail, write_jsonl
from lib.flags import Parser
from lib.formats import read_lines


def parser() -> Parser:
    made = Parser(__doc__)
    made.add_argument("--pairs", required=True, help='JSON Lines of {"premise", "hypothesis"}')
    made.add_argument("--out", required=True, help="JSON Lines to write")
    judge_flags.add_model_flags(made)
    return made


def main(args: Namespace):
    rows = read_lines(args.pairs, ("premise", "hypothesis"))
    if wrong := next((at for at, row in enumerate(rows, 1) if not isinstance(row.get("label", ""), str)), None):
        fail(f'{args.pairs}: pair {wrong}: field "label" must be a text where it is given')
    embedding, nli = judge_flags.check_models(args)
    found = Entailment(nli, embedding)([(row["premise"], row["hypothesis"]) for row in rows])

    shares, lines = defaultdict(Counter), []
    for row, scores in zip(rows, found, strict=True):
        label = max(scores, key=scores.get)
        given = {"expected": row["label"]} if "label" in row else {}
        shares[row.get("label", "all")][label] += 1
        rounded = {name: round(score, 4) for name, score in scores.items()}
        lines.append({**row, **given, "label": label, "scores": rounded})
    write_jsonl(args.out, lines)
    for given, counts in shares.items():
        told = (f"{label} {count / counts.total():.3f}" for label, count in counts.most_common())
        print(f"{given}: {counts.total()} pairs,", ", ".join(told))


if __name__ == "__main__":
    main(parser().parse_args())
