"""
A prior of each problem's own: what is known before generating, such as the prompt's length, moves its expectation.

The parameters are linear in features, with a normal prior on the slopes. The fit is used only where it explains the
table better than one prior for all problems by Schwarz's criterion (BIC): a useless feature costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .counts import Floats, check_counts
from .prior import Prior, log_marginal_likelihood
from .prior_fit import fit_prior, maximize_likelihood, possible_masses, prior_of


if TYPE_CHECKING:
    from datasets import Dataset

PROMPT_LENGTH = "prompt_length"
SOLUTION_LOG_PROBABILITY = "solution_log_probability"
# More levels than these would be mostly noise; the rarer ones share one.
_MAX_LEVELS = 20
# Features beyond this many standard deviations say no more than ones at it.
_MAX_DEVIATION = 3.0
# A slope of 1 costs half a nat: a standard normal prior.
_RIDGE = 1.0
# Of the mean log-likelihood: far below what would change a criterion.
_TOLERANCE = 1e-8
# No feature is worth more than this many generations: where it seems so, the curve is trusted beyond its shape.
_MAX_CONCENTRATION = 20.0
# Problems that a fit looks at; more make it slower and hardly better.
_MAX_FITTED = 20_000


def problem_features(problems: Dataset, names: Sequence[str]) -> Floats:
    """
    Make features of columns: numbers as linear splines that bend at their quartiles, text as one indicator per level.

    Args:
        problems (`datasets.Dataset`): P problems.
        names (`Sequence[str]`):
            Columns, of numbers, booleans or text; and `"prompt_length"`, the logarithm of the prompt's characters,
            where there is no such column. A missing number counts as the mean.

    Returns:
        `np.ndarray`: Features of mean 0 and standard deviation 1, at most 3 from 0, **shape (P, F)**; columns that do
        not vary are left out.

    Raises:
        ValueError: If a column does not exist, or is neither of numbers nor of text.
    """
    check_features(problems, names)
    columns: list[Floats] = []
    for name in names:
        if name in problems.column_names:
            columns += _columns_of(name, problems[name])
        else:
            lengths = [len(prompt if isinstance(prompt, str) else json.dumps(prompt)) for prompt in problems["prompt"]]
            columns += _hinges(np.log1p(np.array(lengths, dtype=np.float64)))
    varying = [column for column in map(_standardised, columns) if column is not None]
    return np.column_stack(varying) if varying else np.zeros((len(problems), 0))


def check_features(problems: Dataset, names: Sequence[str]) -> None:
    """Refuse a feature that is no column of the problems."""
    for name in names:
        if name not in (*problems.column_names, PROMPT_LENGTH):
            advice = f"Name one of them, or `{PROMPT_LENGTH}`."
            if name == SOLUTION_LOG_PROBABILITY:
                advice = "Add it with `solution_log_probabilities`, as `paced-trl estimate` does."
            raise ValueError(
                f"`prior_features` has {name!r}, which is no column of the problems: they have "
                f"{', '.join(problems.column_names)}. {advice}"
            )


def fit_feature_prior(num_passed: npt.ArrayLike, num_valid: npt.ArrayLike, features: Floats) -> Prior:
    """Fit a prior of each problem, **shape (P,)**, to a table and features; one for all where they explain nothing."""
    passed, valid = check_counts(num_passed, num_valid)
    if features.ndim != 2 or len(features) != passed.size:
        raise ValueError(
            f"`features` has shape {features.shape} for {passed.size} problems; give one row of features per problem."
        )
    common = fit_prior(passed, valid)
    if not features.shape[1]:
        return common
    design = np.column_stack([np.ones(passed.size), features])
    measured = np.flatnonzero(valid > 0)
    measured = measured[:: -(-measured.size // _MAX_FITTED)]
    # Problems that agree in counts and features are one row of the likelihood.
    rows, multiplicity = np.unique(
        np.column_stack([passed[measured], valid[measured], design[measured]]), axis=0, return_counts=True
    )
    passed, valid, distinct = rows[:, 0], rows[:, 1], rows[:, 2:]
    num_features = features.shape[1]

    best = common
    num_masses = bool(common.mass_at_zero) + bool(common.mass_at_one)
    price = 0.5 * np.log(multiplicity.sum())  # of a parameter, in nats
    highest = float(multiplicity @ log_marginal_likelihood(passed, valid, common)) - price * (2 + num_masses)
    for masses in possible_masses(valid):
        coefficients, _ = maximize_likelihood(
            passed, valid, multiplicity, distinct, masses, ridge=_RIDGE, tolerance=_TOLERANCE
        )
        likelihoods = log_marginal_likelihood(passed, valid, _bounded(prior_of(coefficients, distinct)))
        criterion = float(multiplicity @ likelihoods) - price * (2 + sum(masses)) * (1 + num_features)
        if criterion > highest:
            best, highest = _bounded(prior_of(coefficients, design)), criterion
    return best


def _bounded(prior: Prior) -> Prior:
    scale = np.minimum(1.0, _MAX_CONCENTRATION / (np.asarray(prior.a0) + prior.b0))
    return replace(prior, a0=prior.a0 * scale, b0=prior.b0 * scale)


def _columns_of(name: str, values: Sequence[Any]) -> list[Floats]:
    present = [value for value in values if value is not None]
    if all(isinstance(value, str) for value in present):
        levels, counts = np.unique(present, return_counts=True)
        kept = levels[np.argsort(-counts, kind="stable")][:_MAX_LEVELS]
        return [np.array([value == level for value in values], dtype=np.float64) for level in kept]
    try:
        return _hinges(np.array([np.nan if value is None else value for value in values], dtype=np.float64))
    except (TypeError, ValueError):
        raise ValueError(
            f"`prior_features` has the column {name!r}, which holds {present[0]!r}; a feature is a number or a text."
        ) from None


def _hinges(column: Floats) -> list[Floats]:
    """Return a numeric column and how far it is above each quartile: a linear spline, which can bend where data do."""
    known = column[np.isfinite(column)]
    quartiles = np.unique(np.quantile(known, [0.25, 0.5, 0.75])) if known.size else known
    return [column, *(np.maximum(column - quartile, 0.0) for quartile in quartiles if quartile < known.max())]


def _standardised(column: Floats) -> Floats | None:
    known = column[np.isfinite(column)]
    deviation = known.std() if known.size else 0.0
    if deviation == 0.0:
        return None
    scaled = (column - known.mean()) / deviation
    return np.where(np.isfinite(scaled), scaled.clip(-_MAX_DEVIATION, _MAX_DEVIATION), 0.0)
