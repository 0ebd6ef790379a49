"""How far the judge agrees with readers: its verdicts on the answers of data/judged.jsonl, beside theirs.

Each answer was read twice, without sight of method or verdict, and a third time where the two readers differed:
whether it tells the fact that is asked for (told, partly, not), states a private value whole, and says something
false. A forget answer that tells is not forgotten, a retain answer that tells is retained; partly told ones are left
out. Half of the answers ("dev") were at hand while the judge was made; the other half ("test") was looked at once, at
the end. Texts of
KnowUnDo and TOFU are not in this repository: --sets names folders with their files, else `people` alone is compared.
"""

from argparse import Namespace
from collections import defaultdict
from pathlib import Path

from lib.files import REPOSITORY, fail, write_results
from lib.flags import Parser
from lib.formats import objects, read_pairs, text_of
from lib.judge import judge
from lib.judge_flags import add_flags, entity_finder, load_judge
from lib.leak import note_leaks

VERDICTS = {"forget": ("KFR", "forgotten", "not"), "retain": ("KRR", "retained", "told")}
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


def wilson(hits: int, count: int) -> list[float]:
    """95 % interval of a share (Wilson 1927)."""
    z = 1.96
    middle = (hits + z * z / 2) / (count + z * z)
    spread = z * (hits * (count - hits) / count + z * z / 4) ** 0.5 / (count + z * z)
    return [round(max(0.0, middle - spread), 3), round(min(1.0, middle + spread), 3)]


def compared(items: list[dict], model, find) -> list[dict]:
    """A dict a comparison: set, half, method, measure, whether judge and readers agree, and whether two readers did."""
    found = []
    for side, (name, verdict, hoped) in VERDICTS.items():
        part = [item for item in items if item["side"] == side]
        for item, scored in zip(part, judge(part, side, model, find), strict=True):
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
            "interval": wilson(hits, len(part)),
            "readers": round(sum(readers) / len(readers), 3) if readers else None,
        }
    return summary


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
    found = compared(items, load_judge(args), entity_finder(args, texts))
    summary = summarise(found)
    shown = ("set", "side", "method", "half", "question", "reference", "answer", "told", "E", "covered", "contradicted")
    wrong = [
        {"measure": one["measure"], **{field: one["item"].get(field) for field in shown}}
        for one in found
        if not one["agree"]
    ]
    write_results(args.out, summary, wrong, args, [args.judged])
    for name, row in summary.items():
        low, high = row["interval"]
        readers = "" if row["readers"] is None else f"  readers {row['readers']:.3f}"
        print(f"{name:32} {row['agree']:4} of {row['of']:4}  {row['share']:.3f} [{low:.2f}, {high:.2f}]{readers}")


if __name__ == "__main__":
    main(parser().parse_args())
