"""Chooses a method's learning rate: trains it at every rate of a grid, asks each model the questions to tune on, keeps
the best HM.

HM is the harmonic mean of KFR and KRR on forget_tune and retain_tune; with equal HM the lower rate wins. Every method
gets the same grid. A finished trial is repeated only if its command, data, models or scripts have changed. The choice
is left as tune.json, and as a line LR[name]=rate in choice.sh. Everything after -- is the method's own command:

    python scripts/tools/tune.py --name GA+GDR --rates 3e-4 5e-4 7e-4 --model M --data D --out T -- scripts/10_ga.py
    --retain gdr
"""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from lib.files import REPOSITORY, fail, read_json, record, sha256, write_json, write_text
from lib.flags import Parser

from sources import sources

GENERATE, JUDGE = "scripts/30_generate.py", "eval/01_kfr_krr.py"


def harmonic(kfr, krr):
    return 2 * kfr * krr / (kfr + krr) if kfr + krr else 0.0


def run(*command):
    """Runs a script of this repository; its fault has been told, its status is ours."""
    status = subprocess.run([sys.executable, *map(str, command)], cwd=REPOSITORY).returncode
    if status:
        raise SystemExit(status)


def basis(args):
    """What a trial's numbers rest on beside the rate: the command, and the content of data, models and scripts."""
    files = {
        *Path(args.model).glob("*.safetensors"),
        *Path(args.data).glob("*_t*.jsonl"),
        *(REPOSITORY / "data/nli").glob("*.safetensors"),
        *(path for script in (args.command[0], GENERATE, JUDGE) for path in sources(REPOSITORY / script)),
    }
    for flag in args.command[1:]:
        path = REPOSITORY / flag
        files |= set(path.glob("*.safetensors")) if path.is_dir() else {path} if path.is_file() else set()
    return {
        "command": args.command,
        "generate": args.generate,
        "judge": args.judge,
        "files": {str(path): sha256(path) for path in sorted(files)},
    }


def trial(rate, args, made):
    """KFR and KRR of the method at one rate, from its earlier trial if that had the same basis."""
    out = Path(args.out).resolve() / rate
    metrics = out / "kfr_krr.json"
    if not ((out / "basis.json").is_file() and read_json(out / "basis.json") == made):
        shutil.rmtree(out, ignore_errors=True)
    if not metrics.is_file():
        data = Path(args.data).resolve()
        write_json(out / "basis.json", made)
        run(*args.command, "--model", Path(args.model).resolve(), "--data", data, "--lr", rate, "--out", out / "model")
        questions = [data / "forget_tune.jsonl", data / "retain_tune.jsonl"]
        run(GENERATE, "--model", out / "model", "--questions", *questions, "--out", out, *shlex.split(args.generate))
        run(
            JUDGE,
            "--forget",
            out / "forget_tune.jsonl",
            "--retain",
            out / "retain_tune.jsonl",
            "--out",
            metrics,
            *shlex.split(args.judge),
        )
        shutil.rmtree(out / "model")
    summary = read_json(metrics)["summary"]
    return {"lr": rate, "KFR": summary["KFR"], "KRR": summary["KRR"], "HM": harmonic(summary["KFR"], summary["KRR"])}


if __name__ == "__main__":
    parser = Parser(__doc__, files=lambda args: [Path(args.out, "tune.json")])
    parser.add_argument("--name", required=True, help="the method's name in run_all.sh")
    parser.add_argument("--rates", required=True, nargs="+", help="learning rates to try")
    parser.add_argument("--model", required=True, help="vanilla model")
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

    made = basis(args)
    trials = [trial(rate, args, made) for rate in rates]
    best = max(trials, key=lambda one: (round(one["HM"], 6), -float(one["lr"])))
    for one in trials:
        print(
            f"{args.name:14} lr {one['lr']:8} KFR {one['KFR']:.3f}  KRR {one['KRR']:.3f}  HM {one['HM']:.3f}"
            + ("  <- chosen" if one is best else "")
        )
    shown = " ".join(f"{one['lr']}:{one['KFR']:.2f}/{one['KRR']:.2f}" for one in trials)
    write_json(
        Path(args.out) / "tune.json", {"method": args.name, "chosen": best["lr"], "trials": trials, **record(args)}
    )
    write_text(Path(args.out) / "choice.sh", f"LR[{args.name}]={best['lr']}  # KFR/KRR to tune on: {shown}\n")
