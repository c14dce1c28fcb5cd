"""
The steps of a recipe, from settings to results: problems, pass rates, references, training data, evaluation.

Each command runs one of these steps and `compare` runs them all, so that template, sampling parameters and verifier
are the same everywhere. No algorithm is here; this module only hands settings to the parts that have one.
torch and transformers are imported where a model is needed, so that a mistake in the settings shows at once.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset

from .arguments import (
    EstimationArguments,
    EvaluateArguments,
    ModelArguments,
    ProblemArguments,
    SamplingArguments,
    TrainArguments,
    VerifierArguments,
    WeightArguments,
    as_mapping,
    require_model,
)
from .completions import SamplingParameters
from .data import load_problems
from .estimation import estimate_pass_rates, read_pass_rates
from .evaluation import Evaluation, evaluate_model
from .feature_prior import SOLUTION_LOG_PROBABILITY, problem_features
from .pass_rate_dataset import load_pass_rates, names_hub_dataset
from .processes import Processes
from .provenance import PROVENANCE, write_provenance
from .references import generate_references
from .run_directory import MANIFEST, RunDirectory
from .store import PassRateStore
from .summary import precision_of, summarize_pass_rates
from .training_data import with_pass_rates
from .validation import check_validation
from .verification import Verifier, load_verifier


if TYPE_CHECKING:
    from trl import ModelConfig

    from .arms import ComparisonArguments
    from .completions import Generator
    from .config import PacedConfig
    from .curve_evaluation import CurveSettings

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
) -> Dataset | None:
    """Load the held-out problems for evaluations during training, if there are any; refuse what does not fit."""
    held_out = None if train.validation_set is None else problems_of(problem_args, train.validation_set)
    check_validation(getattr(args.eval_strategy, "value", args.eval_strategy), problems, held_out)
    return held_out


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
    from .engines import load_generator

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
        raise ValueError(
            f"`prior_features` has {name!r}, which was not measured for these problems. Run `paced-trl estimate` with "
            "the same `prior_features` first."
        )
    from .solution_likelihood import solution_log_probabilities

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


def named_sets(pairs: Sequence[str], option: str) -> dict[str, str]:
    """Return NAME=DATA pairs as a mapping."""
    sets = {}
    for pair in pairs:
        name, separator, data = pair.partition("=")
        if not (name and separator and data):
            raise ValueError(f"`{option}` has {pair!r}, which is no NAME=DATA pair, such as `test=test.jsonl`.")
        sets[name] = data
    return sets


def evaluate_sets(
    model: ModelSettings,
    problem_args: ProblemArguments,
    sampling: SamplingSettings,
    estimation: EstimationArguments,
    evaluation: EvaluateArguments,
    verifier: Verifier,
    directory: Path,
    *,
    seed: int,
    name_or_path: str | None = None,
) -> dict[str, Evaluation]:
    """
    Evaluate a model on all evaluation and retention sets; a finished evaluation is read from `directory`.

    Args:
        name_or_path (`str`, *optional*): The model, if it is not the one of the settings.
    """
    from .models import weights_fingerprint

    sets = named_sets(evaluation.eval_sets, "eval_sets") | named_sets(evaluation.retention_sets, "retention_sets")
    if not sets:
        raise ValueError(
            "Neither `eval_sets` nor `retention_sets` is given. Name one, e.g. `--eval_sets test=test.jsonl`."
        )
    is_trained_here = name_or_path not in (None, model.model_name_or_path)
    name_or_path = name_or_path or model.model_name_or_path
    settings = {
        "model": name_or_path,
        "weights": weights_fingerprint(require_model(name_or_path)),
        "sets": sets,
        "retention_sets": list(named_sets(evaluation.retention_sets, "retention_sets")),
        "problems": vars(problem_args),
        "sampling": vars(SamplingParameters.of(sampling)),
        "chat_template_kwargs": sampling.chat_template_kwargs,
        "num_eval_generations": evaluation.num_eval_generations,
        "verifier": verifier.record,
        "seed": seed,
    }
    run = RunDirectory(directory, settings)
    if run.status == "finished":
        return {name: Evaluation.load(directory / f"{name}.json") for name in sets}
    problems = {name: problems_of(problem_args, data) for name, data in sets.items()}
    run.mark("started")
    engine = engine_options(estimation, is_trained_here=is_trained_here)
    generator = generator_of(name_or_path, sampling, **engine, **model_options(model, name_or_path))
    results = {
        name: evaluate_model(
            problems[name],
            generator,
            verifier,
            name=name,
            num_generations=evaluation.num_eval_generations,
            store=directory / f"{name}_completions",
            seed=seed,
        )
        for name in sets
    }
    if Processes.current().is_main:
        for name, result in results.items():
            result.save(directory / f"{name}.json")
            problems[name].to_parquet(directory / f"{name}_problems.parquet")
        run.mark("finished")
    return results


def curve_settings(
    comparison: ComparisonArguments,
    problem_args: ProblemArguments,
    args: PacedConfig,
    estimation: EstimationArguments,
    evaluation: EvaluateArguments,
    verifier: Verifier,
) -> CurveSettings | None:
    """Return how arms are evaluated while they train, on all evaluation and retention sets; None for not at all."""
    from .curve_evaluation import CurveSettings

    if not comparison.curve_points:
        return None
    sets = named_sets(evaluation.eval_sets, "eval_sets") | named_sets(evaluation.retention_sets, "retention_sets")
    return CurveSettings(
        num_points=comparison.curve_points,
        problems={name: problems_of(problem_args, data) for name, data in sets.items()},
        verifier=verifier,
        sampling=SamplingParameters.of(args),
        chat_template_kwargs=as_mapping(args.chat_template_kwargs),
        num_generations=comparison.num_curve_generations,
        batch_size=estimation.generation_batch_size,
        seed=args.seed,
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


def evaluation_path(name_or_path: str | None, output_dir: str | None) -> Path:
    """Return where the evaluation of a model goes: OUTPUT_DIR/evaluation/<last part of the model's name>."""
    if output_dir is None:
        raise ValueError("`output_dir` is not given. Say where results go, e.g. `--output_dir runs/mine`.")
    return Path(output_dir) / "evaluation" / Path(require_model(name_or_path)).name


def load_evaluations(directory: Path) -> dict[str, Evaluation]:
    """Read the finished evaluations in a directory, by name of the set."""
    manifest = directory / MANIFEST
    if not manifest.exists() or json.loads(manifest.read_text())["status"] != "finished":
        raise ValueError(
            f"{str(directory)!r} holds no finished evaluation. Run `paced-trl evaluate` for that model; it prints the "
            "directory to name here."
        )
    sets = json.loads(manifest.read_text())["settings"]["sets"]
    return {name: Evaluation.load(directory / f"{name}.json") for name in sets}
