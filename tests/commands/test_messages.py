"""Warnings have one form, whoever warns."""

from __future__ import annotations

import logging
import sys
import warnings

import pytest
from tqdm.auto import tqdm
from transformers.utils.logging import get_logger

from paced_trl.commands.messages import speak_in_one_form


def _handlers(library: str) -> list[logging.Handler]:
    return [handler for handler in get_logger(library).handlers if type(handler) is logging.StreamHandler]


@pytest.fixture
def one_form(monkeypatch: pytest.MonkeyPatch) -> None:
    assert logging.lastResort is not None
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    for handler in (logging.lastResort, *_handlers("transformers")):
        monkeypatch.setattr(handler, "formatter", handler.formatter)
    speak_in_one_form()


def test_warnings_of_python_have_no_file_and_no_line_of_code(one_form: None) -> None:
    assert warnings.formatwarning("Take care.", UserWarning, "/somewhere/module.py", 12) == "Warning: Take care.\n"


@pytest.mark.parametrize("library", ["transformers", None])
def test_warnings_of_loggers_look_the_same(one_form: None, library: str | None) -> None:
    handlers = _handlers(library) if library else [logging.lastResort]
    record = logging.LogRecord("any.name", logging.WARNING, "module.py", 1, "Take %s.", ("care",), None)
    assert [handler.format(record) for handler in handlers if handler] == ["Warning: Take care."]
    record.levelno = logging.ERROR
    assert [handler.format(record) for handler in handlers if handler] == ["Error: Take care."]


def test_a_warning_starts_on_a_line_of_its_own_beside_a_bar(one_form: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar, cleared = tqdm(total=3, disable=False), []
    monkeypatch.setattr(bar, "clear", lambda **_: cleared.append(bar))
    warnings.formatwarning("Take care.", UserWarning, "module.py", 12)
    assert bar in cleared
    bar.close()
