"""
What the trainer needs of a dataset: references, and how often the student passes each problem.

Turns whichever columns a user has into one weight per row, and refuses a dataset that cannot be trained on before any
model loads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset

from ..problems import Messages, with_column
from ..weighting.prior_features import SOLUTION_LOG_PROBABILITY, check_features, fit_feature_prior, problem_features
from ..weighting.weights import problem_weights


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# A row's number: whose completion it is, however batches were shuffled.
ROW_COLUMN = "paced_row"
# A pass rate of one attempt is 0 or 1, and with references kept where it is 1, the same for all.
MIN_TEACHER_ATTEMPTS = 2


def with_pass_rates(problems: Dataset, table: Dataset) -> Dataset:
    """
    Join the pass-rate table of `estimate_pass_rates` to problems, by `problem_id`.

    Raises:
        ValueError: If a problem is not in the table.
    """
    counts = {
        row["problem_id"]: row for row in table.select_columns(["problem_id", "num_passed", "num_valid", "pass_rate"])
    }
    missing = [problem_id for problem_id in problems["problem_id"] if problem_id not in counts]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(problems)} problems have no pass rate, the first with id {missing[0]!r}. Measure "
            "them with `paced-trl estimate` on the same data, prompt options included."
        )
    for column in ("num_passed", "num_valid", "pass_rate"):
        problems = with_column(problems, column, [counts[each][column] for each in problems["problem_id"]])
    return problems


def check_training_columns(
    dataset: Dataset, *, needs_reference: bool, needs_solution: bool, name: str = "train_dataset"
) -> None:
    """Refuse an empty dataset, a missing column or an empty reference; `name` is what the caller calls the dataset."""
    if len(dataset) == 0:
        raise ValueError(f"`{name}` is empty, so it holds no problem to work on.")
    needed = {"prompt": "the prompts"}
    if needs_reference:
        needed["reference"] = (
            "completions to train on in the stage on the dataset's completions; make them with `generate_references`"
        )
    if needs_solution:
        needed["solution"] = "gold solutions for the verifier"
    for column, purpose in needed.items():
        if column not in dataset.column_names:
            raise ValueError(
                f"`{name}` has no column `{column}` ({purpose}); it has {', '.join(dataset.column_names)}."
            )
    if needs_reference:
        for row, reference in enumerate(dataset["reference"]):
            if not isinstance(reference, str) or not reference:
                raise ValueError(
                    f"Row {row} of `{name}` has the reference {reference!r}; an empty completion has no "
                    "token to train on. Remove the row or give it a completion."
                )


def numbered(datasets: Any) -> Any:
    """Return a dataset, or each in a mapping, with its rows' numbers as `ROW_COLUMN`; others come back as they are."""
    if isinstance(datasets, dict):
        return {name: numbered(dataset) for name, dataset in datasets.items()}
    if not isinstance(datasets, Dataset) or ROW_COLUMN in datasets.column_names:
        return datasets
    return datasets.add_column(ROW_COLUMN, np.arange(len(datasets)))


def problem_weights_of(dataset: Dataset, *, prior_features: Sequence[str] = (), **weighting: Any) -> np.ndarray:
    """Return the weight of each row, **shape (P,)**, mean 1, from the columns that say how often it is passed."""
    columns = dataset.column_names
    # Also where the weights do not follow them: a misspelt name would go unnoticed.
    check_features(dataset, [name for name in prior_features if name != SOLUTION_LOG_PROBABILITY])
    if weighting["kind"] == "teacher_gate":
        return _teacher_gate(dataset)
    if "problem_weight" in columns:
        weights = np.asarray(dataset["problem_weight"], dtype=np.float64)
        if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
            raise ValueError(
                "Column `problem_weight` has a negative or missing value, or only zeros. Mend or remove it."
            )
        return weights / weights.mean()
    if {"num_passed", "num_valid"} <= set(columns):
        passed, valid = np.asarray(dataset["num_passed"]), np.asarray(dataset["num_valid"])
        if prior_features and weighting.get("estimator") == "posterior":
            weighting["prior"] = fit_feature_prior(passed, valid, problem_features(dataset, prior_features))
        return problem_weights(passed, valid, **weighting)
    if weighting["kind"] == "uniform":
        return np.ones(len(dataset))
    if "pass_rate" not in columns:
        raise ValueError(
            f"`train_dataset` has neither `num_passed` and `num_valid` nor `pass_rate`; it has {', '.join(columns)}. "
            "Measure them with `paced-trl estimate`, or set `weighting='uniform'`."
        )
    rates = np.array(dataset["pass_rate"][:], dtype=np.float64)
    for row, rate in enumerate(rates):
        if not 0.0 <= rate <= 1.0:
            raise ValueError(
                f"Row {row} of `train_dataset` has pass rate {rate}; it must be a fraction in [0, 1]. Mend "
                "or remove the row."
            )
    if weighting["estimator"] != "plugin":
        raise ValueError(
            f"`weight_estimator` is {weighting['estimator']!r}, which needs counts, but the dataset has only "
            "`pass_rate`. Give `num_passed` and `num_valid`, or use 'plugin'."
        )
    # To three decimals.
    return problem_weights(np.rint(rates * 1000).astype(int), np.full(len(rates), 1000), **weighting)


def _teacher_gate(dataset: Dataset) -> np.ndarray:
    """Return weights in proportion to the teacher's pass rates."""
    names = ("teacher_num_passed", "teacher_num_valid")
    if not set(names) <= set(dataset.column_names):
        raise ValueError(
            f"`weighting` is 'teacher_gate', and `train_dataset` has no `{'` and no `'.join(names)}`; it has "
            f"{', '.join(dataset.column_names)}. `paced-trl train` and `compare` measure them; or count the teacher's "
            "passes with `estimate_pass_rates` and the teacher's generator."
        )
    passed, valid = (np.asarray(dataset[name]) for name in names)
    if valid.max(initial=0) < MIN_TEACHER_ATTEMPTS:
        raise ValueError(
            f"`weighting` is 'teacher_gate', and the teacher has {valid.max(initial=0)} valid attempt per problem at "
            f"most, which makes no rate. Give it {MIN_TEACHER_ATTEMPTS} or more."
        )
    if not passed.any():
        raise ValueError(
            "`weighting` is 'teacher_gate', and no attempt of the teacher was verified, so all weights are 0. Check "
            "the verifier, or give a stronger teacher."
        )
    return problem_weights(passed, valid, weight_alpha=1.0, weight_beta=0.0)


def end_of_completion_id(
    tokenizer: PreTrainedTokenizerBase, prompt: str | Messages, eos_token_ids: Sequence[int]
) -> int:
    """Return the token that ends a reference: EOS, but for messages what the chat template ends a turn with."""
    eos_token_id = tokenizer.eos_token_id
    if not isinstance(eos_token_id, int):
        raise ValueError("The tokenizer has no end-of-sequence token, so no reference could end. Set its `eos_token`.")
    if isinstance(prompt, str):
        return eos_token_id
    turn = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
    start = len(tokenizer.apply_chat_template(turn[:1], add_generation_prompt=True, tokenize=True, return_dict=False))
    rendered: list[int] = tokenizer.apply_chat_template(turn, tokenize=True, return_dict=False)  # type: ignore
    return next((token for token in rendered[start:] if token in eos_token_ids), eos_token_id)


def reference_token_ids(
    tokenizer: PreTrainedTokenizerBase, references: Sequence[str], end: int, eos_token_ids: Sequence[int]
) -> list[list[int]]:
    """Return the tokens of B references, each ended once by `end`; refuse a text that goes on after an end."""
    encoded: Any = tokenizer(list(references), add_special_tokens=False)
    token_ids = []
    for text, ids in zip(references, encoded["input_ids"], strict=True):
        length = next((index for index, token in enumerate(ids) if token in eos_token_ids), len(ids))
        if str(tokenizer.decode(ids[length:], skip_special_tokens=True)).strip():
            raise ValueError(
                f"A reference goes on after its end-of-sequence token {tokenizer.decode(ids[length])!r}: "
                f"{text if len(text) < 120 else text[:117] + '...'!r}. The student would stop there; cut the text at "
                "it, or remove the token."
            )
        token_ids.append([*ids[:length], end])
    return token_ids
