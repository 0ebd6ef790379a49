# Sourced: makes .venv with the packages of the requirement files given, once, and sets PYTHON. A PYTHON given from outside is kept.
if [ -z "${PYTHON:-}" ]; then
  PYTHON=$PWD/.venv/bin/python
  if ! cat "$@" | cmp -s - ".venv/$#.installed.txt"; then
    if ! "$PYTHON" -c "" 2>/dev/null; then
      system=
      for candidate in python3.13 python3.12 python3.11 python3 python; do  # a name that is there may still not run
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { system=$candidate; break; }
      done
      [ -n "$system" ] || { echo "error: Python 3.11 or newer is needed, and none was found" >&2; exit 2; }
      "$system" -m venv .venv || { echo "error: cannot make .venv (on Debian: apt-get install python3-venv)" >&2; exit 2; }
    fi
    echo "== installing $* into .venv"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check $(printf -- '-r %s ' "$@") || {
      echo "error: pip could not install $*: see its message above; check the network and the space on the disk" >&2; exit 2; }
    cat "$@" >".venv/$#.installed.txt"
  fi
fi
