"""Labels pairs of texts with the entailment model: does the premise entail, contradict or leave open the hypothesis?

Reads {"premise", "hypothesis"} a line; writes one line a pair: the pair, `label` and `scores`. With a `label` in the pairs too
(entailment, contradiction, neutral), their shares are printed by it, and what was given is kept as `expected`.
"""

from collections import Counter, defaultdict

from lib.entailment import Entailment
from lib.files import MODELS, REPOSITORY, fail, write_jsonl
from lib.flags import Parser
from lib.formats import read_lines
from lib.models import model_folder

if __name__ == "__main__":
    parser = Parser(__doc__)
    parser.add_argument("--pairs", required=True, help='JSON Lines of {"premise", "hypothesis"}')
    parser.add_argument("--out", required=True, help="JSON Lines to write")
    parser.add_argument(
        "--embedding", default=str(MODELS / "minilm"), help="sentence-embedding model (default: %(default)s)"
    )
    parser.add_argument(
        "--nli",
        default=str(REPOSITORY / "data/nli"),
        help="entailment model: ours, or any three-class folder or hub id (default: %(default)s)",
    )
    args = parser.parse_args()
    rows = read_lines(args.pairs, ("premise", "hypothesis"))
    if wrong := next((at for at, row in enumerate(rows, 1) if not isinstance(row.get("label", ""), str)), None):
        fail(f'{args.pairs}: pair {wrong}: field "label" must be a text where it is given')
    model_folder(args.nli, "python eval/00_train_nli.py --help")
    model_folder(args.embedding, f"python scripts/00_models.py --model minilm --out {args.embedding}")

    shares = defaultdict(Counter)
    lines = []
    for row, scores in zip(
        rows, Entailment(args.nli, args.embedding)([(row["premise"], row["hypothesis"]) for row in rows]), strict=True
    ):
        label = max(scores, key=scores.get)
        given = {"expected": row["label"]} if "label" in row else {}
        shares[row.get("label", "all")][label] += 1
        lines.append(
            {**row, **given, "label": label, "scores": {name: round(score, 4) for name, score in scores.items()}}
        )
    write_jsonl(args.out, lines)
    for given, counts in shares.items():
        print(
            f"{given}: {counts.total()} pairs,",
            ", ".join(f"{label} {count / counts.total():.3f}" for label, count in counts.most_common()),
        )
