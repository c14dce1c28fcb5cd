"""
PACED: distillation at the frontier of the student's competence (arXiv 2603.11178), as an extension of TRL.

Names are loaded when they are used: `import paced_trl` needs neither torch nor transformers. The package is a tower of
rooms; a module imports from rooms above it in this list only:

    weighting/     counts -> problem weights
    verification/  completion + solution -> verdict
    generation/    prompt -> completions; models
    store/         completions with verdicts on disk
    estimation/    problems + engine + verifier -> pass rates; references
    training/      weights -> loss -> student, resumable
    evaluation/    student -> mean@k with intervals; arms, curves
    report/        a run directory -> page and pictures
    publishing/    a finished run -> card, files, Hub
    commands/      one module per command of `paced-trl`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import lazy_names


__getattr__, __all__ = lazy_names(
    __name__,
    {
        "weighting": [
            "Prior",
            "effective_sample_size",
            "fit_beta_prior",
            "fit_prior",
            "posterior_mean_weight",
            "problem_weights",
        ],
        "verification": ["Verdict", "VerificationReport", "Verifier", "load_verifier", "verify_completions"],
        "generation": ["Completion", "SamplingParameters", "TransformersGenerator", "load_generator"],
        "store": ["PassRateStore"],
        "problems": ["load_problems"],
        "estimation": ["estimate_pass_rates", "generate_references", "solution_log_probabilities"],
        "training": ["FrontierSampler", "OnlinePassRates", "PacedConfig", "PacedTrainer", "with_pass_rates"],
        "evaluation": ["Evaluation", "compare_runs", "evaluate_model"],
    },
)

if TYPE_CHECKING:
    from .estimation import estimate_pass_rates as estimate_pass_rates
    from .estimation import generate_references as generate_references
    from .estimation import solution_log_probabilities as solution_log_probabilities
    from .evaluation import Evaluation as Evaluation
    from .evaluation import compare_runs as compare_runs
    from .evaluation import evaluate_model as evaluate_model
    from .generation import Completion as Completion
    from .generation import SamplingParameters as SamplingParameters
    from .generation import TransformersGenerator as TransformersGenerator
    from .generation import load_generator as load_generator
    from .problems import load_problems as load_problems
    from .store import PassRateStore as PassRateStore
    from .training import FrontierSampler as FrontierSampler
    from .training import OnlinePassRates as OnlinePassRates
    from .training import PacedConfig as PacedConfig
    from .training import PacedTrainer as PacedTrainer
    from .training import with_pass_rates as with_pass_rates
    from .verification import Verdict as Verdict
    from .verification import VerificationReport as VerificationReport
    from .verification import Verifier as Verifier
    from .verification import load_verifier as load_verifier
    from .verification import verify_completions as verify_completions
    from .weighting import Prior as Prior
    from .weighting import effective_sample_size as effective_sample_size
    from .weighting import fit_beta_prior as fit_beta_prior
    from .weighting import fit_prior as fit_prior
    from .weighting import posterior_mean_weight as posterior_mean_weight
    from .weighting import problem_weights as problem_weights


def __dir__() -> list[str]:
    return __all__
