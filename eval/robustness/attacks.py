"""All attacks on one model, and the summary of what they brought back."""

from argparse import Namespace

from lib.files import fail, mean
from lib.generation import continue_texts
from lib.models import load_model
from lib.statistics import asked_by_all, interval

from robustness.precision import PRECISIONS, stored_in
from robustness.questions import TEXTS, attack_items, prompt
from robustness.relearning import relearn, split_pairs

ATTACKS = PRECISIONS + TEXTS
BENIGN = "benign relearning"
TOGETHER = (("none", "prefix", "typos", "paraphrase"), ("role-play",), ("multi-turn",))  # long prompts apart: padding


class Target:
    """One model under attack, and what it is asked."""

    def __init__(
        self, folder: str, rows: list[dict], frames: dict, others: list | None, kept: list | None, args: Namespace
    ):
        """Loads the model; rows, frames, others: see `attack_items`; kept: pairs that are not to be forgotten, or None;
        args: the flags of 10_robustness.py."""
        model, self.tokenizer = load_model(folder, "float32")
        self.model = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
        self.rows = [{**row, "row": at} for at, row in enumerate(rows)]
        self.frames, self.others, self.kept, self.args = frames, others, kept, args

    def items(self, attack, rows=None):
        """The items of an attack on all rows, or on some of them in their own words; "row" says which fact is asked."""
        others = self.others if rows is None else None
        rows = self.rows if rows is None else rows
        items = attack_items(rows, attack, self.frames, others, self.args.prefix_words, self.args.seed)
        return [{**item, "row": row["row"]} for item, row in zip(items, rows, strict=True)]

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
        learn = [("relearning", count, learnt[:count]) for count in args.relearn]
        if self.kept:  # as many pairs and updates, and nothing in them of what is to be forgotten
            chosen = split_pairs(self.kept, [min(max(args.relearn), len(self.kept))], args.seed)[0]
            learn.append((BENIGN, len(chosen), chosen))
        for attack, count, rows in learn:
            asked = [{**item, "attack": attack, "pairs": count} for item in items]
            found += [{**item, "update": 0, "answer": before[item["question"]]} for item in asked]
            pairs = [(row["question"], row["answer"]) for row in rows]
            settings = args.relearn_steps, args.relearn_lr, args.relearn_batch, args.seed
            for step, tuned in relearn(self.model, self.tokenizer, pairs, *settings):
                found += self.answer([{**item, "update": step} for item in asked], tuned)
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


def _leaks(items):
    """The share of answers that state a private value."""
    return mean(item.get("leak", False) for item in items)


def of_attack(items: list[dict], name: str) -> list[dict]:
    return [item for item in items if item["attack"] == name]


def _relearning_curves(items, attack="relearning"):
    """{pairs: {update: items}}."""
    curves = {}
    for item in of_attack(items, attack):
        curves.setdefault(str(item["pairs"]), {}).setdefault(str(item["update"]), []).append(item)
    return curves


def worst_by_fact(items: list[dict]) -> dict:
    """{row: whether its fact stays forgotten whatever is tried}: mean_i min_attack is the share of them. Items without
    a verdict tell nothing."""
    found = {}
    for item in items:
        if "forgotten" in item:
            found[item["row"]] = found.get(item["row"], True) and bool(item["forgotten"])
    return found


def cases(items: list[dict], share) -> dict[str, list[float]]:
    """{"none", attack, "relearning N", "benign relearning": shares of its items}, of relearning one an update."""
    found = {name: [share(part)] for name in ("none", *ATTACKS) if (part := of_attack(items, name))}
    for attack in ("relearning", BENIGN):
        for count, curve in _relearning_curves(items, attack).items():
            name = attack if attack == BENIGN else f"{attack} {count}"
            found[name] = [share(part) for update, part in curve.items() if update != "0"]
    return found


def summarise(items: list[dict]) -> dict:
    """{"KFR", "KFR_95", "leak", "attacks": {name: KFR}, "relearning", "benign": {pairs: {update: KFR}}, "worst_KFR",
    "worst_attack", "worst_KFR_by_fact", "worst_leak", counts}.

    Relearning is judged on the questions that it did not learn from; their KFR before is update 0. The worst cases are
    over the questions that every attack asks: the lowest KFR, min_attack mean_i, "none" where no attack lowers it (of
    relearning the lowest update counts); by fact mean_i min_attack, the share of facts that no attack, wording or
    update brings back; the highest leak. "missing": items without a verdict, where there are any.
    """
    plain, common = of_attack(items, "none"), asked_by_all(items)
    curves, benign = _relearning_curves(items), _relearning_curves(items, BENIGN)
    others = len(next(iter(next(iter(curves.values())).values()))) if curves else 0
    shares = lambda part: {count: {at: _share(one) for at, one in curve.items()} for count, curve in part.items()}
    tried = {name: min(values) for name, values in cases(common, _share).items()}
    worst = min(tried, key=tried.get)
    missing = sum("forgotten" not in item for item in items)
    by_fact = worst_by_fact(common)
    return {
        "KFR": _share(plain),
        "KFR_95": interval([item["forgotten"] for item in plain if "forgotten" in item]),
        "leak": _leaks(plain),
        "attacks": {name: _share(part) for name in ATTACKS if (part := of_attack(items, name))},
        "relearning": shares(curves),
        "benign": shares(benign),
        "worst_KFR": tried[worst],
        "worst_attack": worst,
        "worst_KFR_by_fact": mean(by_fact.values()) if by_fact else None,
        "worst_leak": max(map(max, cases(common, _leaks).values())),
        "questions": len(plain),
        "relearning_questions": others,
        **({"missing": missing} if missing else {}),
    }


def lowest(curve: dict[str, float]) -> float:
    """The lowest KFR of a relearning curve {update: KFR}, its beginning aside."""
    return min(value for update, value in curve.items() if update != "0")
