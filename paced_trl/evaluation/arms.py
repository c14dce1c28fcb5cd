"""
The arms of a comparison: a name and the settings it changes, e.g. `uniform: {weighting: uniform}`, and the presets.

Knows nothing of how arms are run and what comes of them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..names import check_plain_name, did_you_mean
from ..setting_checks import Settings
from ..settings import setting


if TYPE_CHECKING:
    from ..training.config import PacedConfig

BASE = "base"
TWO_STAGES = "paced_forward_then_reverse"
DEFAULT_ARMS = (
    "uniform",
    "hard_filter",
    "paced",
    "paced_sampling",
    "paced_sampling_refreshed",
    "hard_filter_refreshed",
    TWO_STAGES,
)

Arms = dict[str, dict[str, Any]]

_FIXED: dict[str, Any] = {"refresh": "never"}
_REFRESHED = {"refresh": "estimate", "refresh_steps": 50}
_UNIFORM = {"weighting": "uniform", "replay_share": 0.0}
_BY_LOSS = {"weighting": "beta", "apply_weights": "loss", **_FIXED}
_SAMPLED = {"weighting": "beta", "apply_weights": "sampling", **_FIXED}
_FILTERED = {"weighting": "hard_filter", "apply_weights": "sampling", **_FIXED}
_NO_CACHE = {**_FIXED, "teacher_cache": None}  # of a teacher that is not run on references

# One flag each for the method and the controls every comparison needs; the paper measures pass rates once. "sampling"
# draws problems in proportion to their weight; the hard filter is drawn too, which is what filtering a dataset does.
PRESETS: Arms = {
    "uniform": {**_UNIFORM, **_FIXED},
    "hard_filter": _FILTERED,
    "paced": _BY_LOSS,
    "paced_sampling": _SAMPLED,
    # The paper's two stages, where the other arms have one.
    TWO_STAGES: {**_BY_LOSS, "kl": "forward_then_reverse"},
    # Ours: pass rates measured again every 50 steps, as in the demo.
    "paced_sampling_refreshed": {**_SAMPLED, **_REFRESHED},
    "hard_filter_refreshed": {**_FILTERED, **_REFRESHED},
    # SC-SDPO (arXiv 2605.27765) weighs by sqrt(p (1 - p)).
    "sqrt": {**_SAMPLED, "weight_alpha": 0.5, "weight_beta": 0.5},
    # DAPO's dynamic sampling keeps 0 < p < 1: no count of fewer than a million generations is left out otherwise.
    "dapo": {**_FILTERED, "weight_band": [1e-6, 1.0 - 1e-6]},
    # Supervised fine-tuning on the references that the other arms distill on: what the teacher's distribution adds.
    "sft": {**_UNIFORM, "kl": "cross_entropy", "completion_source": "auto", **_NO_CACHE},
    # On-policy distillation as TRL's own trainer runs it (arXiv 2306.13649): reverse KL on the student's completions.
    "opd": {**_UNIFORM, "kl": "reverse", "completion_source": "student", **_NO_CACHE},
    # The weights of `paced_sampling` on other problems: which problems count, apart from how uneven the weights are.
    "random_weights": {**_SAMPLED, "shuffle_weights": True},
    # What the teacher can teach, whatever the student knows (TGOPD, arXiv 2609.02998).
    "teacher_gate": {"weighting": "teacher_gate", "replay_share": 0.0, "apply_weights": "sampling", **_FIXED},
    # Self-distillation with another problem's context (OP2SD, arXiv 2608.09228): what the context itself tells.
    "shuffled_context": {**_BY_LOSS, "shuffle_context": True},
    # A baseline of the paper: adaptive KL (arXiv 2404.02657), unweighted.
    "akl": {**_UNIFORM, "kl": "akl", **_FIXED},
}


@dataclass
class ComparisonArguments(Settings):
    """Which arms `compare` trains, and on which seeds."""

    _argument_group_name: ClassVar[str] = "comparison"

    arms: list[str] = setting(
        [],
        "Names of presets, e.g. `uniform paced`, or name and the settings it changes, e.g. "
        '\'{"mine": {"weight_beta": 2.0}, "uniform": {}}\'. The base student, `base`, is always one. '
        f"Default: {', '.join(DEFAULT_ARMS)}.",
        unchecked=True,
    )
    seeds: list[int] = setting([0, 1, 2], "Seeds each arm is trained with.", at_least=0, at_most=2**32 - 1)
    learning_rates: list[float] = setting(
        [], "Train every arm with each of these rates, as arms ARM@RATE: a grid to choose a rate from.", more_than=0
    )
    select_on: str | None = setting(
        None,
        "With several learning_rates, the name of one of eval_sets on which each arm's best rate is chosen; the "
        "tables compare these on the other sets.",
    )
    count_estimation: bool = setting(
        False,
        "Whether the tokens of estimating pass rates are part of the token_budget, and of the curves, of arms that "
        "use them.",
    )
    control: str = setting("uniform", "Arm that the others are compared with.")
    curve_points: int = setting(
        4,
        "Evaluations of each arm while it trains, evenly spaced, for learning curves; 0 for none. They are not part "
        "of an arm's time and tokens.",
        at_least=0,
    )
    num_curve_generations: int = setting(2, "Completions per held-out problem in those evaluations.", at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._by_name = named_arms(self.arms)
        if len(set(self.seeds)) != len(self.seeds) or not self.seeds:
            raise ValueError(f"`seeds` is {self.seeds}; give at least one, and each once.")
        if self.learning_rates:
            self._by_name = {
                f"{name}@{rate:g}": {**settings, "learning_rate": rate}
                for name, settings in self._by_name.items()
                for rate in self.learning_rates
            }
            self.control = f"{self.control}@{self.learning_rates[0]:g}"
        elif self.select_on is not None:
            raise ValueError(
                f"`select_on` is {self.select_on!r} without `learning_rates`, so there is nothing to choose from. "
                "Give several rates, or leave it out."
            )

    @property
    def settings_by_arm(self) -> Arms:
        """The settings that each arm changes, by name."""
        return self._by_name

    def complete(self, args: PacedConfig, earlier: Arms | None = None) -> None:
        """Bring the arms to those of this run, with those of an `earlier` comparison in the same directory."""
        arms = self._by_name
        if not self.arms and args.kl == "forward_then_reverse":
            # Then all arms have two stages.
            arms = {name: kept for name, kept in arms.items() if name.partition("@")[0] != TWO_STAGES}
        self._by_name = arms = (earlier or {}) | arms
        if self.control not in arms:
            raise ValueError(
                f"`control` is {self.control!r}, which is no arm. Name one of {', '.join(arms)} with `--control`, or "
                f"add {self.control!r} to `arms`."
            )
        for settings in arms.values():
            arm_config(args, settings, str(args.output_dir))


def named_arms(given: Sequence[str] | Mapping[str, dict[str, Any] | None] | str) -> Arms:
    """
    Return the settings that each arm changes; without names, the default arms.

    Given are names of presets, or a mapping of names to settings, which change the preset of that name if there is
    one, or that mapping as JSON, alone or as the only element.
    """
    given = [given] if isinstance(given, str) else given
    if isinstance(given, (list, tuple)) and len(given) == 1 and str(given[0]).lstrip().startswith("{"):
        text = str(given[0])
        try:
            given = json.loads(text)
        except ValueError as error:
            raise ValueError(
                f"`arms` is {text!r}, which is no JSON object ({error}). Write names, or '{{\"name\": {{}}}}'."
            ) from error
    if isinstance(given, (list, tuple)) and all(isinstance(name, str) for name in given):
        for name in given:
            if given.count(name) > 1:
                raise ValueError(f"`arms` has {name!r} more than once. Name each arm once.")
        given = dict.fromkeys(given or DEFAULT_ARMS)
    if not isinstance(given, Mapping) or not all(
        isinstance(name, str) and isinstance(settings, (dict, type(None))) for name, settings in given.items()
    ):
        raise ValueError(
            f"`arms` is {str(given)[:200]}, which is neither a list of names nor a mapping of names to settings. "
            "Write `[uniform, paced]`, or `{mine: {weight_beta: 2.0}, uniform: {}}`."
        )
    arms = {name: PRESETS.get(name, {}) | (settings or {}) for name, settings in given.items() if name != BASE}
    for name, settings in arms.items():
        check_plain_name(name, "arms")
        if not settings:
            hint = did_you_mean(name, PRESETS)
            raise ValueError(
                f"The arm {name!r} changes no setting and is no preset.{hint} Presets: {', '.join(PRESETS)}; or give "
                'settings, e.g. \'{"my_arm": {"weight_beta": 2.0}}\'.'
            )
    return arms


def arm_config(args: PacedConfig, settings: dict[str, Any], output_dir: str) -> PacedConfig:
    """Return a copy of the settings with an arm's changes."""
    names = {f.name for f in dataclasses.fields(args)}
    for name in settings.keys() - names:
        hint = did_you_mean(name, names, quote="`")
        raise ValueError(f"An arm sets `{name}`, which is no setting of `PacedConfig`.{hint}")
    return dataclasses.replace(args, **{"beta": None, "output_dir": output_dir, **settings})


def pays_for_estimation(config: PacedConfig) -> bool:
    """Return whether an arm uses the pass rates that were estimated before training."""
    return config.uses_pass_rates


def budget_of(config: PacedConfig, estimation_tokens: int) -> int | None:
    """Return the tokens that are left for training once an arm has paid for its pass rates, if there is a budget."""
    if config.token_budget is None or not pays_for_estimation(config):
        return config.token_budget
    if config.token_budget <= estimation_tokens:
        raise ValueError(
            f"`token_budget` is {config.token_budget:,}, and with `count_estimation` estimating the pass rates took "
            f"{estimation_tokens:,} of it, so nothing is left to train with. Give more, or measure with fewer "
            "`num_generations`."
        )
    return config.token_budget - estimation_tokens
