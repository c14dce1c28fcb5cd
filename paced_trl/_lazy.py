"""Names that are loaded when they are first used, so that importing a room loads none of its modules."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any


def lazy_names(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """
    Return a package's `__getattr__`, `__dir__` and `__all__`.

    Its names, and the modules that they come from, stand once: in `__init__.pyi`, which type checkers read.
    """
    stub = ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    module_of = {alias.name: "." * node.level + (node.module or "") for node in imports for alias in node.names}

    def load(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(module_of[name], package), name)

    return load, lambda: sorted(module_of), sorted(module_of)
