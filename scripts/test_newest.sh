#!/usr/bin/env bash
# The suite with the newest versions that work (constraints-newest.txt), in an environment of its own. What came of it is
# written to scripts/results/newest_versions.json. Further options go to pytest: bash scripts/test_newest.sh tests/training
source "$(dirname "$0")/setup_environment.sh" "dev" .venv-newest constraints-newest.txt
export OMP_NUM_THREADS=1
status=0
.venv-newest/bin/python -m pytest -n "${PACED_TRL_TEST_WORKERS:-2}" --junitxml .venv-newest/outcome.xml "$@" || status=$?
.venv-newest/bin/python scripts/save_outcome.py .venv-newest/outcome.xml scripts/results/newest_versions.json
exit "$status"
