"""
What a recipe's settings name: problems, verifier, generators, directories.

The steps that are made of them are in `recipe_training.py` and `recipe_evaluation.py`. Each command runs one of the
steps and `compare` runs them all, so that template, sampling parameters and verifier are the same everywhere. No
algorithm is here; these modules only hand settings to the parts that have one. torch and transformers are imported
where a model is needed, so that a mistake in the settings shows at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset

from ..evaluation.evaluation import TRAINING
from ..generation.completions import SamplingParameters
from ..problems import load_problems
from ..settings import (
    EstimationArguments,
    EvaluateArguments,
    ModelArguments,
    ProblemArguments,
    SamplingArguments,
    TrainArguments,
    VerifierArguments,
    as_mapping,
    require_model,
)
from ..training.monitoring.validation import RETENTION, VALIDATION, check_validation
from ..verification.verifier import Verifier, load_verifier


if TYPE_CHECKING:
    from trl import ModelConfig

    from ..generation.completions import Generator
    from ..training.config import PacedConfig

    SamplingSettings = SamplingArguments | PacedConfig
    VerifierSettings = VerifierArguments | PacedConfig
    ModelSettings = ModelArguments | ModelConfig


def problems_of(args: ProblemArguments, name: str | None = None) -> Dataset:
    """Load the training problems, or the held-out ones called `name` with the same columns and prompt options."""
    source = name or args.dataset_name
    if source is None:
        raise ValueError(
            "`dataset_name` is not given, so there are no problems. Name a .jsonl, .csv or .parquet file, a Hub "
            "dataset or reasoning_gym:<task>, e.g. `--dataset_name problems.jsonl`."
        )
    options = args.load_options()
    split = args.dataset_train_split
    if name is not None:
        # What is trained on belongs to the training problems, and so does their number.
        options |= {"reference_column": None, "privileged_context_column": None, "max_problems": None}
        split = args.dataset_test_split
    return load_problems(source, config=args.dataset_config, split=split, **options)


def validation_problems(
    problem_args: ProblemArguments, train: TrainArguments, args: PacedConfig, problems: Dataset
) -> Dataset | dict[str, Dataset] | None:
    """Load the held-out problems for evaluations during training, by name if there are several kinds; None if none."""
    names = {VALIDATION: train.validation_set, RETENTION: train.retention_set}
    held_out = {name: problems_of(problem_args, data) for name, data in names.items() if data is not None}
    check_validation(getattr(args.eval_strategy, "value", args.eval_strategy), problems, held_out)
    return held_out if RETENTION in held_out else held_out.get(VALIDATION)


def verifier_of(args: VerifierSettings) -> Verifier:
    """Load the verifier that the settings name."""
    if args.verifier is None:
        raise ValueError("`verifier` is not given, so no completion can be judged. Name one, e.g. `--verifier math`.")
    return load_verifier(args.verifier, **as_mapping(args.verifier_kwargs))


def generator_of(
    name_or_path: str | None,
    sampling: SamplingSettings,
    *,
    batch_size: int,
    engine: str = "transformers",
    engine_kwargs: dict[str, Any] | str | None = None,
    **model_options: Any,
) -> Generator:
    """Make a generator of a model with the settings' sampling parameters."""
    from ..generation.engines import load_generator

    # What the other engines decide themselves, and servers have decided.
    own = {"vllm": ("attn_implementation",), "openai": ("attn_implementation", "dtype")}
    return load_generator(
        engine,
        model_name_or_path=require_model(name_or_path),
        sampling=SamplingParameters.of(sampling),
        chat_template_kwargs=as_mapping(sampling.chat_template_kwargs),
        **{name: value for name, value in model_options.items() if name not in own.get(engine, ())},
        **{"batch_size": batch_size} | as_mapping(engine_kwargs),
    )


def engine_options(estimation: EstimationArguments, *, is_trained_here: bool = False) -> dict[str, Any]:
    """Return the keyword arguments of `generator_of` that say how; servers do not have what was trained here."""
    options = {"batch_size": estimation.generation_batch_size}
    if is_trained_here and estimation.engine == "openai":
        return options
    return {**options, "engine": estimation.engine, "engine_kwargs": estimation.engine_kwargs}


def model_options(args: ModelSettings, name_or_path: str | None = None) -> dict[str, Any]:
    """Return the keyword arguments of `load_generator` that say how the student, or a model trained from it, loads."""
    return {
        # A revision names a state of the student's repository, not of a directory that training wrote.
        "revision": args.model_revision if name_or_path in (None, args.model_name_or_path) else None,
        "dtype": args.dtype or "auto",
        "attn_implementation": args.attn_implementation,
        "trust_remote_code": getattr(args, "trust_remote_code", False),
    }


def pass_rates_path(args: EstimationArguments, output_dir: str | None) -> Path:
    """Return the directory of the pass-rate store."""
    if args.pass_rates is None and output_dir is None:
        raise ValueError(
            "Neither `pass_rates` nor `output_dir` is given. Say where results go: `--output_dir runs/mine`."
        )
    return Path(args.pass_rates or Path(str(output_dir)) / "pass_rates")


def held_out_sets(evaluation: EvaluateArguments) -> dict[str, str]:
    """Return evaluation and retention sets together, as [`named_sets`] does."""
    return named_sets(evaluation.eval_sets, "eval_sets") | named_sets(evaluation.retention_sets, "retention_sets")


def named_sets(pairs: Sequence[str], option: str) -> dict[str, str]:
    """Return NAME=DATA pairs as a mapping."""
    sets = {}
    for pair in pairs:
        name, separator, data = pair.partition("=")
        if not (name and separator and data):
            raise ValueError(f"`{option}` has {pair!r}, which is no NAME=DATA pair, such as `test=test.jsonl`.")
        if name == TRAINING:
            raise ValueError(
                f"`{option}` has {pair!r}, and {TRAINING!r} is the name of the problems that are trained on. Choose "
                "another, or measure those with `--training_problems`."
            )
        sets[name] = data
    return sets
