"""
PACED: distillation at the frontier of the student's competence (arXiv 2603.11178), as an extension of TRL.

Names are loaded when they are used: `import paced_trl` needs neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any


_EXPORTS = {
    "prior": ["Prior"],
    "prior_fit": ["fit_beta_prior", "fit_prior"],
    "weighting": ["effective_sample_size", "posterior_mean_weight", "problem_weights"],
    "verification": ["Verdict", "Verifier", "load_verifier"],
    "verification_report": ["VerificationReport", "verify_completions"],
    "completions": ["Completion", "SamplingParameters"],
    "engines": ["load_generator"],
    "generation": ["TransformersGenerator"],
    "store": ["PassRateStore"],
    "data": ["load_problems"],
    "estimation": ["estimate_pass_rates"],
    "online_pass_rates": ["OnlinePassRates"],
    "references": ["generate_references"],
    "solution_likelihood": ["solution_log_probabilities"],
    "training_data": ["with_pass_rates"],
    "config": ["PacedConfig"],
    "sampling": ["FrontierSampler"],
    "trainer": ["PacedTrainer"],
    "evaluation": ["Evaluation", "compare_runs", "evaluate_model"],
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = sorted(_MODULE_OF)

if TYPE_CHECKING:
    from .completions import Completion as Completion
    from .completions import SamplingParameters as SamplingParameters
    from .config import PacedConfig as PacedConfig
    from .data import load_problems as load_problems
    from .engines import load_generator as load_generator
    from .estimation import estimate_pass_rates as estimate_pass_rates
    from .evaluation import Evaluation as Evaluation
    from .evaluation import compare_runs as compare_runs
    from .evaluation import evaluate_model as evaluate_model
    from .generation import TransformersGenerator as TransformersGenerator
    from .online_pass_rates import OnlinePassRates as OnlinePassRates
    from .prior import Prior as Prior
    from .prior_fit import fit_beta_prior as fit_beta_prior
    from .prior_fit import fit_prior as fit_prior
    from .references import generate_references as generate_references
    from .sampling import FrontierSampler as FrontierSampler
    from .solution_likelihood import solution_log_probabilities as solution_log_probabilities
    from .store import PassRateStore as PassRateStore
    from .trainer import PacedTrainer as PacedTrainer
    from .training_data import with_pass_rates as with_pass_rates
    from .verification import Verdict as Verdict
    from .verification import Verifier as Verifier
    from .verification import load_verifier as load_verifier
    from .verification_report import VerificationReport as VerificationReport
    from .verification_report import verify_completions as verify_completions
    from .weighting import effective_sample_size as effective_sample_size
    from .weighting import posterior_mean_weight as posterior_mean_weight
    from .weighting import problem_weights as problem_weights


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
