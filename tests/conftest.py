"""The environment of every test, and the fixtures that many of them use."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest


os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
pytest.register_assert_rewrite("helpers")

from helpers.paths import ROOT, TESTS  # noqa: E402
from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer  # noqa: E402


if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from paced_trl import PacedTrainer

# Scripts and processes that tests start find the package and the helpers.
_GIVEN = os.environ.get("PYTHONPATH", "").split(os.pathsep)
os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(ROOT), str(TESTS), *filter(None, _GIVEN)]))


@pytest.fixture
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of 100 tokens, one per character; see `build_tiny_tokenizer`."""
    return build_tiny_tokenizer()


@pytest.fixture
def make_tiny_model() -> Callable[..., PreTrainedModel]:
    """The factory `build_tiny_model(architecture="llama", vocab_size=100, seed=0, **config_overrides)`."""
    return build_tiny_model


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., PacedTrainer]:
    """The factory `make_trainer(dataset=None, architecture="llama", **settings)`; see `helpers.training`."""
    from helpers.training import make_trainer

    return partial(make_trainer, tmp_path)
