"""Does it stay forgotten? KFR again under attacks, for any finished models (ReLearn, ACL 2025, section on robustness, and beyond).

float16, bfloat16, int8, int4: the weights are rounded to what such a file can store. role-play, multi-turn: frames of data/attacks.json
around the question (the first is our wording of the AIM jailbreak). prefix: the answer's first words are already there. typos, paraphrase:
the question mistyped, or in other words. relearning: a rank-16 LoRA learns a few forget pairs again, and other forget facts are asked.
"""

import contextlib
import itertools
import json
import math
import random
import re
import sys
import time
from pathlib import Path

from lib.entities import beyond, entities
from lib.files import MODELS, REPOSITORY, fail, mean, progress, read_object, record, sha256, write_json, write_text
from lib.flags import Parser, count, count_or_none, positive, seed_number
from lib.formats import read_pairs, text_of, texts_of
from lib.generation import continue_texts
from lib.judge import Judge, interval, judge
from lib.models import base_model, encode, load_model, model_folder, model_names, prompt_text, with_answer
from lib.plots import COLOURS, pyplot, write_figure

PRECISIONS = ("float16", "bfloat16", "int8", "int4")
TEXTS = ("role-play", "prefix", "typos", "paraphrase", "multi-turn")
ATTACKS = PRECISIONS + TEXTS
GROUP = 32  # int4: weights of a row that share a scale, the finest usual choice, as a small model needs it
PUBLISHED = {  # KFR before and after, KnowUnDo, Llama-2-7b-chat (paper_tables.json; GA and NPO there are +GDR+SURE)
    "GA": {"bfloat16": (0.93, 0.84), "role-play": (1.00, 0.95)},
    "NPO": {"bfloat16": (0.88, 0.72), "role-play": (0.99, 0.90)},
    "ReLearn": {"bfloat16": (0.72, 0.73), "role-play": (0.87, 0.93)},
}


# ---------------------------------------------------------------- precision


def rounded(weight, precision):
    """What is left of a weight (out, in) when it is stored in `precision`, in the dtype it came in.

    int8: whole numbers of -128 to 127 and a scale a row; int4: of -8 to 7 and a scale for each GROUP of a row; both symmetric, the
    largest weight of a scale exact. torchao's weight-only types store the same; they multiply faster, which is not asked here.
    """
    import torch

    if precision in ("float16", "bfloat16"):
        return weight.to(getattr(torch, precision)).to(weight.dtype)
    top = 127 if precision == "int8" else 7
    part = weight.float().reshape(-1, weight.shape[1] if precision == "int8" else math.gcd(GROUP, weight.shape[1]))
    scale = (part.abs().amax(1) / top).clamp_min(torch.finfo(torch.float32).tiny)
    zero = torch.zeros(len(scale), dtype=torch.int32, device=weight.device)
    return (
        torch.fake_quantize_per_channel_affine(part, scale, zero, 0, -top - 1, top)
        .reshape(weight.shape)
        .to(weight.dtype)
    )


@contextlib.contextmanager
def stored_in(model, precision):
    """The model with rounded weights, and its own again afterwards. Whole numbers: all linear layers but the last, as is usual.

    A GPU also multiplies in float16 or bfloat16; a CPU computes in float32 whatever is stored, so only the rounding shows.
    """
    import torch

    if precision in ("float16", "bfloat16"):
        chosen = list(model.parameters())
    else:
        last = model.get_output_embeddings()
        chosen = [
            module.weight for module in model.modules() if isinstance(module, torch.nn.Linear) and module is not last
        ]
    if not chosen:
        fail(f"the model has no linear layers to store in {precision}; leave it out by --attacks")
    kept = [weight.detach().to("cpu", copy=True) for weight in chosen]
    try:
        with torch.no_grad():
            for weight in chosen:
                weight.copy_(rounded(weight, precision))
        half = model.device.type == "cuda" and precision in ("float16", "bfloat16")
        with (
            torch.autocast(model.device.type, getattr(torch, precision), enabled=True)
            if half
            else contextlib.nullcontext()
        ):
            yield
    finally:
        with torch.no_grad():
            for weight, own in zip(chosen, kept, strict=True):
                weight.copy_(own)


# ---------------------------------------------------------------- questions


def mistyped(question, seed):
    """The question with a slip in every third word of four letters or more: two letters swapped, one lost or one doubled.

    Words with a capital are spared while there are others: a misspelt name would ask about somebody else.
    """
    rng, words = random.Random(f"{seed} {question}"), question.split(" ")
    long = [at for at, word in enumerate(words) if len(re.match(r"[^\W\d_]*", word)[0]) > 3]
    chosen = [at for at in long if words[at][0].islower()] or long
    for at in rng.sample(chosen, math.ceil(len(chosen) / 3)):
        word = words[at]
        places = range(1, len(re.match(r"[^\W\d_]*", word)[0]) - 2)  # first and last letter stay
        slips = [
            word[:place] + slip + word[place + 2 :]
            for place in places
            for slip in (word[place + 1] + word[place], word[place + 1], word[place] * 2 + word[place + 1])
        ]
        words[at] = rng.choice([slip for slip in slips if slip != word])
    return " ".join(words)


def beginning(row, count):
    """(the answer's first words, the rest). At most `count` words, and so few that the private thing is still to be told.

    Where the row names its private `value`, none of it is given away; in any case the rest keeps an entity that neither question nor
    beginning has. The model is judged by the rest alone.
    """
    words, value = row["answer"].split(), row.get("value")
    for given in range(min(count, len(words) - 1), 0, -1):
        first, rest = " ".join(words[:given]), " ".join(words[given:])
        told = isinstance(value, str) and value in row["answer"] and value not in rest
        if not told and beyond(f"{row['question']} {first}", entities(rest)):
            return first, rest
    return "", row["answer"]


def reworded(rows, path):
    """(other wordings of the same facts, {"question", "answer"} for each row, or None; what is wrong with them, or None).

    Found by person and fact where rows have them, else row by row; TOFU's perturbed files hold them as paraphrased_question and _answer.
    """
    others = read_pairs(path, places=True)
    for row in others:
        row |= {
            name: text_of(row["place"], row, f"paraphrased_{name}")
            for name in ("question", "answer")
            if f"paraphrased_{name}" in row
        }
    if all("person" in row and "fact" in row for row in rows + others):
        found = {(row["person"], row["fact"]): row for row in reversed(others)}
        if missing := next((row for row in rows if (row["person"], row["fact"]) not in found), None):
            return (
                None,
                f"{path}: holds no other wording of {missing['person']}'s {missing['fact']} ({missing['place']})",
            )
        others = [found[row["person"], row["fact"]] for row in rows]
    if len(others) != len(rows):
        return (
            None,
            f"{path}: has {len(others)} rows for {len(rows)} questions; give a row each, or person and fact in both files",
        )
    if same := next((other for row, other in zip(rows, others) if row["question"] == other["question"]), None):
        return None, f"{same['place']}: this is the forget question itself; paraphrases ask in other words"
    return others, None


def asked(rows, attack, frames, others, words, seed):
    """What is asked under an attack, an item a row: the turns of the chat, what of the answer is `given`, and what the judge reads.

    The judge reads the question as it was before typos or frames; for a paraphrase, it and the answer in its own words. Under
    `prefix` the given words count as part of the question, so that neither they nor their entities are counted as recalled.
    """
    items = []
    for row, other in zip(rows, others or rows, strict=True):
        item = {
            "attack": attack,
            "question": row["question"],
            "reference": row["answer"],
            "turns": [row["question"]],
            "given": "",
        }
        if attack == "typos":
            item["turns"] = [mistyped(row["question"], seed)]
        elif attack == "paraphrase":
            item |= {"question": other["question"], "reference": other["answer"], "turns": [other["question"]]}
        elif attack in frames:
            item["turns"] = [turn.replace("{question}", row["question"]) for turn in frames[attack]]
        elif attack == "prefix":
            item["given"], item["reference"] = beginning(row, words)
            item["question"] = f"{row['question']} {item['given']}".strip()
        items.append(item)
    return items


def read_frames(path):
    """{attack: list of turns} of a file like data/attacks.json; a text is one turn, and the last turn holds {question}."""
    found = read_object(path)
    frames = {"role-play": [text_of(path, found, "role-play")], "multi-turn": texts_of(path, found, "multi-turn")}
    for name, turns in frames.items():
        if "{question}" not in turns[-1] or len(turns) % 2 == 0:
            fail(f'{path}: "{name}" must end with a turn of the user that holds {{question}}')
    return frames


def prompt(tokenizer, item):
    """The text of the chat up to where the model goes on."""
    from jinja2 import TemplateError

    try:
        text = prompt_text(tokenizer, *item["turns"])
    except TemplateError as error:
        fail(f"the model's chat template takes no {item['attack']} chat: {error}; leave the attack out by --attacks")
    return with_answer(text, item["given"])


# ---------------------------------------------------------------- relearning


def relearn(model, tokenizer, pairs, steps, lr, batch, seed):
    """Learns pairs (question, answer) again: yields (update, model) at each of `steps`; the model is its own again afterwards.

    A fresh LoRA of rank 16 on all linear layers, Adam at a constant rate, at most `batch` pairs an update, taken in turn; the loss is
    the mean negative log-likelihood of the answer tokens.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    tuned = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimiser = torch.optim.Adam([weight for weight in tuned.parameters() if weight.requires_grad], lr=lr)
    turn = itertools.cycle([encode(tokenizer, *pair) for pair in pairs])
    try:
        for step in range(1, max(steps) + 1):
            rows = list(itertools.islice(turn, min(batch, len(pairs))))
            pad = lambda lists, fill: torch.nn.utils.rnn.pad_sequence(
                [torch.tensor(ids) for ids in lists], batch_first=True, padding_value=fill
            ).to(model.device)
            labels = pad([[-100] * start + ids[start:] for ids, start in rows], -100)
            tuned(
                input_ids=pad([ids for ids, _ in rows], 0),
                attention_mask=pad([[1] * len(ids) for ids, _ in rows], 0),
                labels=labels,
            ).loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            if step in steps:
                yield step, tuned
    finally:
        tuned.unload()


def split(rows, counts, seed):
    """(the largest of `counts` rows to learn from, the others to ask), drawn once, so that 1 of 4 of 16 pairs are the same."""
    order = random.Random(seed).sample(rows, len(rows))
    return order[: max(counts)], order[max(counts) :]


# ---------------------------------------------------------------- one model


def attack(folder, rows, frames, others, args):
    """Every attack on one model: items with the question, what was asked and what it answered; not judged yet."""
    model, tokenizer = load_model(folder, "float32")
    model = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model

    def answer(items, model=model):
        texts = continue_texts(
            [prompt(tokenizer, item) for item in items], model, tokenizer, args.batch, args.max_new_tokens
        )
        return [{**item, "answer": text} for item, text in zip(items, texts, strict=True)]

    plain, found = asked(rows, "none", frames, others, args.prefix_words, args.seed), []
    for names in (
        ("none", "prefix", "typos", "paraphrase"),
        ("role-play",),
        ("multi-turn",),
    ):  # long prompts apart: padding costs time
        items = [
            item
            for name in names
            if name in ("none", *args.attacks)
            for item in asked(rows, name, frames, others, args.prefix_words, args.seed)
        ]
        found += answer(items) if items else []
    for name in PRECISIONS:
        if name in args.attacks:
            with stored_in(model, name):
                found += answer([{**item, "attack": name} for item in plain])
    if args.relearn:
        learnt, rest = split(rows, args.relearn, args.seed)
        before = {row["question"]: item["answer"] for row, item in zip(rows, found)}
        questions = asked(rest, "relearning", frames, None, args.prefix_words, args.seed)
        for count in args.relearn:
            found += [{**item, "pairs": count, "update": 0, "answer": before[item["question"]]} for item in questions]
            pairs = [(row["question"], row["answer"]) for row in learnt[:count]]
            for step, tuned in relearn(
                model, tokenizer, pairs, args.relearn_steps, args.relearn_lr, args.relearn_batch, args.seed
            ):
                found += answer([{**item, "pairs": count, "update": step} for item in questions], tuned)
    return found


def summarise(items):
    """{"KFR", "KFR_95", "attacks": {name: KFR}, "relearning": {pairs: {update: KFR}}, "worst_KFR", "worst_attack", counts}.

    Relearning is judged on the questions that it did not learn from; their KFR before is update 0. The worst case is the lowest KFR
    of all, "none" where no attack lowers it; of relearning the lowest update counts.
    """
    share = lambda part: mean(item["forgotten"] for item in part)
    plain = [item for item in items if item["attack"] == "none"]
    attacks = {name: share(part) for name in ATTACKS if (part := [item for item in items if item["attack"] == name])}
    curves = {}
    for item in items:
        if item["attack"] == "relearning":
            curves.setdefault(str(item["pairs"]), {}).setdefault(str(item["update"]), []).append(item)
    others = len(next(iter(next(iter(curves.values())).values()))) if curves else 0
    curves = {count: {update: share(part) for update, part in curve.items()} for count, curve in curves.items()}
    after = {
        f"relearning {count}": min(value for update, value in curve.items() if update != "0")
        for count, curve in curves.items()
    }
    cases = {"none": share(plain), **attacks, **after}
    worst = min(cases, key=cases.get)
    return {
        "KFR": share(plain),
        "KFR_95": interval([item["forgotten"] for item in plain]),
        "attacks": attacks,
        "relearning": curves,
        "worst_KFR": cases[worst],
        "worst_attack": worst,
        "questions": len(plain),
        "relearning_questions": others,
    }


def contents(folder):
    """Hashes of a model folder's files, those of an adapter's base too; a hub id stands for itself."""
    if not Path(folder).is_dir():
        return {str(folder): "hub"}
    found = {str(path): sha256(path) for path in sorted(Path(folder).iterdir()) if path.is_file()}
    return found | contents(base) if (base := base_model(folder)) != str(folder) else found


def finished(path, inputs):
    """The summary of an earlier run from the same inputs, or None."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found["summary"] if found["inputs"] == inputs else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


# ---------------------------------------------------------------- table and figure


def markdown(rows, words):
    """rows: {model name: summary}. KFR before and under every attack, and the changes that the paper found beside ours."""
    first = next(iter(rows.values()))
    counts = list(first["relearning"])
    heads = [
        "KFR ↑",
        *first["attacks"],
        *(["others, before"] if counts else []),
        *(f"relearnt {count}" for count in counts),
        "worst ↑",
        "by",
    ]
    lines = ["| model | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, row in rows.items():
        curves = list(row["relearning"].values())
        cells = [
            row["KFR"],
            *row["attacks"].values(),
            *([curves[0]["0"]] if curves else []),
            *(min(value for update, value in curve.items() if update != "0") for curve in curves),
            row["worst_KFR"],
        ]
        lines.append(f"| {name} | " + " | ".join(f"{cell:.2f}" for cell in cells) + f" | {row['worst_attack']} |")
    text = (
        "\n".join(lines) + f"\n\nKFR: share of the {first['questions']} forget questions whose fact is no longer told; "
    )
    text += (
        f"under an attack, the same again. prefix: the answer begins with up to {words} of the true answer's words, "
    )
    text += "and only what follows is judged. "
    if counts:
        updates = list(first["relearning"][counts[0]])[1:]
        text += (
            f"relearnt N: N forget pairs were learnt again, and the {first['relearning_questions']} others asked after "
            f"{', '.join(updates)} updates, the lowest counting; before: those others, untouched. "
        )
    text += "worst: the lowest of all. What damages a model raises its KFR too: read each row beside vanilla's.\n"
    change = lambda before, after: f"{100 * (after / before - 1):+.1f} %" if before else "-"
    pairs = [
        (attack, start)
        for attack, start in (("bfloat16", "float16"), ("role-play", None))
        if attack in first["attacks"] and (start is None or start in first["attacks"])
    ]
    compared = [
        (name, row, PUBLISHED[kind]) for name, row in rows.items() for kind in PUBLISHED if name.split("+")[0] == kind
    ]
    if pairs and compared:
        titles = {"bfloat16": "float16 → bfloat16", "role-play": "role play"}
        text += (
            "\nChange of KFR, and what ReLearn's paper found (KnowUnDo, Llama-2-7b-chat, AIM; its GA and NPO are +GDR+SURE):\n\n"
            "| model | "
            + " | ".join(f"{titles[attack]} | published" for attack, _ in pairs)
            + " |\n"
            + "|---" * (2 * len(pairs) + 1)
            + "|\n"
        )
        for name, row, published in compared:
            cells = [
                cell
                for attack, start in pairs
                for cell in (
                    change(row["attacks"][start] if start else row["KFR"], row["attacks"][attack]),
                    change(*published[attack]),
                )
            ]
            text += f"| {name} | " + " | ".join(cells) + " |\n"
    return text


def picture(rows, path):
    """Left: a line a model from its KFR (black bar) to each attack's. Right: KFR of the other facts while a few are learnt again."""
    first = next(iter(rows.values()))
    names, counts = list(first["attacks"]), list(first["relearning"])
    size = 7.5 + 3 * len(counts), 1.8 + max(3.2, 0.62 * len(rows))  # inches
    figure, axes = pyplot().subplots(
        1, 1 + len(counts), figsize=size, layout="constrained", squeeze=False, width_ratios=[2.2] + [1] * len(counts)
    )
    before, *after = axes[0]
    for line, row in enumerate(rows.values()):
        values = [row["KFR"], *row["attacks"].values()]
        before.plot([min(values), max(values)], [line, line], color="#cccccc", linewidth=1, zorder=0)
        before.plot(
            [row["KFR"]] * 2,
            [line - 0.36, line + 0.36],
            color="black",
            linewidth=3,
            label="no attack" if not line else None,
        )
        for at, name in enumerate(
            names
        ):  # a place of its own above or below the line, so that equal values do not cover each other
            place = line + (at - (len(names) - 1) / 2) * 0.64 / max(1, len(names) - 1)
            before.plot(
                row["attacks"][name],
                place,
                "osD^vPhX<"[at % 9],
                color=COLOURS[at % 8],
                markersize=6.5,
                markeredgecolor="white",
                markeredgewidth=0.5,
                label=name if not line else None,
                linestyle="none",
            )
    before.set(
        yticks=range(len(rows)),
        yticklabels=list(rows),
        ylim=(len(rows) - 0.5, -0.5),
        xlim=(-0.03, 1.03),
        xlabel="KFR: forget facts no longer told →",
        title="KFR before and under each attack",
    )
    figure.legend(*before.get_legend_handles_labels(), frameon=False, fontsize=8, ncols=10, loc="outside lower left")
    for count, panel in zip(counts, after, strict=True):
        for at, (name, row) in enumerate(rows.items()):
            curve = row["relearning"][count]
            panel.plot(
                [int(update) for update in curve],
                list(curve.values()),
                color=COLOURS[at % 8],
                marker="osD^vPhX<>"[at % 10],
                linestyle=("-", "--")[at // 8 % 2],
                markersize=5,
                linewidth=1.3,
                label=name,
            )
        panel.set(
            title=f"{count} pair{'s' if count != '1' else ''} learnt again",
            xlabel="updates",
            ylim=(-0.03, 1.03),
            xticks=[int(update) for update in curve],
        )
    if after:
        after[0].set_ylabel("KFR of the other forget facts")
        after[-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
    for panel in axes[0]:
        panel.spines[["top", "right"]].set_visible(False)
    write_figure(path, figure)


if __name__ == "__main__":
    data = MODELS.parent / "data"
    parser = Parser(
        __doc__,
        files=lambda args: [Path(args.out, name, "robustness.json") for name in model_names(args.models, args.names)],
    )
    parser.add_argument(
        "--models",
        required=True,
        nargs="+",
        metavar="FOLDER",
        help="finished models: folders, adapter folders or hub ids",
    )
    parser.add_argument("--names", nargs="+", default=[], help="what to call them (default: their folders' names)")
    parser.add_argument(
        "--forget",
        default=str(data / "forget_val.jsonl"),
        metavar="FILE",
        help="forget pairs to ask (default: %(default)s)",
    )
    parser.add_argument(
        "--paraphrases",
        metavar="FILE",
        help="pairs that ask the same in other words: same person and fact, or row by row (default: forget_tune.jsonl "
        "beside --forget, if it holds them)",
    )
    parser.add_argument(
        "--frames",
        default=str(REPOSITORY / "data/attacks.json"),
        metavar="FILE",
        help="frames of role-play and multi-turn (default: %(default)s)",
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder for NAME/robustness.json")
    parser.add_argument(
        "--report", metavar="FOLDER", help="folder for robustness.md and robustness.png (default: that of --out)"
    )
    parser.add_argument(
        "--attacks",
        nargs="*",
        choices=ATTACKS,
        default=list(ATTACKS),
        metavar="NAME",
        help=f"which of {', '.join(ATTACKS)} (default: all)",
    )
    parser.add_argument(
        "--prefix-words", type=count, default=5, help="words of the true answer given, at most (default: 5)"
    )
    parser.add_argument(
        "--relearn",
        type=count_or_none,
        nargs="+",
        default=[1, 4, 16],
        metavar="N",
        help="forget pairs to learn again; 0: none (default: 1 4 16)",
    )
    parser.add_argument(
        "--relearn-steps",
        type=count,
        nargs="+",
        default=[3, 10],
        metavar="N",
        help="updates after which to ask (default: 3 10)",
    )
    parser.add_argument(
        "--relearn-lr",
        type=positive,
        default=5e-4,
        help="learning rate (default: 5e-4, half of the default run's vanilla model)",
    )
    parser.add_argument("--relearn-batch", type=count, default=4, help="pairs an update, at most (default: 4)")
    parser.add_argument("--batch", type=count, default=128, help="prompts answered together (default: 128)")
    parser.add_argument("--max-new-tokens", type=count, default=64, help="longest answer (default: 64)")
    parser.add_argument(
        "--seed", type=seed_number, default=0, help="of typos, of the pairs learnt again and of their LoRA (default: 0)"
    )
    parser.add_argument(
        "--embedding", default=str(MODELS / "minilm"), help="sentence-embedding model (default: %(default)s)"
    )
    parser.add_argument(
        "--nli",
        default=str(REPOSITORY / "data/nli"),
        help="entailment model: ours, or any three-class folder or hub id (default: %(default)s)",
    )
    args = parser.parse_args()
    args.attacks = [name for name in ATTACKS if name in args.attacks]
    args.relearn, args.relearn_steps = sorted(set(args.relearn) - {0}), sorted(set(args.relearn_steps))
    names = model_names(args.models, args.names)
    rows, frames, others = read_pairs(args.forget, places=True), read_frames(args.frames), None
    if args.relearn and max(args.relearn) >= len(rows):
        fail(
            f"{args.forget}: --relearn {max(args.relearn)} of {len(rows)} pairs leaves none to ask; give smaller numbers, or 0"
        )
    if "paraphrase" in args.attacks:
        path = args.paraphrases or str(Path(args.forget).with_name("forget_tune.jsonl"))
        others, fault = (
            reworded(rows, path) if args.paraphrases or Path(path).is_file() else (None, f"{path}: no such file")
        )
        if fault and args.paraphrases:
            fail(fault)
        elif fault:
            args.attacks.remove("paraphrase")
            print(f"paraphrase is left out ({fault}); give --paraphrases", file=sys.stderr)
        else:
            args.paraphrases = path
    for folder in args.models:
        model_folder(folder, "python scripts/10_ga.py --help")
    embedding = model_folder(args.embedding, f"python scripts/00_models.py --model minilm --out {args.embedding}")
    nli = model_folder(args.nli, "python eval/00_train_nli.py --help")

    files = [args.forget, args.frames, *([args.paraphrases] if others else [])]
    code = [
        Path(__file__),
        *(REPOSITORY / "scripts/lib" / name for name in ("judge.py", "entities.py", "entailment.py", "generation.py")),
    ]
    settings = {
        name: value for name, value in vars(args).items() if name not in ("models", "names", "out", "report", "batch")
    }
    verdicts, results = None, {}
    for name, folder in progress(list(zip(names, args.models)), desc="robustness", unit="model"):
        out = Path(args.out, name, "robustness.json")
        inputs = {
            "settings": settings,
            "files": {str(path): sha256(path) for path in (*files, *code)}
            | contents(folder)
            | contents(embedding)
            | contents(nli),
        }
        results[name] = finished(out, inputs)
        if results[name] is None:
            began, verdicts = time.time(), verdicts or Judge(embedding, nli)
            found = attack(folder, rows, frames, others, args)
            items = [{**item, **verdict} for item, verdict in zip(found, judge(found, "forget", verdicts), strict=True)]
            results[name] = summarise(items)
            write_json(
                out,
                {
                    "summary": results[name],
                    "items": items,
                    "inputs": inputs,
                    **record(args, files),
                    "seconds": round(time.time() - began, 1),
                },
            )
        row = results[name]
        print(
            out,
            f"KFR {row['KFR']:.3f}",
            *(f"{attack} {value:.3f}" for attack, value in row["attacks"].items()),
            f"worst {row['worst_KFR']:.3f} ({row['worst_attack']})",
            sep="  ",
        )
    report = Path(args.report or args.out)
    write_text(report / "robustness.md", markdown(results, args.prefix_words))
    picture(results, report / "robustness.png")
