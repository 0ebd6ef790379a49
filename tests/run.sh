#!/usr/bin/env bash
# Makes .venv with everything the project and its tests need, then runs the tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh requirements.txt tests/requirements.txt
export OMP_NUM_THREADS=1   # a test process on each core, none of them waiting for the others' threads
exec "$PYTHON" -m pytest -q -n auto --dist loadfile tests "$@"
