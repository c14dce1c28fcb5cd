"""The `paced-trl` program: one module per command, loaded when it is called."""

from __future__ import annotations

import importlib
import os
import sys


COMMANDS = {
    "plan": "GPU memory, disk, tokens and hours of a run, before anything downloads",
    "verify": "judge completions that exist, and compare the verdicts with labels",
    "estimate": "measure how often the student passes each problem",
    "train": "distill the teacher into the student, weighted by those pass rates",
    "evaluate": "accuracy with intervals on held-out and retention problems",
    "compare": "train several arms with the same budget and compare them",
    "diagnose": "do gradients agree where the student passes sometimes?",
    "teacher-gap": "what 4 bits change in the teacher, on your own references",
    "report": "figures and one HTML page of a run",
    "publish": "student, card and pass rates to the Hub",
    "inspect": "what is in a store of completions, and the completions themselves",
    "merge": "bring stores that were made apart into one",
}
# Their work is divided over the processes of a launcher. Any other command is done by the first process alone.
DIVIDED = {"estimate", "train", "evaluate", "compare", "teacher-gap"}

_HELP = f"""usage: paced-trl COMMAND [--config FILE.yaml] [--option value ...]

Distill where the student can learn (PACED, arXiv 2603.11178).

commands:
{chr(10).join(f"  {name:12}{text}" for name, text in COMMANDS.items())}

From problems to a distilled student, one YAML file for all steps:
  paced-trl estimate --config recipes/demo/recipe.yaml
  paced-trl train    --config recipes/demo/recipe.yaml
  paced-trl evaluate --config recipes/demo/recipe.yaml --model_name_or_path runs/demo/student
`paced-trl COMMAND --help` explains one command.
"""


def main() -> None:
    """Run the command that the first argument names."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_HELP)
        sys.exit(0 if arguments else 2)
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"paced_trl {version('paced_trl')}")
        return
    if arguments[0] not in COMMANDS:
        print(f"paced-trl: {arguments[0]!r} is no command. Commands: {', '.join(COMMANDS)}.", file=sys.stderr)
        sys.exit(2)
    # As with `python -m`: a verifier `my_rewards:function` may lie in the working directory.
    sys.path.insert(0, os.getcwd())
    module = importlib.import_module(f"paced_trl.commands.{arguments[0].replace('-', '_')}")
    module.main(arguments[1:])
