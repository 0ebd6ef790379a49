"""What the model would say first: the five likeliest first tokens of its answer, with their probabilities.

ReLearn (ACL 2025) looks at them to see how a method forgets: GA and NPO press the true tokens down until senseless ones
are left, learning puts other sensible ones in their place. The report shows the file as
metrics/<model>/next_token.json.
"""

from argparse import Namespace

from lib.files import finished, inputs_of, pair_up, write_results
from lib.flags import Parser, count
from lib.formats import read_pairs
from lib.models import encode, load_model, model_folder

import torch


def first_tokens(pairs: list[dict], model, tokenizer, top: int = 5) -> list[list[tuple[str, float]]]:
    """The likeliest tokens after each question's prompt, in one right-padded forward pass.

    Args:
        pairs: list of {"question", "answer"}; the answer only tells where its first token stands.
    Returns:
        a list a pair of [(token text, probability)], the likeliest first.
    """
    encoded = [encode(tokenizer, pair["question"], pair["answer"]) for pair in pairs]
    prompts = [torch.tensor(ids[:prompt]) for ids, prompt in encoded]
    # nothing looks at the padding: it comes after
    ids = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True).to(model.device)
    first = min(map(len, prompts)) - 1  # no logits before the first place asked for
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=ids.shape[1] - first).logits.float()
    rows = torch.stack([logits[row, len(prompt) - 1 - first] for row, prompt in enumerate(prompts)]).softmax(-1)
    best = zip(*(values.tolist() for values in rows.topk(top)))  # of rows (pairs, vocabulary)
    return [[(tokenizer.decode([token]), p) for p, token in zip(*part)] for part in best]


def parser() -> Parser:
    made = Parser(__doc__)
    made.add_argument(
        "--model", required=True, nargs="+", metavar="FOLDER", help="model folders, adapter folders or hub ids"
    )
    made.add_argument("--questions", required=True, metavar="FILE", help='{"question", "answer"} a line')
    made.add_argument("--count", type=count, default=3, help="how many, from the file's beginning (default: 3)")
    made.add_argument(
        "--out", required=True, nargs="+", metavar="FILE", help="a JSON file for each model: summary, items, origin"
    )
    made.add_argument("--dtype", default="auto", help="as in 30_generate.py (default: auto)")
    return made


def main(args: Namespace):
    pairs = read_pairs(args.questions)[: args.count]
    inputs_for = inputs_of(args, [args.questions], __file__)
    for folder, out in pair_up([model_folder(model) for model in args.model], args.out):
        inputs, items = inputs_for(folder), []
        if finished(out, inputs):
            continue
        for pair, best in zip(pairs, first_tokens(pairs, *load_model(folder, args.dtype)), strict=True):
            top = [{"token": token, "p": p} for token, p in best]
            items.append({"question": pair["question"], "reference": pair["answer"], "top": top})
        write_results(out, {"items": len(items)}, items, args, [args.questions], inputs)
        print(out, *(f"{item['top'][0]['token']!r} {item['top'][0]['p']:.3f}" for item in items), sep="  ")


if __name__ == "__main__":
    main(parser().parse_args())
