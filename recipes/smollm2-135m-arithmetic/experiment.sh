#!/usr/bin/env bash
# `rates.yaml` or, by default, `experiment.yaml`: two processes with one thread each, half of the seeds each.
# Finished runs are reused, so that a stopped experiment goes on.
#   bash recipes/smollm2-135m-arithmetic/experiment.sh [rates.yaml "100" "101"]
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1

config="recipes/smollm2-135m-arithmetic/${1:-experiment.yaml}"
out=$(sed -n 's/^output_dir: *//p' "$config")
paced-trl estimate --config recipes/smollm2-135m-arithmetic/experiment.yaml
# The seeds are lists of words.
# shellcheck disable=SC2086
paced-trl compare --config "$config" --seeds ${2:-0 1 2 3 4} > "$out-1.log" 2>&1 &
first=$!
# The second one finds the base student evaluated.
until [ -d "$out/arms" ] || ! kill -0 $first 2> /dev/null; do sleep 2; done
# shellcheck disable=SC2086
paced-trl compare --config "$config" --seeds ${3:-5 6 7 8 9} > "$out-2.log" 2>&1 &
second=$!
wait $first
wait $second
paced-trl compare --config "$config"
