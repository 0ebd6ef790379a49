"""LS, the linguistic score (ReLearn, ACL 2025, Eq. 3-5): does the model still speak well?

PPL of the answers under the base model, Brunet's index BI and Honoré's statistic HS, as corpus means, then
LS = harmonic mean of σ(-ln PPL), σ(-ln BI), σ(ln HS). BI and HS count words that blanks part, so that they, and LS with
them, say nothing of Chinese, Japanese or Thai. A corpus mean hides a tenth of broken answers, so that these are counted
beside it: `loops`, the share of answers that say one piece of text at least three times on end.
"""

import math
from argparse import Namespace
from collections import Counter

from lib.files import MODELS, mean, pair_up, write_results
from lib.flags import Parser, count
from lib.formats import read_answers
from lib.likelihood import answer_logprobs
from lib.models import load_model, model_folder

import numpy as np
from nltk.tokenize import NLTKWordTokenizer
from nltk.tokenize.punkt import PunktSentenceTokenizer

LOOP_LENGTH = 16  # characters, all times together: "0000" and "no, no, no" are no loops


def loops(text: str) -> bool:
    """Whether one piece of the text stands in it at least three times on end, blanks aside (as Holtzman et al. 2020
    count repetition, there at the end of a text alone).
    """
    letters = np.array(list("".join(text.split())))
    return any(  # as long a run of letters that are those `size` before them
        b"\1" * max(2 * size, LOOP_LENGTH - size) in (letters[size:] == letters[:-size]).tobytes()
        for size in range(1, len(letters) // 3 + 1)
    )


def words(text: str) -> list[str]:
    """Lower-cased words: Punkt sentences (untrained: no abbreviation list) by the tokenizer of nltk.word_tokenize."""
    tokenizer = NLTKWordTokenizer()
    return [
        word for sentence in PunktSentenceTokenizer().tokenize(text.lower()) for word in tokenizer.tokenize(sentence)
    ]


def brunet(tokens: list[str]) -> float:
    """Brunet's index N^(V^-0.165); lower is richer. 0 for no words."""
    return len(tokens) ** (len(set(tokens)) ** -0.165) if tokens else 0.0


def honore(tokens: list[str]) -> float:
    """Honoré's statistic 100 ln N / (1 - V1/V + 0.1), at most 1e6; higher is richer. 0 for at most one word."""
    if len(tokens) <= 1:
        return 0.0
    counts = Counter(tokens)
    once = sum(count == 1 for count in counts.values())
    return min(1e6, 100 * math.log(len(tokens)) / (1 - once / len(counts) + 0.1))


def linguistic_score(ppl: float, bi: float, hs: float) -> float:
    """Harmonic mean of σ(-ln PPL), σ(-ln BI) and σ(ln HS): 1/σ(-ln x) is 1 + x and 1/σ(ln x) is 1 + 1/x."""
    return 3 / ((1 + ppl) + (1 + bi) + (1 + 1 / hs)) if hs > 0 else 0.0


def perplexities(rows: list[dict], model, tokenizer, batch: int) -> dict[tuple[str, str], float]:
    """exp of the mean negative log-likelihood a token of each answer given its question, end-of-sequence token
    included.

    Returns:
        {(question, answer): float}. What several models answer alike is scored once.
    """
    pairs = list(dict.fromkeys((row["question"], row["answer"]) for row in rows))
    scored = answer_logprobs(pairs, model, tokenizer, batch)
    return {  # e^709 is the largest float
        pair: math.exp(min(-logprobs.mean().item(), 700)) for pair, (logprobs, _) in zip(pairs, scored, strict=True)
    }


def parser() -> Parser:
    made = Parser(__doc__)
    made.add_argument(
        "--answers", required=True, nargs="+", metavar="FILE", help='JSON Lines of {"question", "reference", "answer"}'
    )
    made.add_argument(
        "--out", required=True, nargs="+", metavar="FILE", help="JSON to write for each: summary, items, origin"
    )
    made.add_argument(
        "--model",
        default=str(MODELS / "base"),
        help="base model (before any fine-tuning) that judges the perplexity (default: %(default)s)",
    )
    made.add_argument("--no-ppl", action="store_true", help="score the text alone: BI and HS, no model, no LS")
    made.add_argument("--batch", type=count, default=16, help="answers in one forward pass (default: 16)")
    return made


def score(rows: list[dict], ppl: list[float | None]) -> list[dict]:
    """The rows with what each answer's words say. ppl: the answers' perplexities, or None for each."""
    items = []
    for row, value in zip(rows, ppl, strict=True):
        tokens = words(row["answer"])
        bi, hs = brunet(tokens), honore(tokens)
        own = None if value is None else linguistic_score(value, bi, hs)  # of this answer alone
        items.append(
            {**row, "words": len(tokens), "PPL": value, "BI": bi, "HS": hs, "LS": own, "loops": loops(row["answer"])}
        )
    return items


def summarise(items: list[dict]) -> dict:
    """Corpus means, and LS of them; without perplexities LS is None."""
    known = items[0]["PPL"] is not None
    means = {name: mean(item[name] for item in items) for name in (*(["PPL"] * known), "BI", "HS", "words", "loops")}
    score = linguistic_score(means["PPL"], means["BI"], means["HS"]) if known else None
    return {"LS": score, **means, "items": len(items)}


def main(args: Namespace):
    files = [(path, read_answers(path), out) for path, out in pair_up(args.answers, args.out)]
    known = {}
    if not args.no_ppl:
        judge = load_model(model_folder(args.model, "python scripts/00_models.py --out " + args.model))
        known = perplexities([row for _, rows, _ in files for row in rows], *judge, args.batch)

    for path, rows, out in files:
        ppl = [known.get((row["question"], row["answer"])) for row in rows]
        items = score(rows, ppl)
        summary = summarise(items)
        write_results(out, summary, items, args, [path])
        print(path, *(f"{name} {value:.4g}" for name, value in summary.items() if value is not None), sep="  ")


if __name__ == "__main__":
    main(parser().parse_args())
