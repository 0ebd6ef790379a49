"""Does it stay forgotten? KFR again under attacks, for any finished models (ReLearn, ACL 2025, section on robustness,
and beyond).

float16, bfloat16, int8, int4: the weights are rounded to what such a file can store. role-play, multi-turn: frames of
data/attacks.json around the question (the first is our wording of the AIM jailbreak). prefix: the answer's first words
are already there. typos, paraphrase: the question mistyped, or in other words. relearning: a rank-16 LoRA learns a few
forget pairs again, and other forget facts are asked. benign relearning: as many pairs that are not to be forgotten, in
as many updates. Over the questions that every attack asks: the lowest KFR, min_attack mean_i, the share of facts that
none of them brings back, mean_i min_attack, and the highest leak.
"""

import sys
import time
from argparse import Namespace
from pathlib import Path

from lib import judge_flags
from lib.files import MODELS, REPOSITORY, finished, inputs_of, progress, record, write_json, write_text
from lib.flags import Parser, count, count_or_none, positive, seed_number
from lib.formats import questions_of, read_pairs
from lib.judge import judge
from lib.leak import note_leaks
from lib.models import model_folder, model_names

from robustness.attacks import ATTACKS, Target, summarise
from robustness.questions import paraphrases, read_frames
from robustness.relearning import relearn_counts
from robustness.table import draw, markdown

UNRECORDED = ("models", "names", "out", "report", "batch")  # flags that change no model's result


def parser() -> Parser:
    made, data = (
        Parser(
            __doc__,
            files=lambda args: [
                Path(args.out, name, "robustness.json") for name in model_names(args.models, args.names)
            ],
        ),
        MODELS.parent / "data",
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
        "--forget",
        default=str(data / "forget_val.jsonl"),
        metavar="FILE",
        help="forget pairs to ask (default: %(default)s)",
    )
    made.add_argument(
        "--paraphrases",
        metavar="FILE",
        help="pairs that ask the same in other words: same person and fact, or row by row (default: forget_tune.jsonl "
        "beside --forget, if it holds them)",
    )
    made.add_argument(
        "--frames",
        default=str(REPOSITORY / "data/attacks.json"),
        metavar="FILE",
        help="frames of role-play and multi-turn (default: %(default)s)",
    )
    made.add_argument("--out", required=True, metavar="FOLDER", help="folder for NAME/robustness.json")
    made.add_argument(
        "--report", metavar="FOLDER", help="folder for robustness.md and robustness.png (default: that of --out)"
    )
    made.add_argument(
        "--attacks",
        nargs="*",
        choices=ATTACKS,
        default=list(ATTACKS),
        metavar="NAME",
        help=f"which of {', '.join(ATTACKS)} (default: all)",
    )
    made.add_argument(
        "--prefix-words", type=count, default=5, help="words of the true answer given, at most (default: 5)"
    )
    add_relearning_flags(made)
    made.add_argument("--batch", type=count, default=128, help="prompts answered together (default: 128)")
    made.add_argument("--max-new-tokens", type=count, default=64, help="longest answer (default: 64)")
    made.add_argument(
        "--seed", type=seed_number, default=0, help="of typos, of the pairs learnt again and of their LoRA (default: 0)"
    )
    judge_flags.add_flags(made)
    return made


def add_relearning_flags(made: Parser):
    made.add_argument(
        "--relearn",
        type=count_or_none,
        nargs="+",
        metavar="N",
        help="forget pairs to learn again; 0: none (default: 1 4 16, but at most half of the pairs)",
    )
    made.add_argument(
        "--relearn-steps",
        type=count,
        nargs="+",
        default=[3, 10],
        metavar="N",
        help="updates after which to ask (default: 3 10)",
    )
    made.add_argument(
        "--relearn-lr",
        type=positive,
        default=5e-4,
        help="learning rate (default: 5e-4, half of the default run's vanilla model)",
    )
    made.add_argument(
        "--benign",
        metavar="FILE",
        help="pairs that are not to be forgotten, for benign relearning (default: retain_train.jsonl beside --forget, "
        "if it is there)",
    )
    made.add_argument("--relearn-batch", type=count, default=4, help="pairs an update, at most (default: 4)")


def other_wordings(args: Namespace, rows: list[dict]) -> list[dict] | None:
    """Other wordings of the questions, where they are wanted; where there are none, the attack is left out of
    --attacks.
    """
    if "paraphrase" not in args.attacks:
        return None
    others, fault, path = paraphrases(rows, args.paraphrases, args.forget)
    if others is None:
        args.attacks.remove("paraphrase")
        print(f"paraphrase is left out ({fault}); give --paraphrases", file=sys.stderr)
    else:
        args.paraphrases = path
    return others


def kept_pairs(args: Namespace) -> list[dict] | None:
    """Pairs for benign relearning, where pairs are relearnt at all; None where no file is named and none is there."""
    beside = Path(args.forget).with_name("retain_train.jsonl")
    if not args.relearn:
        return None
    if not args.benign and not beside.is_file():
        print(f"benign relearning is left out ({beside}: no such file); give --benign", file=sys.stderr)
        return None
    args.benign = args.benign or str(beside)
    return read_pairs(args.benign)


def judged(found: list[dict], args: Namespace, verdicts) -> list[dict]:
    """The items with their verdicts and what these rest on."""
    find = judge_flags.entity_finder(args, [item[field] for item in found for field in ("reference", "answer")])
    scored = judge(found, "forget", verdicts, find, args.as_released)
    items = [{**item, **verdict} for item, verdict in zip(found, scored, strict=True)]
    note_leaks(items)
    return items


def told(out: Path, row: dict):
    print(
        out,
        f"KFR {row['KFR']:.3f}",
        *(f"{attack} {value:.3f}" for attack, value in row["attacks"].items()),
        f"worst {row['worst_KFR']:.3f} ({row['worst_attack']})",
        f"leak {row['leak']:.3f}, at worst {row['worst_leak']:.3f}",
        *([f"by fact {row['worst_KFR_by_fact']:.3f}"] if row["worst_KFR_by_fact"] is not None else []),
        sep="  ",
    )


def main(args: Namespace):
    args.attacks = [name for name in ATTACKS if name in args.attacks]
    args.relearn_steps = sorted(set(args.relearn_steps))
    names = model_names(args.models, args.names)
    rows, frames = questions_of(read_pairs(args.forget, places=True)), read_frames(args.frames)
    args.relearn = relearn_counts(args.relearn, len(rows), args.forget)
    others, kept = other_wordings(args, rows), kept_pairs(args)
    for folder in args.models:
        model_folder(folder, "python scripts/10_ga.py --help")

    files = [args.forget, args.frames, *([args.paraphrases] if others else []), *([args.benign] if kept else [])]
    prompts = [REPOSITORY / "data/prompts/entities.txt"] if args.entities == "llm" else []
    inputs_for = inputs_of(args, [*files, *prompts, *judge_flags.check(args)], __file__, UNRECORDED)
    verdicts, results = None, {}
    for name, folder in progress(list(zip(names, args.models)), desc="robustness", unit="model"):
        out, inputs = Path(args.out, name, "robustness.json"), inputs_for(folder)
        results[name] = finished(out, inputs)
        if results[name] is None:
            began, verdicts = time.time(), verdicts or judge_flags.load_judge(args)
            items = judged(Target(folder, rows, frames, others, kept, args).attack(), args, verdicts)
            results[name] = summarise(items)
            settings = Namespace(**vars(args) | {"relearn": args.relearn or [0]})  # as the flag takes it
            origin = {"inputs": inputs, **record(settings, files), "seconds": round(time.time() - began, 1)}
            write_json(out, {"summary": results[name], "items": items, **origin})
        told(out, results[name])
    report = Path(args.report or args.out)
    write_text(report / "robustness.md", markdown(results, args.prefix_words))
    draw(results, report / "robustness.png")


if __name__ == "__main__":
    main(parser().parse_args())
