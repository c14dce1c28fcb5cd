"""The house: imports go down only, no circles, short modules, light rooms load nothing heavy, TRL as we know it."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.paths import ROOT


PACKAGE = ROOT / "paced_trl"
# A module imports from rooms of smaller number only. What lies beside the rooms is the ground floor, 0.
FLOORS = {
    "weighting": 1,
    "verification": 2,
    "generation": 3,
    "store": 4,
    "estimation": 5,
    "training": 6,
    "evaluation": 7,
    "report": 8,
    "publishing": 9,
    "commands": 10,
}
APART = {1, 2, 3}  # these do not know each other
ENTRANCES = (PACKAGE / "__init__.py", PACKAGE / "__main__.py")
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path not in ENTRANCES)
# What importing a room, and each of its modules, must not load.
LIGHT = {
    "weighting": {"torch", "transformers", "datasets", "trl", "pyarrow"},
    "verification": {"torch", "transformers", "datasets", "trl", "pyarrow", "numpy"},
    "store": {"torch", "transformers", "trl"},
    "report": {"torch", "transformers", "trl"},
    "settings": {"torch", "transformers", "datasets", "trl", "numpy"},
    "generation.completions": {"torch", "transformers", "datasets", "trl"},
    "generation.engines": {"torch", "transformers", "datasets", "trl"},
    "commands.parsing": {"torch", "transformers", "datasets", "trl"},
    "": {"torch", "transformers", "datasets", "trl"},
}
MAY_USE_PRIVATE_TRL = {"completions_table", "loss", "problem_sampler", "teacher_trainer", "trackers", "vllm"}


def floor_of(path: Path) -> int:
    return FLOORS.get(path.relative_to(PACKAGE).parts[0], 0)


def module_file(parts: tuple[str, ...]) -> Path | None:
    """Return the file of a dotted name below the package, None if it names no module."""
    path = PACKAGE.joinpath(*parts)
    candidates = [path / "__init__.py"] if not parts else [path.with_suffix(".py"), path / "__init__.py"]
    return next((file for file in candidates if file.exists()), None)


def imported_modules(path: Path) -> Iterator[Path]:
    """Yield the modules of ours that a module imports: at load, in functions, and under TYPE_CHECKING."""
    package = path.relative_to(PACKAGE).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            named = [tuple(alias.name.split(".")) for alias in node.names if alias.name.startswith("paced_trl.")]
            targets = [name[1:] for name in named]
        elif isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("paced_trl")):
            above = package[: len(package) - node.level + 1] if node.level else ()
            parts = tuple((node.module or "").split(".")) if node.module else ()
            base = (*above, *(parts if node.level else parts[1:]))
            targets = [(*base, alias.name) if module_file((*base, alias.name)) else base for alias in node.names]
        else:
            continue
        yield from filter(None, (module_file(target) for target in targets))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    for other in imported_modules(path):
        here, there = floor_of(path), floor_of(other)
        assert there <= here, f"{other} lies above"
        assert here == there or not {here, there} <= APART, f"{other} is none of its business"


def test_no_module_is_too_long_to_be_read_at_once() -> None:
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: length for name, length in lengths.items() if length > 450} == {}


def test_no_modules_import_each_other_in_a_circle() -> None:
    # A door names its modules for whoever enters the room; they do not enter through it.
    graph = {path: set(imported_modules(path)) - {path} for path in MODULES if path.name != "__init__.py"}
    finished: set[Path] = set()

    def visit(path: Path, trail: list[Path]) -> None:
        assert path not in trail, " -> ".join(other.name for other in [*trail[trail.index(path) :], path])
        if path not in finished:
            for other in graph.get(path, ()):
                visit(other, [*trail, path])
            finished.add(path)

    for path in graph:
        visit(path, [])


@pytest.mark.parametrize("place", LIGHT)
def test_light_rooms_load_nothing_heavy(place: str) -> None:
    root = PACKAGE.joinpath(*place.split(".")) if place else PACKAGE
    files = [root.with_suffix(".py")] if root.with_suffix(".py").exists() else sorted(root.glob("*.py"))
    if not place:
        files = [PACKAGE / "__init__.py"]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    # What a program for another process imports is that process's business.
    names = [name for name in names if not name.endswith(("sandboxed_program", "__main__"))]
    script = f"import sys, importlib\nfor name in {names}: importlib.import_module(name)\nprint(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not LIGHT[place] & set(result.stdout.split())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_private_trl_symbols_stay_where_they_are_needed(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    modules = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    assert not any(module.startswith("trl.") for module in modules) or path.stem in MAY_USE_PRIVATE_TRL


@pytest.mark.parametrize(
    ("symbol", "parameters"),
    [
        ("DistillationTrainer._get_train_sampler", ["self", "dataset"]),
        ("DistillationTrainer._generate_single_turn", ["self", "prompt_ids", "images", "multimodal_fields"]),
        ("DistillationTrainer._generate_and_score_completions", ["self", "inputs"]),
        ("DistillationTrainer._compute_loss", ["self", "unwrapped_student", "inputs", "num_items_in_batch"]),
        (
            "DistillationTrainer._get_last_hidden_state",
            ["self", "unwrapped_model", "input_ids", "attention_mask", "logits_to_keep"],
        ),
        ("DistillationTrainer._tokenize_prompts", ["self", "prompts"]),
        ("DistillationTrainer.compute_loss", ["self", "model", "inputs"]),
        ("ChunkedDivergenceFunction.forward", ["ctx", "student_hidden", "student_weight", "student_bias"]),
        ("DistillationTrainer._get_eval_sampler", ["self", "eval_dataset"]),
        ("DistillationTrainer.get_eval_dataloader", ["self", "eval_dataset"]),
        ("DistillationTrainer.log", ["self", "logs", "start_time"]),
        ("create_model_from_path", ["model_id"]),
        ("print_prompt_completions_sample", ["prompts", "completions", "rewards", "advantages", "step"]),
        ("RepeatSampler.__init__", ["self", "data_source", "mini_repeat_count", "batch_size", "repeat_count"]),
    ],
)
def test_trl_has_the_methods_that_are_overridden(symbol: str, parameters: list[str]) -> None:
    from trl.trainer import distillation_trainer

    value = distillation_trainer
    for part in symbol.split("."):
        value = getattr(value, part)
    assert list(inspect.signature(value).parameters)[: len(parameters)] == parameters


@pytest.mark.parametrize(
    ("caller", "callee"),
    [
        ("_prepare_inputs", "self._generate_and_score_completions("),
        ("_generate_and_score_completions", "self._generate("),
        ("_generate", "self._generate_single_turn("),
        ("compute_loss", "self._compute_loss"),
        ("_compute_loss", "self.beta"),
        ("_compute_loss", "self._get_last_hidden_state,"),
        ("_compute_loss", "self._forward_redirection("),
        ("get_eval_dataloader", "self._get_eval_sampler"),
        ("log", "self.log_completions"),
    ],
)
def test_trl_still_calls_what_is_overridden(caller: str, callee: str) -> None:
    from trl import DistillationTrainer

    assert callee in inspect.getsource(getattr(DistillationTrainer, caller))
