"""Names that are loaded when they are first used, so that importing a room loads none of its modules."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy_names(package: str, names_by_module: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], Any], list[str]]:
    """Return a package's `__getattr__` and `__all__` from the names that each of its modules gives."""
    module_of = {name: module for module, names in names_by_module.items() for name in names}

    def load(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f".{module_of[name]}", package), name)

    return load, sorted(module_of)
