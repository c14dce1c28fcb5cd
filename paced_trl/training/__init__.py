"""
Weights -> loss -> student, resumable.

    paced_settings.py     PACED's own settings, without torch
    config.py             the settings of a run: DistillationConfig and PACED's own, and what they cannot be
    schedule.py           which divergence a step has, and whose completions it is measured on
    trainer.py            DistillationTrainer with problem weights, schedule and refresh
    loss.py               where a weight enters the loss; adaptive KL
    teacher_trainer.py    the teacher's half of a step; with self_teacher.py, teacher_prompt.py, teacher_cache.py
    prompt_beginning.py   what the prompts of a batch begin with, run once for the loss
    resumable_trainer.py  when a checkpoint is written and read
    checkpoints.py        how it is kept whole
    problem_sampler.py    problems drawn in proportion to their weight
    online_pass_rates.py  pass rates that follow the student while it trains
    refresh.py            when they are updated or measured again
    dataset.py            what the trainer needs of a data set
    run.py                one run: trained, continued where it was stopped, saved
    in_words.py           a run in words, for cards and reports
    plan.py               memory, disk and tokens of a run; memory.py counts the memory
    preflight/            what is refused before models load
    monitoring/           what is logged, and what looks wrong
"""

from .._lazy import lazy_names


__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
