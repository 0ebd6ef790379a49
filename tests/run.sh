#!/usr/bin/env bash
# Makes .venv with everything the project and its tests need, then runs the tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${PYTHON:-}" ]; then
  PYTHON=$PWD/.venv/bin/python
  if ! cat requirements.txt tests/requirements.txt | cmp -s - .venv/tests-installed.txt; then
    [ -x "$PYTHON" ] || "$(command -v python3.13 python3.12 python3.11 python3 | head -n 1)" -m venv .venv
    "$PYTHON" -m pip install --quiet --disable-pip-version-check -r requirements.txt -r tests/requirements.txt
    cp requirements.txt .venv/installed.txt
    cat requirements.txt tests/requirements.txt >.venv/tests-installed.txt
  fi
fi
exec "$PYTHON" -m pytest -q tests "$@"
