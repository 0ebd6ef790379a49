#!/usr/bin/env bash
# The grid behind scripts/presets/people-smollm2.sh: the same rates for every method, from the vanilla model of a finished
# `bash run_all.sh`. Results: work/tune/<method>@<rate>/, summed up by bench/tuning.md. Two trainings at a time, one thread each.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-.venv/bin/python} R=${R:-work/people-smollm2} T=${T:-work/tune} RATES=${RATES:-"1e-4 3e-4 1e-3"}
export PYTHON R T OMP_NUM_THREADS=1
. scripts/presets/people-smollm2.sh
export TRAIN GENERATE

trial() {  # NAME RATE SCRIPT FLAGS...
  local out="$T/$1@$2"
  [ -f "$out/kfr_krr.json" ] && return
  "$PYTHON" "scripts/$3" --model "$R/models/vanilla" --data "$R/data" --out "$out/model" $TRAIN --lr "$2" "${@:4}" &&
  "$PYTHON" scripts/20_generate.py --model "$out/model" --questions "$R"/data/{forget,retain}_val.jsonl --out "$out" $GENERATE &&
  "$PYTHON" eval/02_linguistic.py --answers "$out"/{forget,retain}_val.jsonl --out "$out"/ls_{forget,retain}.json --model "$R/models/base" &&
  "$PYTHON" eval/01_kfr_krr.py --forget "$out/forget_val.jsonl" --retain "$out/retain_val.jsonl" --out "$out/kfr_krr.json" \
    --embedding "$R/models/minilm"
}
export -f trial
for rate in $RATES; do
  for retain in gdr klr; do
    echo "GA+${retain^^} $rate 10_ga.py --retain $retain --epochs ${EPOCHS:-5}"
    echo "NPO+${retain^^} $rate 11_npo.py --retain $retain --epochs ${EPOCHS:-5}"
  done
  echo "ReLearn $rate 12_relearn.py --forget $R/augmented/forget_augmented.jsonl --epochs ${RELEARN_EPOCHS:-1}"
done | grep -E "${ONLY:-.}" | xargs -P 2 -I{} bash -c 'trial {} >"$T.log.$$" 2>&1 || { cat "$T.log.$$" >&2; exit 1; }'
"$PYTHON" - "$T" <<'END'
import json, pathlib, sys
print(f"{'method@rate':16} KFR   KRR   HM    LS F  LS R")
for folder in sorted(pathlib.Path(sys.argv[1]).glob("*@*")):
    if (folder / "kfr_krr.json").exists():
        kfr, krr = (json.load(open(folder / "kfr_krr.json"))["summary"][name] for name in ("KFR", "KRR"))
        ls = [json.load(open(folder / f"ls_{side}.json"))["summary"]["LS"] for side in ("forget", "retain")]
        print(f"{folder.name:16} {kfr:.2f}  {krr:.2f}  {2 * kfr * krr / (kfr + krr + 1e-9):.2f}  {ls[0]:.3f} {ls[1]:.3f}")
END
