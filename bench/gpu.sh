#!/usr/bin/env bash
# What one GPU does with this project, in under 9 minutes: training steps at 1B and 7B, generation, FSDP2. One line of
# JSON a measurement.
#   bash bench/gpu.sh      --tiny: with models of two small layers, on a CPU too; --help: what each number is
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
began=$(date +%s)
# a machine that has the packages already needs no virtual environment, and so no network
[ -n "${PYTHON:-}" ] || ! python3 -c "import torch, transformers, peft" 2>/dev/null || PYTHON=python3
. scripts/environment.sh requirements.txt
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS="${OMP_NUM_THREADS:-4}"
exec "$PYTHON" bench/gpu.py --began "$began" "$@"
