"""
Weights -> loss -> student, resumable.

    config.py             the settings of a run: DistillationConfig and PACED's own
    trainer.py            DistillationTrainer with problem weights, schedule and refresh
    problem_sampler.py    problems drawn in proportion to their weight
    online_pass_rates.py  pass rates that follow the student while it trains
    dataset.py            what the trainer needs of a data set
    run.py                one run: trained, continued where it was stopped, saved
"""

from .._lazy import lazy_names


__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
