#!/usr/bin/env bash
# The ablations of ABLATIONS.md, about two hours on two cores. Finished arms are reused.
set -euo pipefail
cd "$(dirname "$0")/../.."
compare() { paced-trl compare --config recipes/demo/recipe.yaml "$@"; }

# What is drawn, how weights are estimated and refreshed, and which divergence: one estimation for all.
compare --output_dir runs/demo-ablations --seeds 0 1 2 --control paced_sampling --arms '{
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
  compare --output_dir "runs/demo-k$generations" --seeds 0 1 2 --num_generations "$generations" --control paced_sampling --arms '{"paced_sampling": {}}'
done
compare --output_dir runs/demo-adaptive --seeds 0 1 2 --allocation adaptive --control paced_sampling --arms '{"paced_sampling": {}}'

# What keeps a skill that is not trained: mastered problems replayed, a lower rate, an end at forgetting, LoRA.
compare --output_dir runs/demo-retention --seeds 0 1 2 --control paced_sampling --arms '{
  "paced_sampling": {},
  "replay_0.25": {"replay_share": 0.25, "apply_weights": "sampling", "refresh": "never"},
  "replay_0.5": {"replay_share": 0.5, "apply_weights": "sampling", "refresh": "never"},
  "rate_1e-5": {"learning_rate": 1e-5, "apply_weights": "sampling", "refresh": "never"},
  "rate_1e-5_long": {"learning_rate": 1e-5, "max_steps": 900, "apply_weights": "sampling", "refresh": "never"}
}'
compare --output_dir runs/demo-stop --seeds 0 1 2 --control stop_0.02 --curve_points 0 --eval_strategy steps --eval_steps 25 \
  --retention_set recipes/demo/data/retention.jsonl --num_validation_generations 4 \
  --arms '{"stop_0.02": {"max_forgetting": 0.02, "apply_weights": "sampling", "refresh": "never"}}'
rates=(--learning_rates 1e-4 3e-4 1e-3 3e-3)
compare --output_dir runs/demo-lora --seeds 0 1 --curve_points 0 --use_peft true "${rates[@]}" --arms uniform paced_sampling

# The grid of learning rates for what README.md's has not, on dev.jsonl.
grid=(--seeds 100 --eval_sets dev=recipes/demo/data/dev.jsonl --curve_points 0 --learning_rates 3e-5 1e-4 3e-4 1e-3)
compare --output_dir runs/demo-grid-divergences "${grid[@]}" --control forward --arms '{
  "forward": {"kl": "forward", "apply_weights": "sampling", "refresh": "never"},
  "reverse": {"kl": "reverse", "apply_weights": "sampling", "refresh": "never"},
  "jsd": {"kl": "jsd", "apply_weights": "sampling", "refresh": "never"},
  "akl_weighted": {"kl": "akl", "apply_weights": "sampling", "refresh": "never"}
}'
compare --output_dir runs/demo-grid-refreshed "${grid[@]}" --control hard_filter_refreshed --arms hard_filter_refreshed paced_sampling_refreshed

# Long runs.
compare --output_dir runs/demo-late --seeds 0 --max_steps 1000 --curve_points 5 --control hard_filter_refreshed --arms '{
  "hard_filter_refreshed": {"refresh_steps": 100},
  "paced_sampling_refreshed": {"refresh_steps": 100},
  "replay_refreshed": {"replay_share": 0.3, "apply_weights": "sampling", "refresh": "estimate", "refresh_steps": 100},
  "a1_b2_refreshed": {"weight_beta": 2.0, "apply_weights": "sampling", "refresh": "estimate", "refresh_steps": 100},
  "paced_sampling": {},
  "uniform": {}
}'
