"""
All settings of a run, parsed once, and what they name: problems, models, verifier, directories.

Every command that runs a step of a recipe makes a [`Recipe`]; the steps take it. Below this room nothing knows it:
library functions take values. torch and transformers are imported where a model is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset

from ..estimation.published_pass_rates import names_hub_dataset
from ..evaluation.evaluation import TRAINING
from ..generation.completions import Generator, Prompt, SamplingParameters
from ..names import check_plain_name
from ..problems import as_messages, load_problems, prompt_settings
from ..processes import Processes
from ..settings import (
    DiagnoseArguments,
    EstimationArguments,
    EvaluateArguments,
    ModelArguments,
    OutputArguments,
    PlanArguments,
    ProblemArguments,
    PublishArguments,
    SamplingArguments,
    TeacherGapArguments,
    TrainArguments,
    VerifierArguments,
    WeightArguments,
    as_mapping,
    require_model,
)
from ..text import one_line
from ..training.monitoring.validation import RETENTION, VALIDATION, check_validation
from ..verification.verifier import Verifier, load_verifier
from .parsing import parse


if TYPE_CHECKING:
    from trl import ModelConfig

    from ..evaluation.arms import ComparisonArguments
    from ..training.config import PacedConfig

_MAX_RENDERED = 1000  # prompts rendered before a model loads
# Settings of a run without training, and with it: there TRL's dataclasses bring the model's and the sampling's.
_MEASURING = (
    ProblemArguments,
    ModelArguments,
    SamplingArguments,
    EstimationArguments,
    VerifierArguments,
    OutputArguments,
)
_TRAINING = (ProblemArguments, TrainArguments, EstimationArguments)
_FURTHER: dict[str, tuple[type, ...]] = {
    "estimate": (WeightArguments,),
    "evaluate": (EvaluateArguments,),
    "train": (PublishArguments,),
    "compare": (EvaluateArguments,),
    "plan": (PlanArguments,),
    "diagnose": (DiagnoseArguments,),
    "teacher-gap": (TeacherGapArguments,),
}


class Recipe:
    """The settings of a run, by section, and what they name."""

    data: ProblemArguments
    model: ModelArguments | ModelConfig
    sampling: SamplingArguments | PacedConfig
    verification: VerifierArguments | PacedConfig
    weights: WeightArguments | PacedConfig
    output: OutputArguments | PacedConfig
    estimation: EstimationArguments
    references: TrainArguments
    evaluation: EvaluateArguments
    comparison: ComparisonArguments
    publishing: PublishArguments
    plan: PlanArguments
    diagnosis: DiagnoseArguments
    gap: TeacherGapArguments
    training: PacedConfig
    model_config: ModelConfig

    def __init__(self, *parsed: Any) -> None:
        for section, kinds in Recipe.__annotations__.items():
            for settings in parsed:
                if type(settings).__name__ in kinds.split(" | "):
                    setattr(self, section, settings)

    @classmethod
    def parse(cls, command: str, arguments: Sequence[str], *, description: str) -> Recipe:
        """Parse the YAML file and the flags of a command; see [`parse`]."""
        dataclasses = [*_MEASURING, *_FURTHER[command]]
        if command not in ("estimate", "evaluate"):
            from trl import ModelConfig

            from ..training.config import PacedConfig

            dataclasses = [*_TRAINING, *_FURTHER[command], PacedConfig, ModelConfig]
        if command == "compare":
            from ..evaluation.arms import ComparisonArguments

            dataclasses.insert(0, ComparisonArguments)
        return cls(*parse(command, dataclasses, arguments, description=description))

    @property
    def output_dir(self) -> Path:
        if self.output.output_dir is None:
            raise ValueError("`output_dir` is not given. Say where results go, e.g. `--output_dir runs/mine`.")
        return Path(self.output.output_dir)

    @property
    def pass_rates(self) -> Path:
        """Directory of the pass-rate store."""
        if self.estimation.pass_rates is None and self.output.output_dir is None:
            raise ValueError(
                "Neither `pass_rates` nor `output_dir` is given. Say where results go: `--output_dir runs/mine`."
            )
        return Path(self.estimation.pass_rates or self.output_dir / "pass_rates")

    @property
    def published_pass_rates(self) -> str | None:
        """Hub id of published pass rates, if `pass_rates` is one as it was written; then nothing is measured."""
        name = self.estimation.pass_rates
        return name if names_hub_dataset(name) else None

    @property
    def reference_store(self) -> Path:
        return Path(self.references.references or self.output_dir / "references")

    @cached_property
    def as_chat(self) -> bool:
        """Whether text prompts become user messages; what `auto` means is settled once, and said."""
        as_chat = self.data.load_options()["as_chat"]
        if as_chat != "auto":
            return bool(as_chat)
        if self.data.system_prompt or self.data.few_shot:
            return True
        problems = None if self.data.dataset_name is None else self.load(self.data.dataset_name, as_chat=False)
        if problems is not None and not isinstance(problems["prompt"][0], str):
            return False  # they are messages already
        if self.model.model_name_or_path is None:
            return False
        from ..estimation.stored_problems import settle_as_chat
        from ..generation.models import load_tokenizer
        from ..generation.prompts import PromptRenderer

        engine = as_mapping(self.estimation.engine_kwargs, "engine_kwargs")
        tokenizer = load_tokenizer(
            engine.get("tokenizer_name_or_path") or self.model.model_name_or_path,
            revision=self.model.model_revision,
            trust_remote_code=getattr(self.model, "trust_remote_code", False),
        )
        has_template = bool(tokenizer.chat_template)
        if problems is None:
            return has_template
        has_store = self.published_pass_rates is None and (self.estimation.pass_rates or self.output.output_dir)
        as_chat = settle_as_chat(
            problems, has_chat_template=has_template, store=self.pass_rates if has_store else None
        )
        if as_chat and Processes.current().is_main:
            rendered = PromptRenderer(tokenizer, self.chat_template_kwargs).render(as_messages(problems["prompt"][0]))
            print(
                "Text prompts are user messages of the chat template (`as_chat: auto`; `--as_chat false` leaves them "
                f"as they are). The first one: {one_line(rendered, 400)}",
                file=sys.stderr,
            )
        return as_chat

    @property
    def prompt_settings(self) -> dict[str, Any]:
        """What shapes prompts beside the data; a store keeps it."""
        return prompt_settings(self.data.system_prompt, self.data.few_shot)

    def load(self, name: str, **changes: Any) -> Dataset:
        """Load problems with the columns and prompt options of the training problems, some changed."""
        options = self.data.load_options() | {"split": self.data.dataset_train_split} | changes
        return load_problems(name, config=self.data.dataset_config, **options)

    def problems(self) -> Dataset:
        if self.data.dataset_name is None:
            raise ValueError(
                "`dataset_name` is not given, so there are no problems. Name a .jsonl, .csv or .parquet file, a Hub "
                "dataset or reasoning_gym:<task>, e.g. `--dataset_name problems.jsonl`."
            )
        return self.load(self.data.dataset_name, as_chat=self.as_chat)

    def held_out_problems(self, name: str) -> Dataset:
        """Load held-out problems, with the columns and prompt options of the training problems."""
        # What is trained on belongs to the training problems, and so does their number.
        trained_on = ("reference", "privileged_context", "problem_weight", "pass_rate", "num_passed", "num_valid")
        without: dict[str, Any] = dict.fromkeys([f"{target}_column" for target in trained_on])
        return self.load(name, as_chat=self.as_chat, split=self.data.dataset_test_split, max_problems=None, **without)

    def eval_sets(self) -> dict[str, str]:
        """Return the evaluation sets: where each lies, by name."""
        return named_sets(self.evaluation.eval_sets, "eval_sets")

    def retention_sets(self) -> dict[str, str]:
        """Return the retention sets: where each lies, by name."""
        return named_sets(self.evaluation.retention_sets, "retention_sets")

    def held_out_sets(self) -> dict[str, str]:
        """Return evaluation and retention sets: where each lies, by name."""
        sets = [*self.evaluation.eval_sets, *self.evaluation.retention_sets]
        return named_sets(sets, "eval_sets` or `retention_sets")

    def validation_problems(self, problems: Dataset) -> Dataset | dict[str, Dataset] | None:
        """Load the held-out problems for evaluations during training, by name if there are several kinds."""
        names = {VALIDATION: self.references.validation_set, RETENTION: self.references.retention_set}
        held_out = {name: self.held_out_problems(data) for name, data in names.items() if data is not None}
        strategy = self.training.eval_strategy
        check_validation(getattr(strategy, "value", strategy), problems, held_out)
        return held_out if RETENTION in held_out else held_out.get(VALIDATION)

    def verifier(self) -> Verifier:
        if self.verification.verifier is None:
            raise ValueError(
                "`verifier` is not given, so no completion can be judged. Name one, e.g. `--verifier math`."
            )
        options = as_mapping(self.verification.verifier_kwargs, "verifier_kwargs")
        return load_verifier(self.verification.verifier, **options)

    @contextmanager
    def verifier_by_set(self) -> Iterator[dict[str, Verifier]]:
        """Load the verifiers of the evaluation and retention sets that have one of their own, by set."""
        named = as_mapping(self.evaluation.verifier_by_set, "verifier_by_set")
        for name in named.keys() - self.held_out_sets().keys():
            raise ValueError(
                f"`verifier_by_set` names {name!r}, which is no set of `eval_sets` or `retention_sets`. The sets are: "
                f"{', '.join(self.held_out_sets())}."
            )
        with ExitStack() as stack:
            loaded = {}
            for name, given in named.items():
                options = dict(given) if isinstance(given, dict) else {"verifier": given}
                verifier = options.pop("verifier", None)
                if not isinstance(verifier, str):
                    raise ValueError(
                        f"`verifier_by_set` has {given!r} for the set {name!r}, which names no verifier. Write a name "
                        "or a mapping with `verifier`, e.g. {verifier: choice, choices: ABCD}."
                    )
                loaded[name] = stack.enter_context(load_verifier(verifier, **options))
            yield loaded

    def verifier_if_named(self) -> AbstractContextManager[Verifier | None]:
        return self.verifier() if self.verification.verifier else nullcontext()

    @property
    def trained_engine(self) -> str:
        """The engine of what is trained here: servers do not have it, and vLLM loads no adapter."""
        name = self.estimation.engine
        cannot = name == "openai" or (name == "vllm" and bool(getattr(self.model, "use_peft", False)))
        return "transformers" if cannot else name

    def student(
        self, name_or_path: str | None = None, *, prompts: Iterable[Prompt] = (), beside_trained: bool = False
    ) -> Generator:
        """Make a generator of the student, or of a model trained from it; `beside_trained` is made like these."""
        is_trained_here = name_or_path not in (None, self.model.model_name_or_path)
        engine: dict[str, Any] = {"engine": self.estimation.engine, "engine_kwargs": self.estimation.engine_kwargs}
        if (is_trained_here or beside_trained) and self.trained_engine != self.estimation.engine:
            engine = {}
        return self._generator(
            name_or_path or self.model.model_name_or_path,
            **engine,
            prompts=prompts,
            # A revision names a state of the student's repository, not of a directory that training wrote.
            revision=None if is_trained_here else self.model.model_revision,
            dtype=self.estimation.generation_dtype,
            attn_implementation=self.model.attn_implementation,
            trust_remote_code=getattr(self.model, "trust_remote_code", False),
        )

    def teacher(self, *, prompts: Iterable[Prompt] = (), in_4bit: bool | None = None) -> Generator:
        """Make a generator of the teacher for some prompts, in 4 bits if the settings say so or `in_4bit` does."""
        options = as_mapping(self.training.teacher_model_init_kwargs, "teacher_model_init_kwargs")
        engine: dict[str, Any] = {
            "engine": self.references.teacher_engine,
            "engine_kwargs": self.references.teacher_engine_kwargs,
        }
        further: dict[str, Any] = {key: options[key] for key in ("dtype", "attn_implementation") if key in options}
        if in_4bit is None:
            # vLLM and servers have a way of their own to quantise: `teacher_engine_kwargs`.
            in_4bit = self.training.teacher_load_in_4bit and engine["engine"] == "transformers"
        else:
            engine = {}
        return self._generator(
            self.training.teacher_model_name_or_path,
            "teacher_model_name_or_path",
            **engine,
            prompts=prompts,
            revision=self.training.teacher_model_revision,
            trust_remote_code=self.training.trust_remote_code,
            **further | ({"load_in_4bit": True} if in_4bit else {}),
        )

    def check_prompts(self, problems: Dataset, name_or_path: str | None = None, *, of_teacher: bool = False) -> None:
        """Refuse, before weights load, a model that cannot be had and prompts that its tokenizer cannot render."""
        engine, engine_kwargs = self.estimation.engine, self.estimation.engine_kwargs
        named, setting = self.model.model_name_or_path, "model_name_or_path"
        revision: str | None = self.model.model_revision
        if of_teacher:
            engine, engine_kwargs = self.references.teacher_engine, self.references.teacher_engine_kwargs
            named, revision = self.training.teacher_model_name_or_path, self.training.teacher_model_revision
            setting = "teacher_model_name_or_path"
        if engine == "openai":
            return  # a server renders prompts itself
        from ..generation.models import load_config, load_tokenizer
        from ..generation.prompts import PromptRenderer

        name = require_model(name_or_path or named, setting)
        options: dict[str, Any] = {
            "revision": revision if name == named else None,
            "trust_remote_code": getattr(self.model, "trust_remote_code", False),
        }
        load_config(name, **options)
        tokenizer = as_mapping(engine_kwargs, "engine_kwargs").get("tokenizer_name_or_path") or name
        renderer = PromptRenderer(load_tokenizer(tokenizer, **options), self.chat_template_kwargs)
        renderer.tokenize(problems["prompt"][:_MAX_RENDERED])

    def _generator(
        self,
        name_or_path: str | None,
        setting: str = "model_name_or_path",
        *,
        engine: str = "transformers",
        engine_kwargs: dict[str, Any] | str | None = None,
        prompts: Iterable[Prompt] = (),
        **options: Any,
    ) -> Generator:
        from ..generation.engines import load_generator, model_options

        if engine == "vllm":
            options["prompts"] = list(prompts)
        return load_generator(
            engine,
            model_name_or_path=require_model(name_or_path, setting),
            sampling=SamplingParameters.of(self.sampling),
            chat_template_kwargs=self.chat_template_kwargs,
            **model_options(engine, options | {"batch_size": self.estimation.generation_batch_size})
            | as_mapping(engine_kwargs, "engine_kwargs"),
        )

    @property
    def chat_template_kwargs(self) -> dict[str, Any]:
        return as_mapping(self.sampling.chat_template_kwargs, "chat_template_kwargs")


def named_sets(pairs: Sequence[str], option: str) -> dict[str, str]:
    """Return NAME=DATA pairs as a mapping."""
    sets: dict[str, str] = {}
    for pair in pairs:
        name, separator, data = pair.partition("=")
        if not (name and separator and data):
            raise ValueError(f"`{option}` has {pair!r}, which is no NAME=DATA pair, such as `test=test.jsonl`.")
        check_plain_name(name, option)
        if name == TRAINING:
            raise ValueError(
                f"`{option}` has {pair!r}, and {TRAINING!r} is the name of the problems that are trained on. Choose "
                "another, or measure those with `--training_problems`."
            )
        if name in sets:
            raise ValueError(f"`{option}` has the name {name!r} twice. Give each set a name of its own.")
        sets[name] = data
    return sets
