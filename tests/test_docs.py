"""The documentation runs: Python blocks on the demo's files, commands and YAML keys against the parsers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from helpers.paths import ROOT
from helpers.processes import run_forked
from paced_trl.commands import COMMANDS
from paced_trl.commands.early_checks import known_settings
from paced_trl.commands.recipe import Recipe


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "paced_trl").glob("*/README.md"))]
PAGES += sorted((ROOT / "recipes").rglob("*.md"))
RECIPE_COMMANDS = {"estimate", "train", "evaluate", "compare", "plan", "diagnose", "teacher-gap"}


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language; `python no-run` says why in its first comment."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the `paced-trl` command lines of a page's bash blocks, without comments and ways of launching."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            if match := re.search(r"(?:paced-trl |-m paced_trl\.commands\.|-m paced_trl )([a-z_-]+.*)$", line):
                yield shlex.split(match[1], comments=True)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists() and blocks(page, "python")], ids=named)
def test_python_blocks_run_on_the_demo(page: Path, tmp_path: Path) -> None:
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "blocks.py").write_text("\n".join(blocks(page, "python")))
    result = run_forked("blocks.py", cwd=tmp_path, timeout=200)
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=named)
def test_commands_have_the_flags_that_pages_show(page: Path) -> None:
    for command, *arguments in commands(page):
        command = command.replace("_", "-")
        assert command in COMMANDS or command == "COMMAND", f"{command} is no command"
        if command in RECIPE_COMMANDS and "--help" not in arguments:
            for position, argument in enumerate(arguments):
                if argument == "--config" and not (ROOT / arguments[position + 1]).exists():
                    arguments[position + 1] = "recipes/demo/recipe.yaml"
            Recipe.parse(command, [argument for argument in arguments if argument != "..."], description="")


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists() and blocks(page, "yaml")], ids=named)
def test_yaml_blocks_name_settings_that_exist(page: Path) -> None:
    known = known_settings() | {"include", "env"}
    for block in blocks(page, "yaml"):
        settings = yaml.safe_load(block)
        if isinstance(settings, dict):
            assert set(settings) <= known, set(settings) - known


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), f"{named(page)} links to {target}"
