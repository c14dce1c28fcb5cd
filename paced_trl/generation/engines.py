"""A generator by the name of its engine, and which of a model's options an engine decides itself."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from .completions import Generator

_LOADERS = {
    "transformers": ("transformers_engine", "load_transformers_generator"),
    "vllm": ("vllm_engine", "load_vllm_generator"),
    "openai": ("openai_engine", "load_openai_generator"),
}
# vLLM chooses the kernel of attention; servers have loaded their model.
_DECIDED_BY_ENGINE = {"vllm": ("attn_implementation",), "openai": ("attn_implementation", "dtype")}


def load_generator(engine: str = "transformers", **options: Any) -> Generator:
    """
    Make a generator by the name of its engine.

    Example:

    ```python
    >>> generator = load_generator("transformers", model_name_or_path="Qwen/Qwen3-0.6B", batch_size=32)
    >>> generator = load_generator("openai", model_name_or_path="Qwen/Qwen3-0.6B", base_urls=["http://gpu-1:8000"])
    ```

    Args:
        engine (`str`, *optional*, defaults to `"transformers"`):
            `"transformers"` generates in this process, `"vllm"` too, with vLLM's engine, `"openai"` on servers.
        **options (`Any`):
            Those of [`load_transformers_generator`], [`load_vllm_generator`] or [`load_openai_generator`].
            `batch_size` is the first's; the others, which have a `concurrency`, ignore it.

    Returns:
        `Generator`

    Raises:
        ValueError: If there is no such engine.
    """
    if engine not in _LOADERS:
        listed = ", ".join(repr(name) for name in _LOADERS)
        raise ValueError(f"`engine` is {engine!r}, which does not exist. The engines are: {listed}.")
    module, loader = _LOADERS[engine]
    if engine != "transformers":
        # Before version 0.2, how much was asked of it at a time.
        options.pop("batch_size", None)
    generator: Generator = getattr(importlib.import_module(f".{module}", __package__), loader)(**options)
    return generator


def model_options(engine: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return those options of a model that an engine takes: without what it decides itself."""
    return {name: value for name, value in options.items() if name not in _DECIDED_BY_ENGINE.get(engine, ())}


@contextmanager
def closing_generator(generator: Generator) -> Iterator[Generator]:
    """Give back at the end what a generator holds, such as vLLM's share of a GPU, before a model is trained there."""
    try:
        yield generator
    finally:
        getattr(generator, "close", lambda: None)()
