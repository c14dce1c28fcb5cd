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

from ._lazy import lazy_names


__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
