#!/usr/bin/env bash
# Makes .venv with all that the project and its tests need, checks the style, runs the tests. Arguments go to pytest:
#   bash tests/run.sh                  all of them
#   bash tests/run.sh -m "not slow"    in two minutes, without those that take long
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh requirements.txt tests/requirements.txt
"$PYTHON" -m ruff check --config tests/ruff.toml scripts eval tests bench
"$PYTHON" -m ruff format --check --config tests/ruff.toml scripts eval tests bench
export OMP_NUM_THREADS=1 GOMP_SPINCOUNT=10000  # a test process on each core, none waiting for the others' threads
exec "$PYTHON" -m pytest -q -n auto --dist loadfile tests "$@"
