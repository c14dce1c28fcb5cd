#!/usr/bin/env bash
# Lint, types and the whole test suite. Further options go to pytest: bash scripts/test.sh -k weighting
source "$(dirname "$0")/setup_environment.sh" "dev"
# The sandbox of python_tests: without it its tests are skipped.
if ! command -v bwrap > /dev/null && [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    echo "Installing bubblewrap, which the tests of python_tests need"
    { apt-get update -qq && apt-get install -y -qq bubblewrap; } > /dev/null || echo "bubblewrap could not be installed" >&2
fi
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
# Two workers with one thread each; a test that starts processes of its own shares them. Whoever is done takes over.
export OMP_NUM_THREADS=1
exec .venv/bin/python -m pytest -n "${PACED_TRL_TEST_WORKERS:-2}" --dist worksteal "$@"
