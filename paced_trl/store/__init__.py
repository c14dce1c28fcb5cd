"""
Completions with their verdicts on disk. No torch.

    store.py   the store: append-only, resumable after a kill
    shards.py  one Parquet file of completions
"""

from .._lazy import lazy_names


__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
