"""
Prompt -> completions, and the models that write them.

    completions.py          what a generator takes and returns
    engines.py              a generator by the name of its engine
    transformers_engine.py  generation in this process with transformers
    models.py               students, teachers and tokenizers from the Hub, directories, adapters, GGUF
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names


__getattr__, __all__ = lazy_names(
    __name__,
    {
        "completions": ["Completion", "Generator", "SamplingParameters"],
        "engines": ["load_generator"],
        "transformers_engine": ["TransformersGenerator"],
        "models": ["load_model", "load_tokenizer"],
    },
)

if TYPE_CHECKING:
    from .completions import Completion as Completion
    from .completions import Generator as Generator
    from .completions import SamplingParameters as SamplingParameters
    from .engines import load_generator as load_generator
    from .models import load_model as load_model
    from .models import load_tokenizer as load_tokenizer
    from .transformers_engine import TransformersGenerator as TransformersGenerator
