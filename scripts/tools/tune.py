"""Chooses a method's learning rate: trains it at every rate of a grid, asks each model the questions to tune on, keeps
the best HM.

HM is the harmonic mean of KFR and KRR on forget_tune and retain_tune; with equal HM the lower rate wins. Where the
command has --keep K, each rate is tried at K points of its training and judged by its best, as choose.py takes it: by
the harmonic mean of KFR_strict and KRR. Every method gets the same grid. A finished trial is repeated only if its
command, data, models or scripts have changed. The choice is left as tune.json, and as a line in choice.sh: LR[name] is
the rate, TRIED[name] how many were tried, 3x4 where each was at four points. After -- comes the method's own command:

    python scripts/tools/tune.py --name GA+GDR --rates 3e-4 5e-4 7e-4 --model M --data D --out T -- scripts/10_ga.py
    --retain gdr
"""

import shutil
from pathlib import Path

from lib.criteria import CRITERION, harmonic, tuned_on_asked
from lib.files import REPOSITORY, fail, read_json, record, sha256, write_json, write_text
from lib.flags import Parser, words_of
from lib.sources import sources

from choose import GENERATE, JUDGE, best, judged, path_of, points, run


def basis(args):
    """What a trial's numbers rest on beside the rate: the command, and the content of data, models and scripts."""
    names = ("*.safetensors", "config.json", "tokenizer*.json", "chat_template.jinja")
    files = {
        *(path for name in names for path in Path(args.model).glob(name)),
        *Path(args.data).glob("*_t*.jsonl"),
        *(REPOSITORY / "data/nli").glob("*.safetensors"),
        *(path for script in (args.command[0], GENERATE, JUDGE) for path in sources(REPOSITORY / script)),
        REPOSITORY / "data/refusals.json",  # which a method's script reads unnamed
        *sources(__file__),  # by what one point is better than another
    }
    for flag in (*args.command[1:], *words_of("--judge", args.judge)):
        path = REPOSITORY / flag
        files |= set(path.glob("*.safetensors")) if path.is_dir() else {path} if path.is_file() else set()
    return {
        "command": args.command,
        "generate": args.generate,
        "judge": args.judge,
        "files": {str(path): sha256(path) for path in sorted(files)},
    }


def check_place(folder):
    """Ends the program where a trial's folder holds what no trial left: it would be deleted."""
    if (
        folder.exists()
        and not (folder / "basis.json").is_file()
        and not (folder.is_dir() and not any(folder.iterdir()))
    ):
        fail(f"{folder}: is no folder of a trial that was made here, and would be lost: give another --out")


def trial(rate, args, made):
    """KFR and KRR of the method at one rate, from its earlier trial if that had the same basis."""
    out = Path(args.out).resolve() / rate
    kept = any(word.partition("=")[0] == "--keep" for word in args.command)
    if not ((out / "basis.json").is_file() and read_json(out / "basis.json") == made):
        shutil.rmtree(out, ignore_errors=True)
    if not (out / "trial.json").is_file():
        data = Path(args.data).resolve()
        write_json(out / "basis.json", made)
        run(*args.command, "--model", Path(args.model).resolve(), "--data", data, "--lr", rate, "--out", out / "model")
        found = points(out / "model")
        models = {out / str(update) if kept else out: folder for update, folder in found.items()}
        summaries = judged(models, data, args.generate, args.judge)
        write_json(out / "trial.json", {"points": path_of(dict(zip(found, summaries, strict=True)))})
        shutil.rmtree(out / "model")
    path = read_json(out / "trial.json")["points"]
    point = best(path) if kept else path[-1]
    found = {"lr": rate, "KFR": point["KFR"], "KRR": point["KRR"], "HM": harmonic(point["KFR"], point["KRR"])}
    return {**found, CRITERION: point[CRITERION], "update": point["update"], "points": path} if kept else found


if __name__ == "__main__":
    parser = Parser(__doc__, files=lambda args: [Path(args.out, "tune.json")])
    parser.add_argument("--name", required=True, help="the method's name in run_all.sh")
    parser.add_argument("--rates", required=True, nargs="+", help="learning rates to try")
    parser.add_argument("--model", required=True, help="folder of the vanilla model")
    parser.add_argument("--data", required=True, help="folder made by 01_data.py")
    parser.add_argument("--out", required=True, help="folder for the trials, tune.json and choice.sh")
    parser.add_argument("--generate", default="", help="flags for 30_generate.py, in one text")
    parser.add_argument("--judge", default="", help="flags for eval/01_kfr_krr.py, in one text")
    parser.add_argument("command", nargs="+", help="after --: the method's script and its flags")
    args = parser.parse_args()
    try:
        rates = sorted(set(args.rates), key=float)
    except ValueError:
        fail(f"--rates must be numbers, not {' '.join(args.rates)}")
    if not (REPOSITORY / args.command[0]).is_file():
        fail(f"{args.command[0]}: no such script; after -- comes the method's command, scripts/10_ga.py --retain gdr")

    words_of("--generate", args.generate)  # a fault in it is told now, not after the first training
    for rate in rates:
        check_place(Path(args.out) / rate)
    made = basis(args)
    trials = [trial(rate, args, made) for rate in rates]
    chosen = max(trials, key=lambda one: (round(one.get(CRITERION, one["HM"]), 6), -float(one["lr"])))
    for one in trials:
        print(
            f"{args.name:14} lr {one['lr']:8} KFR {one['KFR']:.3f}  KRR {one['KRR']:.3f}  HM {one['HM']:.3f}"
            + (f"  at update {one['update']}, HM strict {one[CRITERION]:.3f}" if "update" in one else "")
            + ("  <- chosen" if one is chosen else "")
        )
    at = lambda one: f"{one['lr']}@{one['update']}" if "update" in one else one["lr"]
    shown = " ".join(f"{at(one)}:{one['KFR']:.2f}/{one['KRR']:.2f}" for one in trials)
    found = {"method": args.name, "chosen": chosen["lr"], "tuned_on_asked": tuned_on_asked(args.data), "trials": trials}
    write_json(Path(args.out) / "tune.json", {**found, **record(args)})
    choice = f"LR[{args.name}]={chosen['lr']} TRIED[{args.name}]={len(trials)}"
    if "points" in chosen:
        choice += f"x{len(chosen['points'])}"
    write_text(Path(args.out) / "choice.sh", f"{choice}  # KFR/KRR to tune on: {shown}\n")
