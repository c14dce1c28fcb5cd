"""The tutorial runs from top to bottom without a kernel, and gives what it shows."""

from __future__ import annotations

import ast
import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

import paced_trl
from helpers.paths import ROOT
from paced_trl.generation.transformers_engine import load_transformers_generator


NOTEBOOK = ROOT / "recipes/tutorial.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def printed(cell: dict[str, Any]) -> str:
    return "".join("".join(output["text"]) for output in cell["outputs"] if output.get("name") == "stdout")


def has_picture(cell: dict[str, Any]) -> bool:
    return any("image/png" in output.get("data", {}) for output in cell["outputs"])


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"[-+]?\d*\.\d+", text)]


def calls(text: str) -> set[tuple[str, str]]:
    """Return which arguments a program gives by name, and to what."""
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    return {(ast.unparse(call.func), str(keyword.arg)) for call in found for keyword in call.keywords}


@pytest.mark.slow
def test_the_tutorial_gives_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import matplotlib.pyplot as plt
    import torch

    torch.set_num_threads(1)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: None)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # which the notebook sets
    names: dict[str, Any] = {}
    for number, cell in enumerate(CODE):
        capsys.readouterr()
        exec(compile(source(cell), f"cell {number}", "exec"), names)
        said, shown = capsys.readouterr().out, printed(cell)
        # Another processor may draw another completion here and there.
        if "train(" not in source(cell):
            assert len(said.splitlines()) == len(shown.splitlines())
            assert numbers(said) == pytest.approx(numbers(shown), abs=0.05, rel=0.1)
        assert bool(plt.get_fignums()) == has_picture(cell)
        plt.close("all")
    assert names["difference"].low > 0
    assert (tmp_path / "runs/tutorial/paced/model.safetensors").exists()


def test_its_outputs_are_those_of_one_run_from_top_to_bottom() -> None:
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    assert not any(output["output_type"] == "error" for cell in CODE for output in cell["outputs"])
    assert [has_picture(cell) for cell in CODE].count(True) == 2
    # A heading for each of the ten steps, and one for one's own model.
    assert len([cell for cell in CELLS if source(cell).startswith("## ")]) == 11
    assert not re.search(r"/(tmp|home|root|work)/", NOTEBOOK.read_text())


def test_it_is_the_quick_start_of_the_readme_where_the_teacher_writes_the_references() -> None:
    page = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    assert calls(block) - calls("\n".join(map(source, CODE))) == {("load_problems", "reference_column")}
    assert NOTEBOOK.relative_to(ROOT).as_posix() in page


def test_what_to_change_for_a_model_of_ones_own_has_arguments_that_exist() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", source(CELLS[-1]), re.M | re.S)
    functions = {"load_generator": load_transformers_generator}
    for name, argument in calls(block):
        function = functions.get(name) or getattr(paced_trl, name, None)
        if function is not None and argument != "None":
            inspect.signature(function).bind_partial(**{argument: None})
    assert {name for name, _ in calls(block)} >= {"load_problems", "load_generator", "PacedTrainer", "PacedConfig"}
