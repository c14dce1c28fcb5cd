"""
Weights -> loss -> student, resumable.

    config.py             the settings of a run: DistillationConfig and PACED's own
    trainer.py            DistillationTrainer with problem weights, schedule and refresh
    problem_sampler.py    problems drawn in proportion to their weight
    online_pass_rates.py  pass rates that follow the student while it trains
    dataset.py            what the trainer needs of a data set
    run.py                one run: trained, continued where it was stopped, saved
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names


__getattr__, __all__ = lazy_names(
    __name__,
    {
        "config": ["PacedConfig"],
        "trainer": ["PacedTrainer"],
        "problem_sampler": ["FrontierSampler"],
        "online_pass_rates": ["OnlinePassRates"],
        "dataset": ["with_pass_rates"],
        "run": ["distill"],
    },
)

if TYPE_CHECKING:
    from .config import PacedConfig as PacedConfig
    from .dataset import with_pass_rates as with_pass_rates
    from .online_pass_rates import OnlinePassRates as OnlinePassRates
    from .problem_sampler import FrontierSampler as FrontierSampler
    from .run import distill as distill
    from .trainer import PacedTrainer as PacedTrainer
