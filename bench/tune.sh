#!/usr/bin/env bash
# The grid behind scripts/presets/people-smollm2.sh: the same rates for every method, from the vanilla model of a finished
# `bash run_all.sh`. Results: work/tune/<method>@<rate>/, summed up by bench/tuning.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-.venv/bin/python} R=${R:-work/people-smollm2} T=${T:-work/tune} RATES=${RATES:-"3e-4 5e-4 7e-4 1e-3"}
. scripts/presets/people-smollm2.sh

trial() {  # NAME RATE SCRIPT FLAGS...
  local out="$T/$1@$2"
  [ -f "$out/kfr_krr.json" ] && return
  [ -d "$out/model" ] ||
    "$PYTHON" "scripts/$3" --model "$R/models/vanilla" --data "$R/data" --out "$out/model" $TRAIN --lr "$2" "${@:4}"
  "$PYTHON" scripts/30_generate.py --model "$out/model" --questions "$R"/data/{forget,retain}_val.jsonl --out "$out" $GENERATE
  "$PYTHON" eval/01_kfr_krr.py --forget "$out/forget_val.jsonl" --retain "$out/retain_val.jsonl" --out "$out/kfr_krr.json" \
    --embedding "$R/models/minilm"
}
for rate in $RATES; do
  trial ReLearn "$rate" 12_relearn.py --forget "$R/augmented/forget_augmented.jsonl" --epochs 0.9
  for retain in gdr klr; do
    trial "GA+${retain^^}" "$rate" 10_ga.py --retain $retain --epochs 2.5
    trial "NPO+${retain^^}" "$rate" 11_npo.py --retain $retain --epochs 2.5
  done
done
"$PYTHON" - "$T" <<'END'
import json, pathlib, sys
print(f"{'method@rate':16} KFR   KRR   HM")
for file in sorted(pathlib.Path(sys.argv[1]).glob("*@*/kfr_krr.json")):
    kfr, krr = (json.load(open(file))["summary"][name] for name in ("KFR", "KRR"))
    print(f"{file.parent.name:16} {kfr:.2f}  {krr:.2f}  {2 * kfr * krr / (kfr + krr + 1e-9):.2f}")
END
