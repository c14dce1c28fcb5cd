#!/usr/bin/env bash
# The ablations of README.md, three seeds each; about an hour on two cores. Finished arms are reused.
set -euo pipefail
cd "$(dirname "$0")/../.."
compare() { paced-trl compare --config recipes/demo/recipe.yaml --seeds 0 1 2 "$@"; }

# What is drawn, how weights are estimated and refreshed, and which divergence: one estimation for all.
compare --output_dir runs/demo-ablations --control paced_sampling --arms '{
  "paced_sampling": {},
  "paced": {},
  "a0.5_b0.5": {"weight_alpha": 0.5, "weight_beta": 0.5, "apply_weights": "sampling", "refresh": "never"},
  "a0.5_b2": {"weight_alpha": 0.5, "weight_beta": 2.0, "apply_weights": "sampling", "refresh": "never"},
  "a1_b2": {"weight_alpha": 1.0, "weight_beta": 2.0, "apply_weights": "sampling", "refresh": "never"},
  "a2_b1": {"weight_alpha": 2.0, "weight_beta": 1.0, "apply_weights": "sampling", "refresh": "never"},
  "a2_b2": {"weight_alpha": 2.0, "weight_beta": 2.0, "apply_weights": "sampling", "refresh": "never"},
  "posterior": {"weight_estimator": "posterior", "apply_weights": "sampling", "refresh": "never"},
  "posterior_ungated": {"weight_estimator": "posterior", "weight_gate": false, "apply_weights": "sampling", "refresh": "never"},
  "refresh_online": {"apply_weights": "sampling", "refresh": "online", "verifier": "exact"},
  "refresh_estimate": {"apply_weights": "sampling", "refresh": "estimate", "refresh_steps": 50, "verifier": "exact"},
  "forward": {"kl": "forward", "apply_weights": "sampling", "refresh": "never"},
  "reverse": {"kl": "reverse", "apply_weights": "sampling", "refresh": "never"},
  "jsd": {"kl": "jsd", "apply_weights": "sampling", "refresh": "never"},
  "akl_weighted": {"kl": "akl", "apply_weights": "sampling", "refresh": "never"},
  "akl": {}
}'

# How many generations the pass rates come from.
for generations in 2 4 16; do
  compare --output_dir "runs/demo-k$generations" --num_generations "$generations" --control paced_sampling --arms '{"paced_sampling": {}}'
done
compare --output_dir runs/demo-adaptive --allocation adaptive --control paced_sampling --arms '{"paced_sampling": {}}'
