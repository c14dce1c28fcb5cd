"""
The `paced-trl` program: one module per command, loaded when it is called.

    parsing.py           settings from YAML and flags; config_files.py reads the file, help.py shows the settings
    recipe.py            all settings of a run, parsed once, and what they name: problems, models, verifier
    estimation_steps.py  the steps of a recipe up to pass rates
    training_steps.py    from pass rates to what is trained on
    evaluation_steps.py  evaluations after training and on the way
    exits.py             how a command ends; messages.py has the form of what it warns of
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence


COMMANDS = {
    "plan": "GPU memory, disk and tokens of a run, before anything downloads",
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
DISTRIBUTED_COMMANDS = {"estimate", "train", "evaluate", "compare", "teacher-gap"}

_HELP = f"""usage: paced-trl COMMAND [--config FILE.yaml] [--setting VALUE ...]

Distill where the student can learn (PACED, arXiv 2603.11178).

commands:
{chr(10).join(f"  {name:12}{text}" for name, text in COMMANDS.items())}

From problems to a distilled student, one YAML file for all steps:
  paced-trl estimate --config recipes/demo/recipe.yaml
  paced-trl train    --config recipes/demo/recipe.yaml
  paced-trl evaluate --config recipes/demo/recipe.yaml --model_name_or_path runs/demo/student
`paced-trl COMMAND --help` explains one command.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names; the arguments are those of the process if None."""
    arguments = sys.argv[1:] if arguments is None else arguments
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
    # A verifier `my_rewards:function` may lie in the working directory. Last, so that nothing there hides a library.
    sys.path.append(os.getcwd())
    run_command(arguments[0], arguments[1:])


def run_command(command: str, arguments: Sequence[str] | None = None) -> None:
    """Run a command on its arguments, those of the process if None, and turn errors into one line."""
    from ..processes import run_on_first_process_only
    from .early_checks import check_arguments
    from .exits import clean_exit
    from .messages import quieten_libraries, speak_in_one_form

    num_others = 0 if command in DISTRIBUTED_COMMANDS else run_on_first_process_only()
    if num_others < 0:
        return
    if num_others > 0:
        print(f"paced-trl {command}: works in one process; the other {num_others} left.", file=sys.stderr)
    given = sys.argv[1:] if arguments is None else list(arguments)
    with clean_exit(command, given):
        quieten_libraries()
        speak_in_one_form()
        check_arguments(given)
        module = importlib.import_module(f"{__name__}.{command.replace('-', '_')}")
        module.run(given)
