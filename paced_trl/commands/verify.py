"""`paced-trl verify`: judge completions that exist, and compare the verdicts with labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..settings import OutputArguments, ProblemArguments, VerifierArguments, VerifyArguments, as_mapping
from . import run_command
from .parsing import parse


_DESCRIPTION = """\
Try a verifier on completions that you have: verdict counts, speed, agreement with labels, and where they disagree.

  paced-trl verify --dataset_name completions.jsonl --solution_column answer --verifier math
  paced-trl verify --dataset_name graded.jsonl --label_column correct --verifier numeric \\
      --verifier_kwargs '{"relative_tolerance": 0.01}' --max_shown 20 --output_dir runs/verdicts
  paced-trl verify --dataset_name programs.jsonl --solution_column test_list --verifier python_tests \\
      --verifier_kwargs '{"allow_code_execution": true}'

Each row holds one completion and the gold of its problem. With --output_dir, every verdict is kept in verdicts.jsonl.
TIMEOUT and UNVERIFIABLE say nothing about a completion: they are listed and left out of the agreement.
"""


def run(arguments: Sequence[str]) -> None:
    problems, verify, verifier_args, output = parse(
        "verify",
        [ProblemArguments, VerifyArguments, VerifierArguments, OutputArguments],
        arguments,
        description=_DESCRIPTION,
    )
    from ..problems import read_columns
    from ..verification.agreement import verify_completions
    from ..verification.verifier import load_verifier

    if problems.dataset_name is None:
        raise ValueError(
            "`dataset_name` is not given. Name a file of completions, e.g. `--dataset_name graded.jsonl`."
        )
    columns = read_columns(problems.dataset_name, config=problems.dataset_config, split=problems.dataset_train_split)
    columns = {name: values[: problems.max_problems] for name, values in columns.items()}
    names = {"completion": verify.completion_column, "solution": problems.solution_column}
    if verify.label_column is not None:
        names["label"] = verify.label_column
    found = _take(columns, names)
    # A verifier or a reward function may want any other column, the gold's under its own name included.
    taken = {verify.completion_column, problems.prompt_column, "solution"}
    others = {name: values for name, values in columns.items() if name not in taken}
    with load_verifier(
        verifier_args.verifier, **as_mapping(verifier_args.verifier_kwargs, "verifier_kwargs")
    ) as verifier:
        report = verify_completions(
            found["completion"],
            found["solution"],
            verifier,
            labels=found.get("label"),
            problems=columns.get(problems.prompt_column),
            columns=others,
            max_shown=verify.max_shown,
        )
    print(report)
    if output.output_dir is not None:
        path = Path(output.output_dir) / "verdicts.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        report.write(path)
        print(f"Verdicts: {path}")


def _take(columns: dict[str, list[Any]], names: dict[str, str]) -> dict[str, list[Any]]:
    """Return columns by what they hold, or say at once which are missing."""
    from ..problem_files import find_column

    found = {what: values for what, name in names.items() if (values := find_column(columns, name)) is not None}
    missing = [what for what in names if what not in found]
    if missing:
        raise ValueError(
            f"The data have no column {' and none '.join(f'{names[what]!r} for the {what}' for what in missing)}; "
            f"they have {', '.join(columns) or 'no columns'}. Say which one holds it with "
            f"{' and '.join(f'`--{what}_column`' for what in missing)}."
        )
    return found


if __name__ == "__main__":
    run_command("verify")
