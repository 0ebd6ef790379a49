"""How far the judge agrees with readers: its verdicts on the answers of data/judged.jsonl, beside theirs.

Each answer was read twice, without sight of method or verdict, and a third time where the two readers differed:
whether it tells the fact that is asked for (told, partly, not), states a private value whole, and says something
false. A forget answer that tells is not forgotten, a retain answer that tells is retained; partly told ones are left
out. Both halves ("dev", on which the one threshold was set, and "test") were at hand while the judge was made. Texts of
KnowUnDo and TOFU are not in this repository: --sets names folders with their files, else `people` alone is compared.
Beside the file to write, reliability.png shows how often readers call an answer told at each value of E and of the
entailment model's contradiction.
"""

from argparse import Namespace
from collections import defaultdict
from pathlib import Path

from lib.files import REPOSITORY, fail, mean, write_results
from lib.flags import Parser
from lib.formats import objects, read_pairs, text_of
from lib.judge import CONTRADICTS, THRESHOLD, judge_together
from lib.judge_flags import add_flags, entity_finder, load_judge
from lib.leak import note_leaks
from lib.plots import COLOURS, INK, pyplot, write_figure
from lib.statistics import wilson

VERDICTS = {"forget": ("KFR", "forgotten", "not"), "retain": ("KRR", "retained", "told")}
BINS = 8  # of the reliability plot
FILES = {"unlearn_val": "forget_val", "retention_val": "retain_val"}  # KnowUnDo's names, ours


def read_judged(path: str, folders: list[str]) -> list[dict]:
    """The judged answers whose questions are at hand, each with question, reference, answer and what readers said.

    Args:
        folders: SET=FOLDER of published data sets.
    """
    where = dict(folder.split("=", 1) for folder in folders if "=" in folder)
    if len(where) < len(folders):
        fail("--sets: give SET=FOLDER, as knowundo=my/folder")
    items, pairs = [], {}
    for place, row in objects(path):
        if not judged_row(row):
            fail(f"{place}: not a judged answer as data/README.md has them")
        if "question" not in row:
            if row["set"] not in where:
                continue
            key = row["set"], row["file"]
            pairs[key] = pairs.get(key) or read_pairs(found_file(where[row["set"]], row["file"]))
            if row["row"] >= len(pairs[key]):
                fail(f"{place}: {row['file']} has no row {row['row']}")
            pair = pairs[key][row["row"]]
            row |= {"question": pair["question"], "reference": pair["answer"]}
        items.append({**row, "answer": row["answer"], "question": text_of(place, row, "question")})
    return items or fail(f"{path}: no answer whose question is at hand")


def judged_row(row: dict) -> bool:
    """Has a row all that is compared, in the types that it needs?"""
    texts = ["set", "side", "method", "half", "told", "answer", *(["reference"] if "question" in row else ["file"])]
    readers = row.get("readers")
    return (
        all(isinstance(row.get(name), str) for name in texts)
        and row["side"] in VERDICTS
        and row["method"].strip()
        and ("question" in row or type(row.get("row")) is int and row["row"] >= 0)
        and (row["side"] == "retain" or isinstance(row.get("leak"), bool))
        and isinstance(readers, list)
        and len(readers) > 1
        and all(
            isinstance(one, list) and len(one) > 1 and all(isinstance(word, str) for word in one) for one in readers
        )
    )


def found_file(folder: str, name: str) -> Path:
    """A data set's file, under its own name or ours."""
    names = [f"{stem}{ending}" for stem in (name, FILES.get(name, name)) for ending in (".json", ".jsonl")]
    found = next((path for name in names for path in sorted(Path(folder).rglob(name))), None)
    return found or fail(f"{folder}: holds none of {', '.join(names)}")


def compared(items: list[dict], model, find, released: bool = False) -> list[dict]:
    """A dict a comparison: set, half, method, measure, whether judge and readers agree, and whether two readers did."""
    found = []
    parts = [([item for item in items if item["side"] == side], side) for side in VERDICTS]
    for (part, side), judged in zip(parts, judge_together(parts, model, find, released), strict=True):
        name, verdict, hoped = VERDICTS[side]
        for item, scored in zip(part, judged, strict=True):
            item |= scored
            readers = [reader[0] for reader in item["readers"][:2]]
            if verdict in scored and item["told"] != "partly":
                alike = {"readers_agree": readers[0] == readers[1]} if "partly" not in readers else {}
                found.append(
                    {"measure": name, "agree": scored[verdict] == (item["told"] == hoped), "item": item, **alike}
                )
    leaky = [dict(item) for item in items if item["side"] == "forget"]
    for item in leaky:
        item.pop("leak", None)
    note_leaks(leaky)
    for item, scored in zip((item for item in items if item["side"] == "forget"), leaky, strict=True):
        readers = [reader[1] for reader in item["readers"][:2]]
        found.append(
            {
                "measure": "leak",
                "agree": scored["leak"] == item["leak"],
                "item": item,
                "readers_agree": readers[0] == readers[1],
            }
        )
    return found


def summarise(found: list[dict]) -> dict:
    """{"set measure half": {"agree", "of", "share", "interval", "readers"}}, and by method."""
    groups = defaultdict(list)
    for one in found:
        item = one["item"]
        groups[f"{item['set']} {one['measure']} {item['half']}"].append(one)
        groups[f"{item['set']} {one['measure']} both halves"].append(one)
        if one["measure"] != "leak":
            groups[f"method {item['method'].split()[0]}"].append(one)
    summary = {}
    for name, part in sorted(groups.items()):
        hits, readers = (
            sum(one["agree"] for one in part),
            [one["readers_agree"] for one in part if "readers_agree" in one],
        )
        summary[name] = {
            "agree": hits,
            "of": len(part),
            "share": round(hits / len(part), 3),
            "interval": [round(end, 3) for end in wilson(hits, len(part))],
            "readers": round(sum(readers) / len(readers), 3) if readers else None,
        }
    return summary


def reliability(found: list[dict], model, path: Path):
    """The share of answers that readers call told, with 95 % intervals (Wilson), against E and against the probability
    of a contradiction that the entailment model gives to the two texts as a whole, the reference first. Bins of equal
    width; the numbers are answers."""
    plt = pyplot()
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True)
    told = [(one["item"], one["item"]["told"] == "told") for one in found if one["measure"] in ("KFR", "KRR")]
    pair = lambda item: (item["reference"], item["answer"])
    asked = model.ask([pair(item) for item, _ in told])
    for axis, label, value, threshold in (
        (panels[0], "E: share of the facts that the answer states", lambda item: item["E"], THRESHOLD),
        (panels[1], "probability of a contradiction", lambda item: asked[pair(item)]["contradiction"], CONTRADICTS),
    ):
        for colour, name in zip(COLOURS, sorted({item["set"] for item, _ in told})):
            bins = defaultdict(list)
            for item, yes in told:
                if item["set"] == name:
                    bins[min(int(value(item) * BINS), BINS - 1)].append((value(item), yes))
            points = [(mean(at for at, _ in part), sum(yes for _, yes in part), len(part)) for part in bins.values()]
            for at, hits, count in points:
                low, high = wilson(hits, count)
                axis.plot([at, at], [low, high], color=colour, linewidth=1)
                axis.annotate(str(count), (at, hits / count), (3, 3), textcoords="offset points", fontsize=7)
            axis.plot(*zip(*((at, hits / count) for at, hits, count in sorted(points))), "o", color=colour, label=name)
        axis.axvline(threshold, color=INK, linewidth=0.8, linestyle=":")
        axis.set(xlabel=label, xlim=(-0.03, 1.03), ylim=(-0.03, 1.06))
    panels[0].set_ylabel("share that readers call told")
    panels[1].legend()
    write_figure(path, figure)


def parser() -> Parser:
    made = Parser(__doc__)
    made.add_argument("--judged", default=str(REPOSITORY / "data/judged.jsonl"), help="judged answers (default: ours)")
    made.add_argument(
        "--sets", nargs="*", default=[], metavar="SET=FOLDER", help="published sets: knowundo=FOLDER tofu=FOLDER"
    )
    made.add_argument("--half", choices=("dev", "test", "both"), default="both", help="which half (default: both)")
    made.add_argument("--out", required=True, metavar="FILE", help="JSON to write: summary, disagreements, origin")
    add_flags(made)
    return made


def main(args: Namespace):
    items = [item for item in read_judged(args.judged, args.sets) if args.half in ("both", item["half"])]
    texts = [text for item in items for text in (item["reference"], item["answer"])]
    model = load_judge(args)
    found = compared(items, model, entity_finder(args, texts), args.as_released)
    summary = summarise(found)
    shown = ("set", "side", "method", "half", "question", "reference", "answer", "told", "E", "covered", "contradicted")
    wrong = [
        {"measure": one["measure"], **{field: one["item"].get(field) for field in shown}}
        for one in found
        if not one["agree"]
    ]
    write_results(args.out, summary, wrong, args, [args.judged])
    reliability(found, model, Path(args.out).with_name("reliability.png"))
    for name, row in summary.items():
        low, high = row["interval"]
        readers = "" if row["readers"] is None else f"  readers {row['readers']:.3f}"
        print(f"{name:32} {row['agree']:4} of {row['of']:4}  {row['share']:.3f} [{low:.2f}, {high:.2f}]{readers}")


if __name__ == "__main__":
    main(parser().parse_args())
