"""What `import paced_trl` and its rooms offer, and that importing them is light."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement

from helpers.paths import ROOT


DOORS = {
    "weighting": "problem_weights effective_sample_size beta_kernel posterior_mean_weight unbiased_weight Prior "
    "fit_prior fit_beta_prior AdaptiveAllocation",
    "verification": "load_verifier Verifier Verdict Check verify_completions VerificationReport",
    "generation": "load_generator Generator Completion SamplingParameters TransformersGenerator load_model "
    "load_tokenizer",
    "store": "PassRateStore StoreLockedError SCHEMA",
    "estimation": "estimate_pass_rates read_pass_rates generate_references summarize_pass_rates",
    "training": "PacedConfig PacedTrainer FrontierSampler OnlinePassRates with_pass_rates distill",
    "evaluation": "Evaluation evaluate_model compare_runs Comparison run_comparison PRESETS",
    "report": "write_report read_run terminal_summary write_figure",
    "publishing": "publish_run check_repositories stage_run PublishArguments",
    "commands": "main COMMANDS",
}


def test_import_needs_neither_torch_nor_transformers() -> None:
    code = "import sys, paced_trl; sys.exit(bool({'torch', 'transformers', 'datasets', 'trl'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_public_name_can_be_imported() -> None:
    import paced_trl

    assert dir(paced_trl) == paced_trl.__all__
    for name in paced_trl.__all__:
        assert getattr(paced_trl, name).__name__ == name


@pytest.mark.parametrize("room", DOORS)
def test_every_room_offers_its_names(room: str) -> None:
    door = importlib.import_module(f"paced_trl.{room}")
    for name in {*DOORS[room].split(), *getattr(door, "__all__", [])}:
        assert getattr(door, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = door.nothing


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-newest.txt", "constraints-vllm.txt"])
def test_every_set_of_pins_is_one_that_the_package_takes(file: str) -> None:
    def pins(name: str) -> dict[str, str]:
        lines = (ROOT / name).read_text().splitlines()
        return dict(line.lower().replace("-", "_").split("==") for line in lines if not line.startswith("#"))

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for extra in project["optional-dependencies"].values() for text in extra]
    found = pins(file)
    assert found.keys() - {"vllm"} == pins("constraints.txt").keys()
    for requirement in map(Requirement, [*project["dependencies"], *extras]):
        pinned = found.get(requirement.name.lower().replace("-", "_"))
        assert pinned is None or pinned in requirement.specifier, (requirement, pinned)
