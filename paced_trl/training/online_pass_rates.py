"""
Pass rates that follow the student while it trains: every verified completion of its own is one more observation.

Responsible for counts that fade with age, because the student that made them has changed, and for the problem weights
they give at any time. Knows nothing of models, tokens or trainers.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..verification.verdict import Verdict
from ..weighting.counts import Floats, check_counts, frontier_shares, pass_rates
from ..weighting.prior import Prior
from ..weighting.prior_fit import fit_prior
from ..weighting.weights import problem_weights


# Evidence never fades to nothing: an old estimate is better than none.
_LEAST_SHARE = 1e-6
# New evidence, as a share of all, after which the prior is fitted anew: the posterior estimator is slow otherwise.
_REFIT_SHARE = 0.1
_STATE = ("num_passed", "num_valid", "last_step", "step", "num_observed", "fitted_at")


def problem_metrics(num_passed: Floats, num_valid: Floats, staleness: float) -> dict[str, float]:
    """Return the mean pass rate, if any, and the shares of problems of counts, **shape (P,)** each, faded or not."""
    shares, rates = frontier_shares(num_passed, num_valid), pass_rates(num_passed, num_valid)
    metrics = {
        "mastered": shares.mastered,
        "frontier": shares.frontier,
        "out_of_reach": shares.out_of_reach,
        "staleness": float(staleness),
    }
    return metrics if np.isnan(rates).all() else metrics | {"pass_rate": float(np.nanmean(rates))}


class OnlinePassRates:
    """
    Discounted counts of P problems, and the weights they give.

    An observation made s steps ago counts 0.5^(s / half_life). Fading alone moves no pass rate, which is a ratio; it
    lets new observations weigh more, and the posterior estimate return to the prior.

    Example:

    ```python
    >>> rates = OnlinePassRates(["a", "b"], [2, 4], [4, 4], half_life=10)
    >>> rates.observe(["b", "b"], ["failed", "passed"], step=20)
    >>> rates.pass_rates().round(2)
    array([0.5 , 0.67])
    ```

    Args:
        problem_ids (`Sequence[Hashable]`, length P):
            Ids, text or numbers, each once.
        num_passed, num_valid (`ArrayLike` of **shape (P,)**):
            Counts to start from, as of step 0: a table of pass rates.
        half_life (`float`, *optional*, defaults to `100.0`):
            Steps after which an observation counts half; `inf` for ever.
        weighting (`dict`, *optional*):
            Arguments of [`problem_weights`].

    Raises:
        ValueError: If the counts are invalid, an id occurs twice, or the half-life is not positive.
    """

    def __init__(
        self,
        problem_ids: Sequence[Hashable],
        num_passed: npt.ArrayLike,
        num_valid: npt.ArrayLike,
        *,
        half_life: float = 100.0,
        weighting: Mapping[str, Any] | None = None,
    ) -> None:
        passed, valid = check_counts(num_passed, num_valid)
        if len(problem_ids) != passed.size:
            raise ValueError(f"Got {len(problem_ids)} problem ids and {passed.size} counts; give one count per id.")
        self._rows = {problem_id: row for row, problem_id in enumerate(problem_ids)}
        if len(self._rows) != passed.size:
            raise ValueError("An id occurs twice in `problem_ids`, so observations of it would be ambiguous.")
        if not half_life > 0.0:
            raise ValueError(f"`half_life` is {half_life}; it is a number of steps above 0, or `inf`.")
        self.weighting = dict(weighting or {})
        if self.weighting.get("estimator") == "unbiased":
            raise ValueError(
                "`estimator` is 'unbiased', which needs whole counts, and evidence that fades is not whole. Use "
                "'plugin' or 'posterior'."
            )
        self.half_life = half_life
        self.step = 0
        # Counts as of `last_step`, so that a step costs only the problems it observes.
        self.num_passed: Floats = passed.astype(np.float64)
        self.num_valid: Floats = valid.astype(np.float64)
        self.last_step = np.zeros(passed.size)
        self.num_observed = 0
        self.fitted_at = -1
        self._prior: Prior | None = None

    def observe(self, problem_ids: Sequence[Hashable], verdicts: Sequence[Verdict | str], step: int) -> None:
        """
        Count verdicts of completions that the student has made at optimizer step `step`, which never goes back.

        Both sequences have length B; an id may occur several times. Verdicts that are not valid count nothing.
        """
        if len(problem_ids) != len(verdicts):
            raise ValueError(f"Got {len(problem_ids)} problem ids and {len(verdicts)} verdicts; give one for each.")
        rows = self._rows_of(problem_ids, step)
        kinds = [Verdict(verdict) for verdict in verdicts]
        is_valid = np.array([kind.is_valid for kind in kinds], dtype=bool)
        is_passed = np.array([kind is Verdict.PASSED for kind in kinds], dtype=bool)
        self.step = step
        observed = np.unique(rows[is_valid])
        share = self._shares(observed)
        self.num_passed[observed] *= share
        self.num_valid[observed] *= share
        self.last_step[observed] = step
        np.add.at(self.num_passed, rows[is_passed], 1.0)
        np.add.at(self.num_valid, rows[is_valid], 1.0)
        self.num_observed += int(is_valid.sum())

    def replace(
        self, problem_ids: Sequence[Hashable], num_passed: npt.ArrayLike, num_valid: npt.ArrayLike, step: int
    ) -> None:
        """
        Forget what was observed of some problems, and take these counts of **shape (B,)** for them.

        Problems without a valid generation keep what they have. `step` is that of the student that was measured.
        """
        passed, valid = check_counts(num_passed, num_valid)
        rows = self._rows_of(problem_ids, step)
        rows, passed, valid = rows[valid > 0], passed[valid > 0], valid[valid > 0]
        self.step = step
        self.num_passed[rows], self.num_valid[rows], self.last_step[rows] = passed, valid, step
        self.num_observed += int(valid.sum())

    def _rows_of(self, problem_ids: Sequence[Hashable], step: int) -> npt.NDArray[np.int64]:
        if step < self.step:
            raise ValueError(f"`step` is {step}, after {self.step}: time does not go back. Load a state to return.")
        unknown = [problem_id for problem_id in problem_ids if problem_id not in self._rows]
        if unknown:
            raise ValueError(f"There is no problem {unknown[0]!r} among the {len(self._rows)} that are followed.")
        return np.array([self._rows[problem_id] for problem_id in problem_ids], dtype=np.int64)

    def counts(self) -> tuple[Floats, Floats]:
        """Return the discounted passes and valid generations as of the latest step, **shape (P,)** each."""
        share = self._shares(np.arange(self.num_valid.size))
        return self.num_passed * share, self.num_valid * share

    def pass_rates(self) -> Floats:
        """Return the discounted pass rates, **shape (P,)**; nan for problems without an observation."""
        return pass_rates(*self.counts())

    def weights(self) -> Floats:
        """Return the problem weights as of the latest step, mean 1, **shape (P,)**; refuse weights that are all 0."""
        passed, valid = self.counts()
        weighting = dict(self.weighting)
        if weighting.get("estimator") == "posterior" and weighting.get("prior") is None and valid.any():
            weighting["prior"] = self._fitted_prior(passed, valid)
        return problem_weights(passed, valid, discounted=True, **weighting)

    def _fitted_prior(self, passed: Floats, valid: Floats) -> Prior:
        is_old = self.num_observed >= self.fitted_at + _REFIT_SHARE * valid.sum()
        if self._prior is None or is_old:
            self._prior = fit_prior(passed, valid, discounted=True)
            self.fitted_at = self.num_observed
        return self._prior

    def _shares(self, rows: npt.NDArray[np.int64]) -> Floats:
        """Return by how much counts have faded since their problem was last observed."""
        return np.maximum(0.5 ** ((self.step - self.last_step[rows]) / self.half_life), _LEAST_SHARE)

    def metrics(self) -> dict[str, float]:
        """
        Return what is logged: mean pass rate, shares of problems, and how old the evidence is.

        `staleness` is the mean number of steps since a problem was last observed, `evidence` the mean number of
        generations that a pass rate rests on by now.
        """
        passed, valid = self.counts()
        known = problem_metrics(passed, valid, staleness=float(np.mean(self.step - self.last_step)))
        return {"pass_rate": float("nan"), **known, "evidence": float(valid.mean())}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that changes, as arrays and numbers."""
        state = {name: np.copy(getattr(self, name)) for name in _STATE}
        if self._prior is not None:
            parameters = (self._prior.a0, self._prior.b0, self._prior.mass_at_zero, self._prior.mass_at_one)
            state["prior"] = np.array(parameters, dtype=np.float64)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned for the same problems; refuse the state of another run."""
        missing = [name for name in _STATE if name not in state]
        if missing or len(state["num_valid"]) != self.num_valid.size:
            found = "no counts" if missing else f"counts of {len(state['num_valid'])} problems"
            raise ValueError(
                f"The state has {found}, and {self.num_valid.size} problems are followed: it belongs to another run."
            )
        for name in ("num_passed", "num_valid", "last_step"):
            setattr(self, name, np.array(state[name], dtype=np.float64))
        for name in ("step", "num_observed", "fitted_at"):
            setattr(self, name, int(state[name]))
        self._prior = Prior(*(float(value) for value in state["prior"])) if "prior" in state else None
