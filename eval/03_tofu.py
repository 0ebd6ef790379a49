"""TOFU's metrics (Maini et al. 2024, arXiv:2401.06121, section 2.2): is the model told apart from one that never knew?

Probability P(a|q)^(1/|a|); truth ratio R = mean over perturbed answers of P^(1/|.|) / P(paraphrase)^(1/|.|), near or
above 1 where the truth is no likelier than falsehoods, and beside its mean that of min(R, 1/R) (_truth_ratio_min);
forget quality, the p-value of the two-sample Kolmogorov-Smirnov test between the truth ratios of this model and of the
retrained one on the forget set (above 0.05: cannot be told apart); model utility, the harmonic mean of ROUGE-L recall,
probability and max(0, 1 - R) over retain set, real authors and world facts: nine values. Beside them the truth's
share p / (p + p̄) = 1 / (1 + R), p of the paraphrased and p̄ of the perturbed answers (open-unlearning,
arXiv:2506.12618), and multiple choice among the true and the false answers: accuracy, and the entropy of the choice.

Rows are TOFU's: question, answer, perturbed_answer (a list) and, but for the two fact sets, paraphrased_answer. Where
these are missing, --perturbed and --paraphrased supply them.
"""

import math
import statistics
import sys
from argparse import Namespace
from pathlib import Path

from lib.exposure import log_mean_exp
from lib.files import fail, few, finished, inputs_of, mean, pair_up, read_json, sha256, write_results
from lib.flags import Parser, count
from lib.formats import questions_of, read_inverted, read_pairs, text_of, texts_of
from lib.generation import answers
from lib.likelihood import answer_logprobs
from lib.models import load_model, model_folder
from lib.rouge import rouge_scorer
from lib.wordings import other_wordings

SETS = ("forget", "retain", "real_authors", "world_facts")
FACTS = SETS[2:]  # short answers are options: probability is normalised over them, and each is its own paraphrase


def truth_ratio(paraphrase: float, perturbed: list[float], paper: bool = False) -> float:
    """R from mean log-probabilities a token, in nats (one of the paraphrased answer, a list of the perturbed ones').

    The paper's formula averages the perturbed answers' probabilities. TOFU's code does so for model utility
    (utils.get_model_utility), and averages their losses, a geometric mean of probabilities, for forget quality
    (utils.get_forget_quality); its older aggregate_eval_stat.py and open-unlearning take the geometric mean for both.

    Args:
        paper: the arithmetic mean, not the geometric one.
    """
    false = log_mean_exp(perturbed) if paper else mean(perturbed)
    return math.exp(min(false - paraphrase, 700))  # e^709 is the largest float


def nearer(ratio: float) -> float:
    """min(R, 1/R), 1 where truth and falsehoods are equally likely; its mean: open-unlearning's forget_truth_ratio."""
    return min(ratio, 1 / ratio) if ratio > 0 else 0.0


def choice(logprobs: list[float]) -> tuple[bool, float]:
    """Multiple choice among answers, p_i ∝ P(a_i|q), from their whole log-probabilities in nats, the true one's first.

    A model that tells another value is wrong and sure of it; one that never knew the fact is undecided, so read both
    beside the retrained model's.

    Returns:
        (is the true one likelier than every other; the choice's entropy over its largest, log of their number).
    """
    top = max(logprobs)
    weights = [math.exp(value - top) for value in logprobs]
    shares = [weight / math.fsum(weights) for weight in weights]
    entropy = abs(math.fsum(share * math.log(share) for share in shares if share))
    return logprobs[0] > max(logprobs[1:]), entropy / math.log(len(logprobs))


def forget_quality(ratios: list[float], reference: list[float]) -> float:
    """p-value of the two-sample Kolmogorov-Smirnov test, as in the released code; 1 for equal samples."""
    from scipy.stats import ks_2samp

    return float(ks_2samp(ratios, reference).pvalue)


def add_perturbed(pairs, path):
    """Gives rows the false answers of a file by 04_invert.py, found by question; rows without any are dropped."""
    found = {}
    for _, question, false in read_inverted(path):
        found.setdefault(question, []).extend(false)
    kept = [{**pair, "perturbed_answer": found[pair["question"]]} for pair in pairs if pair["question"] in found]
    if kept and len(kept) < len(pairs):
        print(f"{path}: leaves {len(pairs) - len(kept)} of {len(pairs)} questions out", file=sys.stderr)
    return kept or fail(
        f"{path}: holds answers to none of the questions ({pairs[0]['place']} asks {pairs[0]['question'][:60]!r})"
    )


def add_paraphrased(pairs, path, own):
    """Gives rows a paraphrased answer: the same fact's in the other wording of a file; if that is their own, theirs."""
    others, fault = (pairs, None) if Path(path).resolve() == Path(own).resolve() else other_wordings(pairs, path)
    if fault:
        fail(fault)
    return [{**row, "paraphrased_answer": other["answer"]} for row, other in zip(pairs, others, strict=True)]


def read_set(name: str, path: str, perturbed: str | None, paraphrased: str | None) -> list[dict]:
    """The rows of one set, each with a paraphrased answer and a list of perturbed ones.

    Args:
        name: of SETS. path: its file. perturbed, paraphrased: files that supply what it lacks, or None.
    """
    pairs = questions_of(read_pairs(path, places=True))
    if paraphrased:  # before rows are dropped, which would shift them
        pairs = add_paraphrased(pairs, paraphrased, path)
    if perturbed:
        pairs = add_perturbed(pairs, perturbed)
    for row in pairs:
        texts_of(row["place"], row, "perturbed_answer")
        row["paraphrased_answer"] = row["answer"] if name in FACTS else text_of(row["place"], row, "paraphrased_answer")
    return pairs


def read_ratios(path, rows, paper, files):
    """The retrained model's truth ratios: a results file of this script, of the same forget rows and formula, or a JSON
    list of numbers.

    Args:
        rows: of the forget set. files: that they were read from, all of which the results file must have read too.
    """
    questions, same_formula, same_files, found = None, True, True, read_json(path)
    try:
        if not isinstance(found, list):
            items = [item for item in found["items"] if item["set"] == "forget"]
            questions, same_formula = [item["question"] for item in items], bool(found["settings"]["paper"]) == paper
            same_files = {sha256(file) for file in files} <= {*found["data"].values()}
            found = [item["truth_ratio"] for item in items]
        good = found and all(isinstance(ratio, (int, float)) and math.isfinite(ratio) for ratio in found)
    except (ValueError, KeyError, TypeError, AttributeError):
        good = False
    if not good:
        fail(f"{path}: neither a results file of 03_tofu.py with a forget set nor a JSON list of truth ratios")
    if not same_formula:
        fail(f"{path}: was made {'without' if paper else 'with'} --paper; make it again with the formula used here")
    if questions is not None and questions != [row["question"] for row in rows]:
        fail(f"{path}: its {len(questions)} questions are not the {len(rows)} of --forget")
    if not same_files:
        fail(f"{path}: was made with other answers than {few(files, 3)}; make it again with these")
    return found


def score(
    sets: dict, model, tokenizer, batch: int, max_new_tokens: int, paper: bool, geometric: bool = False
) -> list[dict]:
    """Scores every row of every set, {name: rows}, in two batched runs: all answers' probabilities, then greedy
    answers.

    Truth ratios take geometric means on the forget set and arithmetic ones on the others, as TOFU's code does; with
    `paper` arithmetic ones on all, with `geometric` geometric ones.

    Returns:
        a dict a row; "logprob" in nats a token.
    """
    rows = [(name, row) for name, part in sets.items() for row in part]
    texts = [[row["answer"], row["paraphrased_answer"], *row["perturbed_answer"]] for _, row in rows]
    pairs = list({(row["question"], text): None for (_, row), part in zip(rows, texts, strict=True) for text in part})
    scored = answer_logprobs(pairs, model, tokenizer, batch)
    logprob = {pair: logprobs.mean().item() for pair, (logprobs, _) in zip(pairs, scored, strict=True)}
    whole = {pair: logprobs.sum().item() for pair, (logprobs, _) in zip(pairs, scored, strict=True)}
    given = answers([row["question"] for _, row in rows], model, tokenizer, batch, max_new_tokens)
    rouge, items = rouge_scorer("rougeL"), []
    for (name, row), part, answer in zip(rows, texts, given, strict=True):
        true, paraphrase, *false = [logprob[row["question"], text] for text in part]
        among = log_mean_exp([true, *false]) + math.log(1 + len(false)) if name in FACTS else 0.0
        ratio = truth_ratio(paraphrase, false, paper or name != "forget" and not geometric)
        right, entropy = choice([whole[row["question"], text] for text in (row["answer"], *row["perturbed_answer"])])
        items.append(
            {
                "set": name,
                "question": row["question"],
                "reference": row["answer"],
                "answer": answer,
                "rouge_l_recall": rouge.score(row["answer"], answer)["rougeL"].recall,
                "probability": math.exp(true - among),
                "truth_ratio": ratio,
                "true": max(0.0, 1 - ratio),
                "truth_share": 1 / (1 + ratio),
                "chosen": right,
                "choice_entropy": entropy,
                "logprob": {"answer": true, "paraphrased": paraphrase, "perturbed": false},
            }
        )
    return items


def summarise(items: list[dict], reference: list[float] | None = None, asked: dict | None = None) -> dict:
    """Means of each set; forget quality where there are reference ratios; model utility where all sets are there.

    Args:
        asked: {set: number of its questions}; "left_out" counts those that no false answers were there for.
    """
    summary, values = {}, []
    for name in SETS:
        part = [item for item in items if item["set"] == name]
        if part:
            means = [mean(item[field] for item in part) for field in ("rouge_l_recall", "probability", "true")]
            summary |= {
                f"{name}_rouge_l": means[0],
                f"{name}_probability": means[1],
                f"{name}_truth_ratio": mean(item["truth_ratio"] for item in part),
                f"{name}_truth_ratio_min": mean(nearer(item["truth_ratio"]) for item in part),
                f"{name}_1-R": means[2],
                f"{name}_truth_share": mean(item["truth_share"] for item in part),
                f"{name}_choice": mean(item["chosen"] for item in part),
                f"{name}_choice_entropy": mean(item["choice_entropy"] for item in part),
                f"{name}_items": len(part),
            }
            if left_out := (asked or {}).get(name, len(part)) - len(part):
                summary[f"{name}_left_out"] = left_out
            values += means if name != "forget" else []
    ratios = [item["truth_ratio"] for item in items if item["set"] == "forget"]
    return {
        "forget_quality": forget_quality(ratios, reference) if reference else None,
        "model_utility": statistics.harmonic_mean(values) if len(values) == 9 else None,
        "utility_of_sets_given": statistics.harmonic_mean(values) if values else None,
        **summary,
    }


def parser() -> Parser:
    made = Parser(__doc__, shared=("reference",))
    made.add_argument(
        "--model",
        required=True,
        nargs="+",
        metavar="MODEL",
        help="model folder, adapter folder or hub id, one or several",
    )
    made.add_argument(
        "--out", required=True, nargs="+", metavar="FILE", help="JSON to write for each model: summary, items, origin"
    )
    for name in SETS:
        made.add_argument(
            f"--{name.replace('_', '-')}", metavar="FILE", help=f"rows of the {name.replace('_', ' ')} set"
        )
    for side in ("forget", "retain"):
        option = "" if side == "forget" else "retain-"
        made.add_argument(
            f"--{option}perturbed",
            metavar="FILE",
            help=f'false {side} answers, {{"question", "answers"}} a line, as 04_invert.py writes them',
        )
        made.add_argument(
            f"--{option}paraphrased",
            metavar="FILE",
            help=f"pairs whose answers say the {side} set's in other words: same person and fact, or row by row",
        )
    made.add_argument(
        "--reference",
        metavar="FILE",
        help="the retrained model's results of this script (one of --out serves), or a list of truth ratios",
    )
    made.add_argument(
        "--paper",
        action="store_true",
        help="average the perturbed answers' probabilities on all sets, as the paper's formula does (default: as "
        "TOFU's code, their losses for forget quality, their probabilities for model utility)",
    )
    made.add_argument(
        "--geometric", action="store_true", help="average their losses on all sets, as open-unlearning does"
    )
    made.add_argument("--batch", type=count, default=32, help="answers in one forward pass (default: 32)")
    made.add_argument("--dtype", default="auto", help="as in 30_generate.py (default: auto)")
    made.add_argument(
        "--max-new-tokens", type=count, default=200, help="length of the answers for ROUGE-L (default: 200)"
    )
    return made


def check(args: Namespace, files: dict, extra: dict):
    """Ends the program where a flag lacks the one it needs. files: {set: file}. extra: {set: files that supply
    answers}.
    """
    if args.paper and args.geometric:
        fail("--paper and --geometric exclude each other")
    if not files:
        fail("give --forget, --retain, --real-authors, --world-facts or several of them")
    if args.reference and "forget" not in files:
        fail("--reference needs --forget: forget quality compares truth ratios on the forget set")
    for name, given in extra.items():
        if any(given) and name not in files:
            fail(f"perturbed or paraphrased answers of the {name} set need --{name}")


def main(args: Namespace):
    extra = {"forget": (args.perturbed, args.paraphrased), "retain": (args.retain_perturbed, args.retain_paraphrased)}
    files = {name: getattr(args, name) for name in SETS if getattr(args, name)}
    check(args, files, extra)
    sets = {name: read_set(name, path, *extra.get(name, (None, None))) for name, path in files.items()}
    own = args.reference in args.out  # the reference is one of the models scored here
    asked = {name: len(questions_of(read_pairs(path))) for name, path in files.items()}
    of_forget = [path for path in (files.get("forget"), *extra["forget"]) if path]
    ratios = lambda: read_ratios(args.reference, sets["forget"], args.paper, of_forget)
    reference = ratios() if args.reference and not own else None
    runs = pair_up([model_folder(model) for model in args.model], args.out)

    runs.sort(key=lambda run: run[1] != args.reference)  # the reference first: others wait for it
    given = [path for path in (*files.values(), *extra["forget"], *extra["retain"]) if path]
    compared = [runs[0][0]] if own else [args.reference] if args.reference else []
    inputs_for = inputs_of(args, [*given, *compared], __file__)
    for folder, out in runs:
        inputs = inputs_for(folder)
        summary = finished(out, inputs)
        if summary is None:
            items = score(
                sets, *load_model(folder, args.dtype), args.batch, args.max_new_tokens, args.paper, args.geometric
            )
            if out == args.reference:
                reference = [item["truth_ratio"] for item in items if item["set"] == "forget"]
            summary = summarise(items, reference, asked)
            settings = Namespace(**vars(args) | {"model": folder, "out": out})
            read = [*given, *([args.reference] if args.reference not in (None, out) else [])]
            write_results(out, summary, items, settings, read, inputs)
        elif out == args.reference:
            reference = ratios()
        print(folder, *(f"{name} {value:.4g}" for name, value in summary.items() if value is not None), sep="  ")


if __name__ == "__main__":
    main(parser().parse_args())
