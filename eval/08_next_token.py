"""What the model would say first: the five likeliest first tokens of its answer, with their probabilities.

ReLearn (ACL 2025) looks at them to see how a method forgets: GA and NPO press the true tokens down until senseless ones are left,
learning puts other sensible ones in their place. The report shows the file as metrics/<model>/next_token.json.
"""

from lib.files import pair_up, write_results
from lib.flags import Parser, count
from lib.formats import read_pairs
from lib.models import encode, exact_dtype, load_model, model_folder


def first_tokens(pairs, model, tokenizer, top=5):
    """The likeliest tokens after each question's prompt, in one right-padded forward pass.

    Args:
        pairs: list of {"question", "answer"}; the answer only tells where its first token stands.
    Returns:
        a list a pair of [(token text, probability)], the likeliest first.
    """
    import torch

    encoded = [encode(tokenizer, pair["question"], pair["answer"]) for pair in pairs]
    prompts = [torch.tensor(ids[:prompt]) for ids, prompt in encoded]
    ids = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True).to(
        model.device
    )  # nothing looks at the padding: it comes after
    first = min(map(len, prompts)) - 1  # no logits before the first place asked for
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=ids.shape[1] - first).logits.float()
    rows = torch.stack([logits[row, len(prompt) - 1 - first] for row, prompt in enumerate(prompts)]).softmax(
        -1
    )  # (pairs, vocabulary)
    return [
        [(tokenizer.decode([token]), p) for p, token in zip(*part)]
        for part in zip(*(values.tolist() for values in rows.topk(top)))
    ]


if __name__ == "__main__":
    parser = Parser(__doc__)
    parser.add_argument(
        "--model", required=True, nargs="+", metavar="FOLDER", help="model folders, adapter folders or hub ids"
    )
    parser.add_argument("--questions", required=True, metavar="FILE", help='{"question", "answer"} a line')
    parser.add_argument("--count", type=count, default=3, help="how many, from the file's beginning (default: 3)")
    parser.add_argument(
        "--out", required=True, nargs="+", metavar="FILE", help="a JSON file for each model: summary, items, origin"
    )
    args = parser.parse_args()
    pairs = read_pairs(args.questions)[: args.count]
    for folder, out in pair_up([model_folder(model) for model in args.model], args.out):
        items = [
            {
                "question": pair["question"],
                "reference": pair["answer"],
                "top": [{"token": token, "p": p} for token, p in tokens],
            }
            for pair, tokens in zip(pairs, first_tokens(pairs, *load_model(folder, exact_dtype())), strict=True)
        ]
        write_results(out, {"items": len(items)}, items, args, [args.questions])
        print(out, *(f"{item['top'][0]['token']!r} {item['top'][0]['p']:.3f}" for item in items), sep="  ")
