"""The certificate: a finished method as one ordinary model folder, with a card that says what was forgotten, how, and
what was measured.

The adapter is merged, and the result written, in float32: rounded to bfloat16 it could answer otherwise. The folder
holds weights, tokenizer, README.md (the card, with the metadata that the hub reads) and unlearning.json (the same for
machines). Forgotten pairs, those of every unlearning that the records lead back to, appear as SHA-256 only. Settings
come from training.json by kind: numbers, switches and named choices are written, paths and other free texts are not; of
metrics only numbers. When all is written, every text file but the tokenizer's vocabulary is searched for the forget
pairs, their subjects and their values: where one is found, there is no folder.
"""

import re
from pathlib import Path

from lib.certificate import (
    HASH,
    HASH_OF_TEXTS,
    forgotten,
    history,
    line,
    measured,
    own_words,
    pair_hash,
    private_texts,
    search,
)
from lib.files import fail, new_folder, read_object, record, sha256, write_json, write_text, writing
from lib.flags import Parser, count
from lib.formats import read_pairs
from lib.generation import continuations
from lib.models import check_weights, is_adapter, load_model, loading, prompt_text, stored_dtype

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import AutoModelForCausalLM, AutoTokenizer

# ---------------------------------------------------------------- the model


def greedy(model, tokenizer, questions, max_new_tokens):
    """Greedy answers as token ids: a list a question."""
    prompts = [
        tokenizer(prompt_text(tokenizer, question), add_special_tokens=False)["input_ids"] for question in questions
    ]
    return continuations(prompts, model, tokenizer, 16, max_new_tokens)


def for_older_versions(folder, tokenizer):
    """Says in transformers 4's words too what transformers 5 writes in its own: 4 would pass over `rope_parameters`
    without a word and compute with a base frequency of 10,000, knows no tokenizer class of 5, and seeks the chat
    template in another file."""
    config = read_object(folder / "config.json")
    rope = config.get("rope_parameters") or {}
    local = rope.get("sliding_attention") or {}  # Gemma 3 has two kinds of layers
    rope = rope.get("full_attention", rope)
    rest = {name: value for name, value in rope.items() if name not in ("rope_theta", "partial_rotary_factor")}
    for name, value in (
        ("rope_theta", rope.get("rope_theta")),
        ("rope_local_base_freq", local.get("rope_theta")),
        ("partial_rotary_factor", rope.get("partial_rotary_factor")),
        ("rope_scaling", rest if rest.get("rope_type", "default") != "default" else None),
        ("torch_dtype", config.get("dtype")),
    ):
        if value is not None:
            config[name] = value
    if config.get("model_type") == "gpt_neox":
        config |= {"rotary_emb_base": config["rope_theta"], "rotary_pct": config.get("partial_rotary_factor", 1.0)}
    write_json(folder / "config.json", config)
    words = read_object(folder / "tokenizer_config.json")
    words |= {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": bool(getattr(tokenizer, "clean_up_tokenization_spaces", False)),
    }
    if isinstance(tokenizer.chat_template, str):
        words["chat_template"] = tokenizer.chat_template
    if isinstance(words.get("extra_special_tokens"), list):
        words["additional_special_tokens"] = words.pop("extra_special_tokens")
    write_json(folder / "tokenizer_config.json", words)


# ---------------------------------------------------------------- the card

CARD = """---
{metadata}
---

# Unlearned by {method}

This model was made to forget {count} question-answer pairs. It is a full model: `AutoModelForCausalLM.from_pretrained`
loads it. What it still knows of them is what the figures below say, no more: forgetting is measured, not proven.

## What was forgotten

{count} pairs, each as the SHA-256 of its question, a line feed and its answer (UTF-8). Whoever holds a pair can find it
here; the text is not in this folder. {texts} A hash does not hide a text that can be guessed.

{pairs}

Files (SHA-256): {files}. Training read {read}.

## How

Method: {method}, {updates} updates.
Settings: {settings}.
Not told, as they are paths or free texts: {withheld}.
Data of the training (SHA-256): {data}.

## What was measured

{measured}

## Does this folder answer as the method's own?

{check}

Weights: {parameters:,} parameters, {dtype}; the base model's are {base_dtype}. {rounding}
SHA-256: {weights}.

## Origin

Base model: {base} ({architecture}). Its licence applies. From the last step back to the first:

{steps}

Exported by commit {commit} with {versions}.
"""


def card(facts):
    """README.md: metadata and text, from the facts of unlearning.json alone."""
    forgotten, check, weights = facts["forgotten"], facts["check"], facts["weights"]
    first = facts["made_by"][0] if facts["made_by"] else {"settings": {}, "withheld": [], "data": {}, "updates": 0}
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type="private",
            dataset_name="forget and retain set",
            metric_type=name,
            metric_name=f"{file}: {name}",
            metric_value=value,
        )
        for file, values in facts["measured"].items()
        for name, value in values.items()
    ]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["machine-unlearning", facts["method"]],
        base_model=facts["base"] if facts["base"] and "/" in facts["base"] else None,
        **({"model_name": f"unlearned by {facts['method']}", "eval_results": results} if results else {}),
    )
    code = lambda values: ", ".join(f"`{name}` {value}" for name, value in values.items()) or "none recorded"
    versions = lambda found: (
        ", ".join(f"{name} {version}" for name, version in (found or {}).items()) or "versions not recorded"
    )
    tables = [
        "\n".join(
            [
                f"### {file}",
                "",
                "| number | value |",
                "|---|---|",
                *(f"| {name} | {value:.6g} |" for name, value in values.items()),
            ]
        )
        for file, values in facts["measured"].items()
    ]
    steps = [
        f"{number}. `{step['script']}`: {code(step['settings'])}; data {code(step['data'])}; commit "
        f"{step['git_commit']}; {versions(step['versions'])}"
        for number, step in enumerate(facts["made_by"], 1)
    ]
    rounding = (
        ""
        if weights["dtype"] == weights["base_dtype"]
        else "The merged update is not exact in these, and rounding it could change answers."
        if weights["dtype"] == "float32"
        else "Chosen by hand."
    )
    return CARD.format(
        metadata=data.to_yaml(),
        method=facts["method"],
        count=forgotten["count"],
        texts=HASH_OF_TEXTS,
        pairs="\n".join(f"* `{digest}`" for digest in forgotten["pairs"]),
        files=", ".join(f"`{digest}`" for digest in forgotten["files"]),
        read="these very files"
        if forgotten["read_in_training"]
        else "data made from these pairs, or another copy of them",
        updates=first["updates"] or "no",
        settings=code(first["settings"]),
        withheld=", ".join(first["withheld"]) or "none",
        data=code(first["data"]),
        measured="\n\n".join(tables) or "Nothing was given to this card.",
        check=f"Greedy answers to {check['questions']} questions, at most {check['max_new_tokens']} new tokens, from "
        f"this folder loaded by plain transformers, and from the method's folder: {check['identical']} of "
        f"{check['questions']} identical, token by token."
        if check
        else "Not checked.",
        parameters=weights["parameters"],
        dtype=weights["dtype"],
        base_dtype=weights["base_dtype"],
        rounding=rounding,
        weights=code(weights["files"]),
        base=facts["base"] or "a local model",
        architecture=facts["architecture"],
        steps="\n".join(steps) or "Nothing is recorded.",
        commit=facts["exported_by"]["git_commit"],
        versions=versions(facts["exported_by"]["versions"]),
    )


def bare_card(facts):
    """The card's own words: what it says whatever was forgotten."""
    nothing = {"count": 0, "pairs": [], "files": [], "read_in_training": facts["forgotten"]["read_in_training"]}
    bare = {
        "method": "",
        "forgotten": nothing,
        "made_by": [],
        "base": None,
        "architecture": "",
        "measured": {"": {"": 0}},
    }
    return card(facts | bare)


if __name__ == "__main__":
    parser = Parser(__doc__, folder="model")
    parser.add_argument(
        "--model", required=True, help="the finished method's folder: an adapter with its base, or full weights"
    )
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument(
        "--metrics", metavar="FOLDER", help="the method's metrics; every number of every *.json in it goes on the card"
    )
    parser.add_argument(
        "--forget",
        nargs="+",
        metavar="FILE",
        help="the forgotten pairs (default: by the record of the training, and of every unlearning before it)",
    )
    parser.add_argument(
        "--check", metavar="FILE", help="questions whose answers must be those of --model, token by token"
    )
    parser.add_argument("--count", type=count, default=50, help="so many of them (default: 50)")
    parser.add_argument("--max-new-tokens", type=count, default=64, help="length of these answers (default: 64)")
    parser.add_argument(
        "--dtype",
        default="auto",
        choices=("auto", "float32", "bfloat16", "float16"),
        help="of the weights: float32 where an adapter is merged, else as they are (auto, default); or one of these",
    )
    args = parser.parse_args()
    if not Path(args.model).is_dir():
        fail(f"{args.model}: no such model folder")
    there, earlier = forgotten(args.model)
    files = [Path(path) for path in args.forget or there]
    if not files or not args.forget and not files[0].is_file():
        fail(f"{args.model}: its record does not lead to the forgotten pairs; name them with --forget")
    for path in [] if args.forget else [path for path in files if not path.is_file()]:
        print(f"{path}: an earlier unlearning's pairs, no longer there: not listed (name all with --forget)")
        files.remove(path)
    pairs = [pair for path in files for pair in read_pairs(path)]
    hashes = sorted({*map(pair_hash, pairs), *earlier})
    questions = [pair["question"] for pair in read_pairs(args.check)[: args.count]] if args.check else []
    metrics = measured(args.metrics, args.model) if args.metrics else {}
    steps, base = history(args.model)

    merges = is_adapter(args.model)
    stored = stored_dtype(args.model)
    model, tokenizer = load_model(args.model, "float32" if merges else stored)
    device, theirs = model.device, greedy(model, tokenizer, questions, args.max_new_tokens)
    if merges:
        model = model.merge_and_unload()
    dtype = model.dtype if args.dtype == "auto" else getattr(torch, args.dtype)
    for name in [name for name in vars(model.config) if name.endswith("name_or_path")]:
        setattr(model.config, name, "")  # a path
    with new_folder(args.out) as partial:
        with writing(partial):
            check_weights(model.to(dtype), args.out, f"the model is damaged, or its weights are too large for {dtype}")
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
        for_older_versions(partial, tokenizer)
        parameters, architecture = model.num_parameters(), model.config.model_type
        del model
        check = None
        if questions:  # as anyone would load it
            with loading(partial):  # which may have gone since, with its disk
                loaded = AutoModelForCausalLM.from_pretrained(partial, trust_remote_code=False).to(device)
                own = AutoTokenizer.from_pretrained(partial, trust_remote_code=False)
            ours = greedy(loaded, own, questions, args.max_new_tokens)
            check = {
                "questions": len(questions),
                "max_new_tokens": args.max_new_tokens,
                "identical": sum(map(list.__eq__, ours, theirs)),
                "tokens": sum(map(len, ours)),
            }
            if check["identical"] < len(questions) and args.dtype == "auto":
                fail(
                    f"{args.model}: merged, {len(questions) - check['identical']} of {len(questions)} answers are "
                    "others; nothing was written (with --dtype float32 it is, and the card says so)"
                )
        here, digests = record(args), [sha256(path) for path in files]
        read = {digest for own in line(args.model)[0] for digest in own.get("data", {}).values()}
        facts = {
            "method": re.sub(r"^\d\d_|\.py$", "", steps[0]["script"]) if steps else "an unrecorded method",
            "forgotten": {
                "count": len(hashes),
                "pairs": hashes,
                "hash": HASH,
                "files": digests,
                "read_in_training": set(digests) <= read,
            },
            "made_by": steps,
            "base": base,
            "architecture": architecture,
            "measured": metrics,
            "check": check,
            "weights": {
                "parameters": parameters,
                "dtype": str(dtype).removeprefix("torch."),
                "base_dtype": stored,
                "files": {path.name: sha256(path) for path in sorted(partial.glob("*.safetensors"))},
            },
            "exported_by": {"versions": here["versions"], "git_commit": here["git_commit"]},
        }
        write_json(partial / "unlearning.json", facts)
        write_text(partial / "README.md", card(facts))
        ModelCard.load(partial / "README.md")
        search(partial, private_texts(pairs), *own_words(facts, bare_card(facts)))
    print(
        f"wrote {args.out}: {len(hashes)} forgotten pairs, {facts['weights']['dtype']}"
        + (f", {check['identical']} of {check['questions']} answers identical" if check else "")
    )
