"""All attacks on one model, and the summary of what they brought back."""

import json
from argparse import Namespace
from pathlib import Path

from lib.files import fail, mean, sha256
from lib.generation import continue_texts
from lib.judge import interval
from lib.models import base_model, load_model

from robustness.precision import PRECISIONS, stored_in
from robustness.questions import TEXTS, attack_items, prompt
from robustness.relearning import relearn, split_pairs

ATTACKS = PRECISIONS + TEXTS
TOGETHER = (("none", "prefix", "typos", "paraphrase"), ("role-play",), ("multi-turn",))  # long prompts apart: padding


class Target:
    """One model under attack, and what it is asked."""

    def __init__(self, folder: str, rows: list[dict], frames: dict, others: list | None, args: Namespace):
        """Loads the model; rows, frames, others: see `attack_items`; args: the flags of 10_robustness.py."""
        model, self.tokenizer = load_model(folder, "float32")
        self.model = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
        self.rows, self.frames, self.others, self.args = rows, frames, others, args

    def items(self, attack, rows=None):
        """The items of an attack on all rows, or on some of them in their own words."""
        others = self.others if rows is None else None
        rows = self.rows if rows is None else rows
        return attack_items(rows, attack, self.frames, others, self.args.prefix_words, self.args.seed)

    def answer(self, items, model=None):
        """The items with the model's greedy answers; model: another one than the target's own, or as it is now."""
        prompts = [prompt(self.tokenizer, item) for item in items]
        size = self.args.batch, self.args.max_new_tokens
        texts = continue_texts(prompts, model or self.model, self.tokenizer, *size)
        return [{**item, "answer": text} for item, text in zip(items, texts, strict=True)]

    def by_questions(self):
        """No attack, and all that change the question."""
        found = []
        for names in TOGETHER:
            items = [item for name in names if name in ("none", *self.args.attacks) for item in self.items(name)]
            found += self.answer(items) if items else []
        return found

    def by_precision(self):
        """The plain questions to rounded weights."""
        found = []
        for name in PRECISIONS:
            if name in self.args.attacks:
                with stored_in(self.model, name):
                    found += self.answer([{**item, "attack": name} for item in self.items("none")])
        return found

    def by_relearning(self, before):
        """Pairs that are asked while others are learnt again. before: {question: the answer without an attack}."""
        if not self.args.relearn:
            return []
        args, found = self.args, []
        learnt, rest = split_pairs(self.rows, args.relearn, args.seed)
        items = self.items("relearning", rest)
        for count in args.relearn:
            found += [{**item, "pairs": count, "update": 0, "answer": before[item["question"]]} for item in items]
            pairs = [(row["question"], row["answer"]) for row in learnt[:count]]
            settings = args.relearn_steps, args.relearn_lr, args.relearn_batch, args.seed
            for step, tuned in relearn(self.model, self.tokenizer, pairs, *settings):
                found += self.answer([{**item, "pairs": count, "update": step} for item in items], tuned)
        return found

    def attack(self) -> list[dict]:
        """Every attack: items with the question, what was asked and what the model answered; not judged yet."""
        found = self.by_questions()
        before = {row["question"]: item["answer"] for row, item in zip(self.rows, found)}
        return [*found, *self.by_precision(), *self.by_relearning(before)]


# ---------------------------------------------------------------- the summary


def _share(items):
    """The share of forgotten facts among the items that have a verdict: a language model may list no entities."""
    judged = [item["forgotten"] for item in items if "forgotten" in item]
    if not judged:
        name = items[0]["attack"]
        fail(f"{name}: the language model listed no answer's entities in a usable reply: try another --judge-model")
    return mean(judged)


def _relearning_curves(items):
    """{pairs: {update: items}}."""
    curves = {}
    for item in items:
        if item["attack"] == "relearning":
            curves.setdefault(str(item["pairs"]), {}).setdefault(str(item["update"]), []).append(item)
    return curves


def summarise(items: list[dict]) -> dict:
    """{"KFR", "KFR_95", "attacks": {name: KFR}, "relearning": {pairs: {update: KFR}}, "worst_KFR", "worst_attack",
    counts}.

    Relearning is judged on the questions that it did not learn from; their KFR before is update 0. The worst case is
    the lowest KFR of all, "none" where no attack lowers it; of relearning the lowest update counts. "missing": items
    without a verdict, where there are any.
    """
    plain = [item for item in items if item["attack"] == "none"]
    attacks = {name: _share(part) for name in ATTACKS if (part := [item for item in items if item["attack"] == name])}
    curves = _relearning_curves(items)
    others = len(next(iter(next(iter(curves.values())).values()))) if curves else 0
    curves = {count: {update: _share(part) for update, part in curve.items()} for count, curve in curves.items()}
    after = {f"relearning {count}": lowest(curve) for count, curve in curves.items()}
    cases = {"none": _share(plain), **attacks, **after}
    worst = min(cases, key=cases.get)
    missing = sum("forgotten" not in item for item in items)
    return {
        "KFR": cases["none"],
        "KFR_95": interval([item["forgotten"] for item in plain if "forgotten" in item]),
        "attacks": attacks,
        "relearning": curves,
        "worst_KFR": cases[worst],
        "worst_attack": worst,
        "questions": len(plain),
        "relearning_questions": others,
        **({"missing": missing} if missing else {}),
    }


def lowest(curve: dict[str, float]) -> float:
    """The lowest KFR of a relearning curve {update: KFR}, its beginning aside."""
    return min(value for update, value in curve.items() if update != "0")


# ---------------------------------------------------------------- what was done before


def contents(folder: str) -> dict[str, str]:
    """Hashes of a model folder's files, those of an adapter's base too; a hub id stands for itself."""
    if not Path(folder).is_dir():
        return {str(folder): "hub"}
    found = {str(path): sha256(path) for path in sorted(Path(folder).iterdir()) if path.is_file()}
    return found | contents(base) if (base := base_model(folder)) != str(folder) else found


def finished(path: Path, inputs: dict) -> dict | None:
    """The summary of an earlier run from the same inputs, or None."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found["summary"] if found["inputs"] == inputs else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
