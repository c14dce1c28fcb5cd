"""
A finished run -> card, files, Hub.

    publish.py         staged, checked, uploaded
    run.py             what a run may say of itself: settings, evaluations, names
    provenance.py      what `train` was started with, written beside the run
    card.py            model card and dataset card, from templates/
    merged_adapter.py  an adapter merged into its base, if the model stays the same
    privacy.py         private texts, found and refused
    hub.py             rights asked before anything expensive; upload; errors in one sentence
"""

from .._lazy import lazy_names


__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
