"""How well a model has answers by heart: MEMO (Gu et al. 2024, arXiv:2409.11844), MA and EL (Jang et al. 2023,
arXiv:2210.01504), exact memorisation EM and extraction strength ES (see `exact`, `strength`).

MEMO: the answer's first k = 1, 1 + w, 1 + 2w, ... characters (w = 5) are given after the question; the mean over k of
the ROUGE-1 precision of the greedy continuation against the rest. Takes {"question", "answer"} or {"question",
"answers": [...]} (inverted facts, from which 17_meow.py chooses by this file's scores). All prefixes of all answers are
continued together in batches.
"""

from argparse import Namespace

from lib.files import finished, inputs_of, mean, pair_up, write_results
from lib.flags import Parser, count, count_or_none
from lib.formats import read_items
from lib.generation import continuations
from lib.likelihood import answer_logprobs
from lib.models import encode, encode_text, load_model, model_folder, prompt_text
from lib.rouge import rouge_scorer


def memo_prompts(question: str, answer: str, tokenizer, mode: str, window: int) -> list[tuple[list[int], str, list]]:
    """The prompts of one pair's MEMO: list of (token ids, what should follow, token ids of the whole text).

    suffix: question and the answer's first k characters, followed by the answer's rest. prefix: the question's first k
    characters alone, followed by the question's rest. Both stand where the model's own prompt format puts question and
    answer.
    """
    if mode == "prefix":
        opening, text = prompt_text(tokenizer, "\N{SECTION SIGN}").split("\N{SECTION SIGN}")[0], question.strip()
        tokens = lambda end: tokenizer(opening + text[:end], add_special_tokens=False)["input_ids"]
    else:
        prompt, text = prompt_text(tokenizer, question), answer
        tokens = lambda end: encode_text(tokenizer, prompt, text[:end])[0]
    whole = tokens(len(text))
    return [(tokens(k), text[k:], whole) for k in range(1, len(text), window)]


def memo(pairs, model, tokenizer, mode="suffix", window=5, max_new_tokens=200, batch=64) -> list[float]:
    """MEMO of each (question, answer), 0 to 1; 0 for a text of one character, which has no rest.

    ROUGE-1 precision: the share of the continuation's words (lower-cased, stemmed) that the rest holds, each as often
    at most.
    """
    rouge = rouge_scorer("rouge1")
    parts = [memo_prompts(*pair, tokenizer, mode, window) for pair in pairs]
    prompts, along = ([row[at] for part in parts for row in part] for at in (0, 2))
    tokens = continuations(prompts, model, tokenizer, batch, max_new_tokens, "continuations", along)
    texts = iter(tokenizer.batch_decode(tokens, skip_special_tokens=True))
    scores = [[rouge.score(rest, next(texts))["rouge1"].precision for _, rest, _ in part] for part in parts]
    return [mean(part) if part else 0.0 for part in scores]


def overlap(found: list, true: list, n: int) -> float:
    """Share of the n-grams of `found` that `true` holds (Jang et al. 2023, Eq. 4); 0 where there are none."""
    grams = [[tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1)] for tokens in (found, true)]
    return mean(gram in grams[1] for gram in grams[0]) if grams[0] else 0.0


def extraction(pairs, hits, model, tokenizer, n=3, batch=64) -> list[float | None]:
    """EL_n of each (question, answer): the mean over t of `overlap` of the greedy continuation after the answer's first
    t tokens with the rest, as long as the rest holds an n-gram; None where the whole answer holds none (Jang et al.
    2023, Eq. 3).

    A continuation is at most as long as the rest. Where the likeliest token is the answer's own (`hits`, from
    `answer_logprobs`), the continuation at t is that token and the continuation at t + 1: one forward pass tells it,
    and only the places after which the model goes astray are generated.
    """
    encoded, jobs = [encode(tokenizer, *pair) for pair in pairs], {}
    for row, (ids, prompt) in enumerate(encoded):
        answer = ids[prompt:-1]
        for t in range(len(answer)):
            if not hits[row][t]:
                jobs[row, t] = ids[: prompt + t], len(answer) - t, ids
    prompts, limits, along = ([job[at] for job in jobs.values()] for at in range(3))
    new = continuations(prompts, model, tokenizer, batch, limits, "continuations", along)
    found = dict(zip(jobs, new, strict=True))
    scores = []
    for row, (ids, prompt) in enumerate(encoded):
        answer, continued = ids[prompt:-1], {len(ids) - 1 - prompt: []}
        for t in reversed(range(len(answer))):
            continued[t] = [answer[t], *continued[t + 1]] if hits[row][t] else found[row, t]
        scores.append(
            mean(overlap(continued[t], answer[t:], n) for t in range(len(answer) - n + 1)) if len(answer) >= n else None
        )
    return scores


def exact(hits: list) -> float | None:
    """Exact memorisation (Tirumala et al. 2022, arXiv:2205.10770): share of the answer's tokens that greedy decoding
    gets right given the true ones before, without the end of sequence, which MA counts; None for an answer of no
    tokens.

    Args:
        hits: of each token, the end of sequence last, whether it is the likeliest.
    """
    return mean(hits[:-1]) if len(hits) > 1 else None


def strength(hits: list) -> float:
    """Extraction strength (Carlini et al. 2021, arXiv:2012.07805) 1 - k*/T: k* the first of the T answer tokens from
    which on every greedy guess, given the true ones before, is right; T where the last is wrong (open-unlearning's
    code gives 1/T there).

    Args:
        hits: as for `exact`; the end of sequence counts.
    """
    wrong = next((at for at, hit in enumerate(reversed(hits)) if not hit), len(hits))
    return wrong / len(hits)


def parser() -> Parser:
    made = Parser(__doc__)
    made.add_argument(
        "--model",
        required=True,
        nargs="+",
        metavar="MODEL",
        help="model folder, adapter folder or hub id, one or several",
    )
    made.add_argument(
        "--pairs", required=True, metavar="FILE", help='{"question", "answer"} or {"question", "answers": [...]} a line'
    )
    made.add_argument(
        "--out", required=True, nargs="+", metavar="FILE", help="JSON to write for each model: summary, items, origin"
    )
    made.add_argument(
        "--mode",
        choices=("suffix", "prefix"),
        default="suffix",
        help="MEMO slides over the answer or the question (default: suffix)",
    )
    made.add_argument("--window", type=count, default=5, help="characters between two prefixes (default: 5)")
    made.add_argument("--max-new-tokens", type=count, default=200, help="longest continuation (default: 200)")
    made.add_argument(
        "--el",
        type=count_or_none,
        default=3,
        metavar="N",
        help="n of EL_n, 0 for none (default: 3, as answers are short here; Jang et al.: 10, on texts of 200 tokens)",
    )
    made.add_argument("--batch", type=count, default=64, help="prompts continued together (default: 64)")
    made.add_argument("--dtype", default="auto", help="as in 30_generate.py (default: auto)")
    return made


def score(pairs: list, model, tokenizer, args: Namespace) -> list[dict]:
    """MEMO, MA (share of right tokens, end of sequence included), EM, ES and EL of every pair."""
    memos = memo(pairs, model, tokenizer, args.mode, args.window, args.max_new_tokens, args.batch)
    hits = [likeliest.tolist() for _, likeliest in answer_logprobs(pairs, model, tokenizer, args.batch)]
    items = [
        {"question": question, "answer": answer, "MEMO": value, "MA": mean(row), "EM": exact(row), "ES": strength(row)}
        for (question, answer), value, row in zip(pairs, memos, hits, strict=True)
    ]
    if args.el:
        for item, value in zip(items, extraction(pairs, hits, model, tokenizer, args.el, args.batch), strict=True):
            item[f"EL_{args.el}"] = value
    return items


def main(args: Namespace):
    pairs = read_items(args.pairs)
    names = ["MEMO", "MA", "EM", "ES"] + ([f"EL_{args.el}"] if args.el else [])
    inputs_for = inputs_of(args, [args.pairs], __file__)
    for folder, out in pair_up([model_folder(model) for model in args.model], args.out):
        inputs = inputs_for(folder)
        summary = finished(out, inputs)
        if summary is None:
            items = score(pairs, *load_model(folder, args.dtype), args)
            values = {name: [item[name] for item in items if item[name] is not None] for name in names}
            summary = {**{name: mean(part) if part else None for name, part in values.items()}, "items": len(items)}
            settings = Namespace(**{**vars(args), "model": folder, "out": out})
            write_results(out, summary, items, settings, [args.pairs], inputs)
        print(folder, *(f"{name} {value:.4g}" for name, value in summary.items() if value is not None), sep="  ")


if __name__ == "__main__":
    main(parser().parse_args())
