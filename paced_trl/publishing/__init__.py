"""
A finished run -> card, files, Hub.

    publish.py  staged, checked, uploaded
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
