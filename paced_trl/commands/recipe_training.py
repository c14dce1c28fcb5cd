"""
The steps of a recipe up to training, from settings to results: pass rates, references, training data.

What settings name is in `recipe.py`, which says why; training itself is in `distillation.py`.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset

from ..estimation.pass_rates import estimate_pass_rates, read_pass_rates
from ..estimation.published_pass_rates import load_pass_rates, names_hub_dataset
from ..estimation.references import generate_references
from ..estimation.summary import precision_of, summarize_pass_rates
from ..generation.completions import SamplingParameters
from ..processes import Processes
from ..publishing.provenance import PROVENANCE, write_provenance
from ..settings import EstimationArguments, ProblemArguments, TrainArguments, WeightArguments, as_mapping
from ..store.store import PassRateStore
from ..training.dataset import with_pass_rates
from ..verification.verifier import Verifier
from ..weighting.prior_features import SOLUTION_LOG_PROBABILITY, problem_features
from .recipe import engine_options, generator_of, model_options, pass_rates_path


if TYPE_CHECKING:
    from trl import ModelConfig

    from ..generation.completions import Generator
    from ..training.config import PacedConfig
    from .recipe import ModelSettings, SamplingSettings


def estimate_student(
    problems: Dataset,
    model: ModelSettings,
    sampling: SamplingSettings,
    estimation: EstimationArguments,
    weights: WeightArguments | PacedConfig,
    verifier: Verifier,
    store: Path,
) -> Dataset:
    """
    Measure the student's pass rates; what the store holds already is not generated again.

    Beside the store, `<store>.parquet` gets the problems with `num_passed`, `num_valid` and `pass_rate`. In place of a
    store `USER/NAME` may name published pass rates: then nothing is generated.
    """
    if names_hub_dataset(store):
        return published_pass_rates(problems, store, sampling)
    generator = generator_of(model.model_name_or_path, sampling, **engine_options(estimation), **model_options(model))
    problems = with_prior_features(problems, weights, store, generator)
    table = estimate_pass_rates(
        problems,
        generator,
        verifier,
        store=store,
        num_generations=estimation.num_generations,
        allocation=estimation.allocation,
        target_error=estimation.target_error,
        weighting=weights.weighting_arguments,
        prior_features=weights.prior_features,
        seed=sampling.seed,
    )
    if Processes.current().is_main:
        with_pass_rates(problems, table).to_parquet(store.with_suffix(".parquet"))
    return table


def published_pass_rates(problems: Dataset, name: Path, sampling: SamplingSettings) -> Dataset:
    """Return the pass rates of problems that a dataset on the Hub holds, as `estimate_pass_rates` returns them."""
    table, record = load_pass_rates(str(name), problems)
    warn_of_other_sampling(record, sampling)
    return table


def with_prior_features(
    problems: Dataset, weights: WeightArguments | PacedConfig, store: Path, generator: Generator | None = None
) -> Dataset:
    """
    Add the log-probability of each solution, if it is a feature of the prior and no column yet.

    It is computed once: beside the store, `<store>.parquet` keeps it.
    """
    name = SOLUTION_LOG_PROBABILITY
    if name not in weights.prior_features or name in problems.column_names:
        return problems
    file = store.with_suffix(".parquet")
    known = {}
    if file.exists():
        measured = Dataset.from_parquet(str(file))
        if name in measured.column_names:
            known = dict(zip(measured["problem_id"][:], measured[name][:], strict=True))
    ids = problems["problem_id"][:]
    if all(problem_id in known for problem_id in ids):
        return problems.add_column(name, [known[problem_id] for problem_id in ids])
    if generator is None:
        advice = "Run `paced-trl estimate` with the same `prior_features` first."
        if names_hub_dataset(store):
            advice = "Published pass rates do not have it: measure your own, or leave the feature out."
        raise ValueError(f"`prior_features` has {name!r}, which was not measured for these problems. {advice}")
    from ..estimation.solution_likelihood import solution_log_probabilities

    values = solution_log_probabilities(problems, generator, progress=Processes.current().is_main)
    return problems.add_column(name, values)


def describe_pass_rates(
    problems: Dataset,
    table: Dataset,
    estimation: EstimationArguments,
    weights: WeightArguments | PacedConfig,
    store: Path,
) -> str:
    """Say what a person should know of a table of pass rates: how they lie, what they cost, how exact they are."""
    text = summarize_pass_rates(table)
    if not any(table["num_valid"]):
        return text
    problems = with_prior_features(problems, weights, store)
    features = problem_features(problems, weights.prior_features)
    precision = precision_of(
        table, estimation.num_generations, weighting=weights.weighting_arguments, features=features
    )
    return f"{text}\n\n{precision}"


def make_references(
    problems: Dataset,
    args: PacedConfig,
    train: TrainArguments,
    estimation: EstimationArguments,
    verifier: Verifier,
    store: Path,
) -> Dataset:
    """
    Let the teacher answer the problems, keep verified completions as `reference`.

    Beside the store, `<store>.parquet` gets them.
    """
    options = as_mapping(args.teacher_model_init_kwargs)
    generator = generator_of(
        args.teacher_model_name_or_path,
        args,
        batch_size=estimation.generation_batch_size,
        engine=train.teacher_engine,
        engine_kwargs=train.teacher_engine_kwargs,
        revision=args.teacher_model_revision,
        trust_remote_code=args.trust_remote_code,
        **{key: options[key] for key in ("dtype", "attn_implementation") if key in options},
        # vLLM and servers have a way of their own to quantise: `teacher_engine_kwargs`.
        **({"load_in_4bit": True} if args.teacher_load_in_4bit and train.teacher_engine == "transformers" else {}),
    )
    references = generate_references(
        problems,
        generator,
        verifier,
        store=store,
        num_attempts=train.num_reference_attempts,
        unsolved=train.unsolved,
        seed=args.seed,
    )
    if Processes.current().is_main:
        references.to_parquet(store.with_suffix(".parquet"))
    return references


def training_problems(
    problems: Dataset,
    args: PacedConfig,
    train: TrainArguments,
    estimation: EstimationArguments,
    verifier: Verifier | None,
) -> Dataset:
    """
    Join what training needs to the problems: measured pass rates, and references where a stage trains on them.

    Raises:
        ValueError: If the pass rates have not been measured.
    """
    path = pass_rates_path(estimation, args.output_dir)
    if path.exists() or names_hub_dataset(path):
        if path.exists():
            store = PassRateStore(path)
            warn_of_other_sampling(store.record, args)
            table = read_pass_rates(problems, store)
        else:
            table = published_pass_rates(problems, path, args)
        problems = with_pass_rates(problems, table)
        check_measured(problems, path)
        problems = with_prior_features(problems, args, path)
    elif args.weighting != "uniform":
        raise ValueError(
            f"There are no pass rates in {str(path)!r}, so problems cannot be weighted. Run `paced-trl estimate` with "
            "the same configuration first, name them with `--pass_rates`, or set `--weighting uniform`."
        )
    if "dataset" in args.completion_sources:
        problems = with_references(problems, args, train, estimation, verifier)
    return problems


def with_references(
    problems: Dataset,
    args: PacedConfig,
    train: TrainArguments,
    estimation: EstimationArguments,
    verifier: Verifier | None,
) -> Dataset:
    """
    Let the teacher write the column `reference`, where the data have none.

    Raises:
        ValueError: If there is no teacher to write it, or no verifier to check it.
    """
    if "reference" in problems.column_names:
        return problems
    if args.self_distillation != "none":
        raise ValueError(
            f"`kl` is {args.kl!r}, which trains on references; the data have none, and with `self_distillation` "
            "there is no teacher to write them. Set `kl: reverse`, or name a column with `--reference_column`."
        )
    if verifier is None:
        raise ValueError(
            f"`kl` is {args.kl!r}, which trains on references; the data have none, and without a `verifier` the "
            "teacher's completions cannot be checked. Set `verifier`, or name a column with `--reference_column`."
        )
    path = Path(train.references or Path(str(args.output_dir)) / "references")
    return make_references(problems, args, train, estimation, verifier, path)


def record_provenance(
    path: Path,
    problem_args: ProblemArguments,
    train: TrainArguments,
    estimation: EstimationArguments,
    args: PacedConfig,
    model: ModelConfig,
) -> None:
    """Write beside a finished run, once, what its settings do not say; see `provenance.py`."""
    if (path / PROVENANCE).exists():
        return
    measuring = ("num_generations", "allocation", "target_error", "pass_rates")
    teaching = ("num_reference_attempts", "unsolved")
    write_provenance(
        path,
        student=model.model_name_or_path,
        teacher=args.teacher_model_name_or_path,
        problems=vars(problem_args),
        pass_rates={name: getattr(estimation, name) for name in measuring},
        references={name: getattr(train, name) for name in teaching},
    )


def check_measured(problems: Dataset, path: Path) -> None:
    """Refuse problems none of which has a pass rate in the store at `path`; warn where some have none."""
    num_unmeasured = sum(num_valid == 0 for num_valid in problems["num_valid"])
    if num_unmeasured == len(problems):
        raise ValueError(
            f"None of the {len(problems)} problems has a pass rate in {str(path)!r}, so there are no weights: other "
            "problems were measured, or with other prompt options. Run `paced-trl estimate` with this configuration."
        )
    if num_unmeasured:
        warnings.warn(
            f"{num_unmeasured} of {len(problems)} problems have no pass rate in {str(path)!r} (not measured, or the "
            "gold is unusable) and get weight 0.",
            stacklevel=2,
        )


def warn_of_other_sampling(record: dict[str, Any], args: SamplingSettings) -> None:
    """Warn where the student samples otherwise now than when its pass rates were measured."""
    measured = record.get("generator", {}).get("sampling", {})
    now = vars(SamplingParameters.of(args))
    differing = [
        f"`{name}` {measured[name]} and {now[name]}" for name in now if measured.get(name, now[name]) != now[name]
    ]
    if differing:
        warnings.warn(
            f"Pass rates were measured with other sampling parameters than are used now ({', '.join(differing)}), so "
            "they describe another policy than the one that is trained. Use one configuration for both.",
            stacklevel=2,
        )


def shared_tokens(args: PacedConfig, train: TrainArguments, estimation: EstimationArguments) -> dict[str, int]:
    """Return how many tokens the stores hold that are made once for all arms of a comparison, by what for."""
    stores = {
        "estimation": pass_rates_path(estimation, args.output_dir),
        "references": Path(train.references or Path(str(args.output_dir)) / "references"),
    }
    return {
        what: sum(PassRateStore(path).completions(columns=["num_tokens"])["num_tokens"].to_pylist())
        for what, path in stores.items()
        if (path / "manifest.json").exists()
    }
