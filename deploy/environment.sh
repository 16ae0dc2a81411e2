# Sourced by run_local.sh and run_tests.sh: makes .venv with Python 3.11 to 3.13 and the locked packages, once.

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python; do
    if [[ -n $candidate ]] && "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "auditlake needs Python 3.11, 3.12 or 3.13; none was found: install one, or name it in PYTHON" >&2
  return 1
}

# prepare_environment [dev]: with "dev" the tools that tests and linters need come along.
prepare_environment() {
  local extra=${1:-} stamp python
  stamp=.venv/.installed${extra:+-$extra}
  if [[ ! -f $stamp || setup.py -nt $stamp || deploy/requirements.lock -nt $stamp ]]; then
    python=$(find_python) || return 1
    echo "installing into .venv (once)" >&2
    [[ -x .venv/bin/python ]] || "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check uv
    VIRTUAL_ENV=$PWD/.venv .venv/bin/uv pip install --quiet --requirement deploy/requirements.lock
    if [[ $extra == dev ]]; then
      VIRTUAL_ENV=$PWD/.venv .venv/bin/uv pip install --quiet --requirement deploy/requirements-dev.lock
    fi
    VIRTUAL_ENV=$PWD/.venv .venv/bin/uv pip install --quiet --no-deps --editable .
    .venv/bin/python -m compileall -q .venv/lib > /dev/null || true
    .venv/bin/python -c 'from schemas.scan import compile_loops; compile_loops()'
    touch "$stamp"
  fi
  export PATH=$PWD/.venv/bin:$PATH
}
