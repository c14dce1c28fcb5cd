"""YAML files of settings: nothing a user wrote is lost silently."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from paced_trl.commands.config_files import read_settings, take_config


def test_files_that_are_included_come_first(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("x: 1\ny: 1\n")
    (tmp_path / "b.yaml").write_text("include: a.yaml\ny: 2\n")
    assert read_settings(tmp_path / "b.yaml") == {"x": 1, "y": 2}


def test_both_ways_to_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("x: 1\n")
    for given in (["--config", str(tmp_path / "a.yaml")], [f"--config={tmp_path / 'a.yaml'}"]):
        assert take_config(["--y", "2", *given]) == (["--y", "2"], {"x": 1})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config"], "without a file"),
        (["--config", "--x"], "without a file"),
        (["--config", "a.yaml", "--config=b.yaml"], r"given 2 times \(a.yaml, b.yaml\)"),
        (["--config", "none.yaml"], "'none.yaml', which does not exist"),
        (["--config", "."], "which is a directory"),
    ],
)
def test_a_file_that_cannot_be_meant(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        take_config(arguments)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"x: 1\ny: 2\nx: 3\n", "the key `x` is given twice, in lines 1 and 3"),
        (b"arms: {mine: {weight_beta: 2.0, weight_beta: 3.0}}\n", "the key `weight_beta` is given twice"),
        (b"- a\n", "holds no `key: value` lines"),
        (b"", "holds no `key: value` lines"),
        (b"a: [", "not valid YAML"),
        (b"1: 2\n", "whose key 1 is no text"),
        (b"include: 3\n", "whose `include` is 3"),
        (b"include: c.yaml\n", "leads back to itself"),
        (b"a: !!python/object/apply:os.system [id]\n", "not valid YAML"),
        (b"\xff\xfea\x00", "not UTF-8"),
        (b"a: " + b"[" * 5000 + b"]" * 5000, "nested too deeply"),
        (BOMB.encode(), "stands for more than 100,000 values"),
    ],
)
def test_what_is_no_file_of_settings(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "c.yaml").write_bytes(text)
    start = time.monotonic()
    with pytest.raises(ValueError, match=message):
        read_settings(tmp_path / "c.yaml")
    assert time.monotonic() - start < 30
