# Sourced: sets PYTHON, and makes .venv with the packages of the requirement files given, once. A PYTHON given from
# outside is kept; without files, as for a plan, any Python of this machine will do.

# Threads of torch spin while they wait for each other. On busy cores that costs ten times the work; alone it gains
# nothing.
if [ -z "${OMP_WAIT_POLICY:-}" ]; then export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-10000}; fi

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' </dev/null 2>/dev/null; }

python_of_this_machine() {
  local candidate
  for candidate in python3.13 python3.12 python3.11 python3 python; do  # a name that is there may still not run
    if new_enough "$candidate"; then echo "$candidate"; return; fi
  done
  echo "error: Python 3.11 or newer is needed, and none was found" >&2
  return 2
}

installed() {  # FILES...: are their packages in .venv, and does its Python, a link to the machine's, still run?
  cat "$@" | cmp -s - ".venv/$#.installed.txt" && new_enough "$PYTHON"
}

if [ -n "${PYTHON:-}" ]; then
  new_enough "$PYTHON" || { echo "error: PYTHON=$PYTHON does not run, or is older than Python 3.11" >&2; exit 2; }
elif [ $# = 0 ]; then
  PYTHON=$(python_of_this_machine) || exit 2
else
  PYTHON=$PWD/.venv/bin/python
  if ! installed "$@" && command -v flock >/dev/null; then  # the run and the tests may be started together
    exec 8<.
    flock -n 8 || { echo "== .venv is being made by another command: waiting"; flock 8; }
  fi
  if ! installed "$@"; then
    if ! new_enough "$PYTHON" || ! "$PYTHON" -m pip --version >/dev/null 2>&1; then  # none, dead, or half made
      system=$(python_of_this_machine) || exit 2
      "$system" -m venv --clear .venv || {
        echo "error: cannot make .venv (on Debian: apt-get install python3-venv)" >&2; exit 2; }
    fi
    echo "== installing $* into .venv"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check $(printf -- '-r %s ' "$@") || {
      echo "error: pip could not install $*: see its message above; check the network and the space on the disk" >&2
      exit 2; }
    cat "$@" >".venv/$#.installed.txt"
  fi
  exec 8<&-
fi
