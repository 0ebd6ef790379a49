"""Chooses the best point of a method's training: asks the model of each the questions to tune on, and keeps the best.

A training with --keep K leaves K models of its path, evenly apart, the last its end. All are asked the questions of
forget_tune and retain_tune in one go, and judged in one. The one with the highest criterion (lib/criteria.py: the
harmonic mean of KFR_strict and KRR) becomes the method's model, of equal ones the earliest. select.json beside it holds
the whole path; the answers and verdicts of every point are in --answers, a folder for each.

    python scripts/tools/choose.py --points R/trained/GA --data R/data --out R/methods/GA --answers R/select/GA
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lib.criteria import CRITERION, strict_hm, tuned_on_asked
from lib.files import REPOSITORY, fail, new_folder, read_json, read_object, record, write_json, writing
from lib.flags import Parser, count, words_of

GENERATE, JUDGE = "scripts/30_generate.py", "eval/01_kfr_krr.py"


def run(*command):
    """Runs a script of this repository; its fault has been told, its status is ours."""
    status = subprocess.run([sys.executable, *map(str, command)], cwd=REPOSITORY).returncode
    if status:
        raise SystemExit(status)


def points(folder):
    """{update: model folder} of a finished training, in their order; the last is the folder itself."""
    folder = Path(folder).resolve()
    if not (folder / "training.json").is_file():
        fail(f"{folder}: no training.json: give a finished training's folder")
    updates = read_object(folder / "training.json").get("updates")
    if not isinstance(updates, list) or not updates:
        fail(f"{folder / 'training.json'}: holds no updates")
    kept = {int(path.name): path for path in folder.glob("points/*") if path.name.isdecimal()}
    return {**dict(sorted(kept.items())), len(updates): folder}


def judged(models, data, generate, judge):
    """Asks models the questions to tune on and judges their answers, all in one go.

    Args:
        models: {folder for answers and kfr_krr.json: model folder}. data: the data folder. generate, judge: flags for
        30_generate.py and eval/01_kfr_krr.py, in one text each.
    Returns:
        the summaries, in the order of models.
    """
    generate, judge = words_of("--generate", generate), words_of("--judge", judge)  # before anything slow
    sides = [Path(data).resolve() / f"{side}_tune.jsonl" for side in ("forget", "retain")]
    metrics = [out / "kfr_krr.json" for out in models]
    run(GENERATE, "--model", *models.values(), "--questions", *sides, "--out", *models, *generate)
    forget, retain = ([out / side.name for out in models] for side in sides)
    run(JUDGE, "--forget", *forget, "--retain", *retain, "--out", *metrics, *judge)
    return [read_json(path)["summary"] for path in metrics]


def path_of(summaries):
    """[{"update", "KFR", "KFR_strict", "leak", "KRR", CRITERION}] of {update: summary}, in their order."""
    names = ("KFR", "KFR_strict", "leak", "KRR")
    return [
        {"update": update, **{name: summary[name] for name in names}, CRITERION: strict_hm(summary)}
        for update, summary in summaries.items()
    ]


def best(path):
    """The point with the highest criterion, of equal ones the earliest."""
    return max(path, key=lambda point: (round(point[CRITERION], 6), -point["update"]))


def link(source, target):
    """A second name for a file, where the disk allows one: a whole model need not lie there twice."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


if __name__ == "__main__":
    parser = Parser(__doc__, folder="model", shared=("answers",))
    parser.add_argument("--points", required=True, help="folder of a training with --keep")
    parser.add_argument("--data", required=True, help="folder made by 01_data.py")
    parser.add_argument("--out", required=True, help="folder for the chosen model and select.json")
    parser.add_argument("--answers", required=True, help="folder for the answers and verdicts of every point")
    parser.add_argument("--rates", type=count, default=1, help="learning rates that were tried before, for the record")
    parser.add_argument(
        "--points-a-rate", type=count, default=1, help="points of a training that each of them was tried at, likewise"
    )
    parser.add_argument("--generate", default="", help="flags for 30_generate.py, in one text")
    parser.add_argument("--judge", default="", help="flags for eval/01_kfr_krr.py, in one text")
    args = parser.parse_args()

    found, answers = points(args.points), Path(args.answers).resolve()
    models = {answers / str(update): folder for update, folder in found.items()}
    summaries = judged(models, args.data, args.generate, args.judge)
    path = path_of(dict(zip(found, summaries, strict=True)))
    chosen = best(path)
    for point in path:
        print(
            f"{Path(args.out).name:14} update {point['update']:5}  KFR strict {point['KFR_strict']:.3f}  "
            f"KRR {point['KRR']:.3f}  {CRITERION} {point[CRITERION]:.3f}" + ("  <- chosen" if point is chosen else "")
        )
    folder = found[chosen["update"]]
    asked = [Path(args.data, f"{side}_tune.jsonl") for side in ("forget", "retain")]
    files = [*sorted(folder.glob("*.safetensors")), *asked]
    with new_folder(args.out) as partial:
        with writing(partial):
            for file in folder.iterdir():
                if file.is_file():
                    link(file, partial / file.name)
        write_json(
            partial / "select.json",
            {
                "criterion": CRITERION,
                "chosen": chosen["update"],
                "of": max(found),
                "tuned_on_asked": tuned_on_asked(args.data),
                "budget": {"rates": args.rates, "points_a_rate": args.points_a_rate, "points": len(found)},
                "points": path,
                **record(args, files),
            },
        )
    print(f"wrote {args.out}: update {chosen['update']} of {max(found)}")
