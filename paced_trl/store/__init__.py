"""
Completions with their verdicts on disk. No torch.

    store.py   the store: append-only, resumable after a kill
    shards.py  one Parquet file of completions
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names


__getattr__, __all__ = lazy_names(
    __name__,
    {
        "store": ["PassRateStore", "StoreLockedError"],
        "shards": ["SCHEMA"],
    },
)

if TYPE_CHECKING:
    from .shards import SCHEMA as SCHEMA
    from .store import PassRateStore as PassRateStore
    from .store import StoreLockedError as StoreLockedError
