#!/usr/bin/env bash
# The main job on the embedded default: pass rates, four arms, evaluation, report, in runs/demo.
# Needs Linux, Python 3.11 or newer and a package index; no GPU, no Hub. Further options go to `paced-trl compare`.
source "$(dirname "$0")/setup_environment.sh" ""
exec .venv/bin/paced-trl compare --config recipes/demo/recipe.yaml "$@"
