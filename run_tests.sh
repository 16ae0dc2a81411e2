#!/usr/bin/env bash
# Lints, types and all tests. Needs Python 3.11 to 3.13 and bash. Arguments go to pytest: ./run_tests.sh -k verify
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./deploy/environment.sh
prepare_environment dev

ruff check .
ruff format --check .
mypy
codespell
pytest --numprocesses "${TEST_PROCESSES:-2}" --dist loadgroup "$@"
