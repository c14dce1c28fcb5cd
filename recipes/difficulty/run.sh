#!/usr/bin/env bash
# Every arm on every mix, ten seeds: about two hours of one core. Finished arms are reused; further options go to
# `paced-trl compare`.
set -euo pipefail
cd "$(dirname "$0")/../.."
for mix in hard balanced easy; do
  data=recipes/difficulty/data/$mix
  paced-trl compare --config recipes/difficulty/recipe.yaml --output_dir "runs/difficulty/$mix" \
    --dataset_name "$data/train.jsonl" --eval_sets "test=$data/test.jsonl" "$@"
done
python recipes/difficulty/summary.py
