"""
Completions with their verdicts on disk. No torch.

    store.py     the store: append-only, one writer, resumable after a kill
    manifest.py  the record of settings, and in which fields two records differ
    shards.py    one Parquet file of completions
    counts.py    generations and verdicts per problem, each generation once
    merging.py   stores made apart, brought together
"""

from .._lazy import lazy_names


__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
