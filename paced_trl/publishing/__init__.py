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

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names


__getattr__, __all__ = lazy_names(
    __name__,
    {
        "publish": ["check_repositories", "publish_run", "stage_run"],
    },
)

if TYPE_CHECKING:
    from .publish import check_repositories as check_repositories
    from .publish import publish_run as publish_run
    from .publish import stage_run as stage_run
