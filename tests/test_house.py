"""The direction of imports, and the TRL symbols that are relied on."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from helpers.paths import ROOT


PACKAGE = ROOT / "paced_trl"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
HEAVY = {"torch", "transformers", "datasets", "trl", "peft", "accelerate"}
# Modules of ours that a module may import when it is loaded; None: any but the trainer.
ALLOWED = {
    "pass_rate": set(),
    "prior": {"pass_rate"},
    "prior_fit": {"pass_rate", "prior"},
    "kernel": {"pass_rate", "prior"},
    "weighting": {"kernel", "pass_rate", "prior", "prior_fit"},
    "schedule": set(),
    "sampling": set(),
    "adaptive_kl": set(),
    "run_directory": set(),
    "arguments": set(),
    "callbacks": {"schedule", "trackers", "training_advice", "training_notes"},
    "training_notes": {"run_directory"},
    "trackers": set(),
    "trainability": {"arguments"},
    "validation": {"verification"},
    "vocabulary": set(),
    "training_advice": {"pass_rate"},
    "batching": set(),
    "completions": set(),
    "servers": set(),
    "engines": {"completions"},
    "differences": {"pass_rate"},
    "learning_curve": {"run_directory"},
    "training_costs": set(),
    "arms": {"config"},
    "standard_sets": set(),
    "decisive_settings": set(),
}
LIGHT = ["__init__", "pass_rate", "weighting", "schedule", "arguments", "verification", "store", "evaluation"]
LIGHT += ["report/__init__", "report/page"]
MAY_IMPORT_TRAINER = {"distillation", "__init__"}
MAY_USE_PRIVATE_TRL = {"weighted_divergence", "adaptive_kl", "sampling", "teacher_states", "completions_table"}


def imports(path: Path, *, at_load: bool) -> set[tuple[int, str]]:
    """Return (level, module) of a module's imports; those under TYPE_CHECKING never run."""
    found = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if at_load and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        if isinstance(node, ast.Import):
            found.update((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module:
                found.add((node.level, node.module))
            else:
                found.update((node.level, alias.name) for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


@pytest.mark.parametrize("name", ALLOWED)
def test_foundations_import_only_what_lies_below_them(name: str) -> None:
    ours = {module for level, module in imports(PACKAGE / f"{name}.py", at_load=False) if level}
    assert ours <= ALLOWED[name]


@pytest.mark.parametrize(
    "name",
    [
        "__init__",
        "pass_rate",
        "weighting",
        "schedule",
        "arguments",
        "verification",
        "store",
        "shards",
        "store_counts",
        "merging",
        "evaluation",
        "comparison",
        "standard_sets",
        "report/page",
    ],
)
def test_light_modules_load_nothing_heavy(name: str) -> None:
    roots = {module.split(".")[0] for level, module in imports(PACKAGE / f"{name}.py", at_load=True) if not level}
    assert not roots & (HEAVY - ({"datasets"} if name == "store" else set()))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_nothing_imports_the_trainer_but_what_runs_it(path: Path) -> None:
    ours = {module for level, module in imports(path, at_load=False) if level}
    assert "trainer" not in ours or path.stem in MAY_IMPORT_TRAINER
    if path.parent.name != "commands":
        assert not any(module.startswith("commands") for module in ours) or path.stem == "__main__"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_private_trl_symbols_stay_in_the_trainer(path: Path) -> None:
    inner = {module for level, module in imports(path, at_load=False) if not level and module.startswith("trl.")}
    assert not inner or path.stem in MAY_USE_PRIVATE_TRL


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
