#!/usr/bin/env bash
# Lint, types and the whole test suite. Further options go to pytest: bash scripts/test.sh -k weighting
source "$(dirname "$0")/setup_environment.sh" "dev"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
exec .venv/bin/python -m pytest "$@"
