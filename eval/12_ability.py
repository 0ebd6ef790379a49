"""What a model can still do: general knowledge offline, MMLU and GSM8K through lm-eval with a hub (ReLearn, ACL 2025,
generic tasks).

Offline: perplexity of the true answers (exp of the mean negative log-likelihood a token, end of sequence included),
their mean log-probability, and ROUGE-L recall of greedy answers, on pairs that no training set here holds
(data/general_heldout.jsonl). --tasks hands the model to EleutherAI's lm-eval, with that task's own prompts and shots
and no chat template.
"""

import importlib
import math
from argparse import Namespace
from pathlib import Path

from lib.files import REPOSITORY, fail, finished, inputs_of, mean, progress, write_results, write_text
from lib.flags import Parser, count
from lib.formats import read_pairs
from lib.generation import answers
from lib.likelihood import answer_logprobs
from lib.models import exact_dtype, load_model, model_folder, model_names
from lib.rouge import rouge_scorer


def general(pairs: list[dict], model, tokenizer, batch: int, max_new_tokens: int) -> list[dict]:
    """Items of question, reference, answer, its ROUGE-L recall, and the reference's log-probability in nats over its
    tokens.
    """
    rouge = rouge_scorer("rougeL")
    scored = answer_logprobs([(pair["question"], pair["answer"]) for pair in pairs], model, tokenizer, batch)
    given = answers([pair["question"] for pair in pairs], model, tokenizer, batch, max_new_tokens)
    return [
        {
            "question": pair["question"],
            "reference": pair["answer"],
            "answer": answer,
            "logprob": logprobs.sum().item(),
            "tokens": len(logprobs),
            "rouge_l_recall": rouge.score(pair["answer"], answer)["rougeL"].recall,
        }
        for pair, (logprobs, _), answer in zip(pairs, scored, given, strict=True)
    ]


def summarise(items: list[dict]) -> dict:
    """Corpus perplexity, mean log-probability of an answer (nats), mean ROUGE-L recall."""
    nll = -math.fsum(item["logprob"] for item in items) / sum(item["tokens"] for item in items)  # nats a token
    return {
        "perplexity": math.exp(min(nll, 700)),
        "logprob": mean(item["logprob"] for item in items),  # e^709 is the largest float
        "ROUGE-L": mean(item["rouge_l_recall"] for item in items),
        "items": len(items),
    }


def harness() -> tuple:
    """lm-eval's package and its wrapper of a transformers model, or one clear line."""
    try:
        return importlib.import_module("lm_eval"), importlib.import_module("lm_eval.models.huggingface").HFLM
    except ImportError as error:
        fail(f"--tasks needs the package lm_eval ({error}); pip install lm_eval, or leave --tasks out")


def tasks_of(results: dict, tasks: list[str]) -> dict:
    """{task: {its metrics and their standard errors, "version", "n_shot"}} from lm-eval's results, which call them
    "metric,filter".
    """
    found = {}
    for task in tasks:
        if task not in results.get("results", {}):
            fail(f"lm-eval gave no result for {task}; it gave {', '.join(results.get('results', {})) or 'none'}")
        found[task] = {
            name.removesuffix(",none"): value
            for name, value in results["results"][task].items()
            if "," in name and isinstance(value, (int, float))
        }  # without a filter: a count such as sample_len
        if all("stderr" in name for name in found[task]):
            fail(f"lm-eval gave no metric for {task}")
        found[task] |= {"version": results.get("versions", {}).get(task), "n_shot": results.get("n-shot", {}).get(task)}
    return found


def main_metric(values: dict) -> float:
    """The first metric that lm-eval names for a task: accuracy for MMLU, exact match for GSM8K."""
    return next(value for name, value in values.items() if "stderr" not in name)


def markdown(rows: dict, tasks: list[str]) -> str:
    """rows: {model name: summary}."""
    heads = ["model", "perplexity ↓", "answer log-probability ↑", "ROUGE-L ↑", *(f"{task} ↑" for task in tasks)]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, row in rows.items():
        cells = [f"{row['perplexity']:.4g}", f"{row['logprob']:.2f}", f"{row['ROUGE-L']:.3f}"]
        lines.append(
            "| " + " | ".join([name, *cells, *(f"{main_metric(row['tasks'][task]):.4f}" for task in tasks)]) + " |"
        )
    note = (
        "general questions that no model was trained on. perplexity: of a token of the true answers; answer "
        "log-probability: of a whole true answer, mean, in nats; ROUGE-L: recall of the true answers."
    )
    return "\n".join(lines) + f"\n\n{next(iter(rows.values()))['items']} {note}\n"


def parser() -> Parser:
    made = Parser(
        __doc__,
        files=lambda args: [
            *(Path(args.out, name, "ability.json") for name in model_names(args.models, args.names)),
            Path(args.report or args.out, "ability.md"),
        ],
    )
    made.add_argument(
        "--models",
        required=True,
        nargs="+",
        metavar="FOLDER",
        help="finished models: folders, adapter folders or hub ids",
    )
    made.add_argument("--names", nargs="+", default=[], help="what to call them (default: their folders' names)")
    made.add_argument(
        "--pairs",
        default=str(REPOSITORY / "data/general_heldout.jsonl"),
        metavar="FILE",
        help="general pairs that no model was trained on (default: %(default)s)",
    )
    made.add_argument("--out", required=True, metavar="FOLDER", help="folder for NAME/ability.json")
    made.add_argument("--report", metavar="FOLDER", help="folder for ability.md (default: that of --out)")
    made.add_argument(
        "--tasks",
        nargs="+",
        default=[],
        metavar="TASK",
        help="tasks of lm-eval, mmlu gsm8k in the paper (default: none)",
    )
    made.add_argument("--limit", type=count, help="with --tasks: questions a task, for a trial (default: all)")
    made.add_argument("--batch", type=count, default=32, help="answers in one forward pass (default: 32)")
    made.add_argument("--max-new-tokens", type=count, default=64, help="longest answer (default: 64)")
    return made


def by_lm_eval(lm_eval, wrapper, model, tokenizer, args: Namespace) -> dict:
    """The summary's part of --tasks. lm_eval, wrapper: as `harness` gives them."""
    try:
        wrapped = wrapper(pretrained=model, tokenizer=tokenizer, batch_size=args.batch)
        results = lm_eval.simple_evaluate(model=wrapped, tasks=args.tasks, limit=args.limit, log_samples=False)
    except Exception as error:  # the hub's client, datasets and lm-eval raise many kinds; the data come from the hub
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        fail(
            f"lm-eval could not run {', '.join(args.tasks)}: {reason}; check the tasks' names and the network, or "
            "leave --tasks out"
        )
    return {"tasks": tasks_of(results, args.tasks), "lm_eval": lm_eval.__version__, "limit": args.limit}


def main(args: Namespace):
    names, pairs = model_names(args.models, args.names), read_pairs(args.pairs)
    for folder in args.models:
        model_folder(folder)
    lm_eval = harness() if args.tasks else None

    rows, inputs_for = {}, inputs_of(args, [args.pairs], __file__, ("models", "names", "out", "report"))
    for name, folder in progress(list(zip(names, args.models)), desc="general ability", unit="model"):
        out, inputs = Path(args.out, name, "ability.json"), inputs_for(folder)
        rows[name] = finished(out, inputs)
        if rows[name] is None:
            model, tokenizer = load_model(folder, exact_dtype())
            model = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
            items = general(pairs, model, tokenizer, args.batch, args.max_new_tokens)
            rows[name] = summarise(items)
            if lm_eval:
                rows[name] |= by_lm_eval(*lm_eval, model, tokenizer, args)
            write_results(out, rows[name], items, args, [args.pairs], inputs)
        print(
            name,
            *(f"{key} {value:.4g}" for key, value in rows[name].items() if isinstance(value, float)),
            *(f"{task} {main_metric(rows[name]['tasks'][task]):.4f}" for task in args.tasks),
            sep="  ",
        )
    write_text(Path(args.report or args.out, "ability.md"), markdown(rows, args.tasks))


if __name__ == "__main__":
    main(parser().parse_args())
