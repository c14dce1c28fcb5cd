"""
The settings of the commands, as dataclasses for TRL's parser.

A setting has one name in every command, so that one YAML file can serve `estimate`, `train` and `evaluate` and the
template, the sampling parameters and the verifier are the same in all of them. What only training needs stands in
`PacedConfig`. This module must load fast: no torch, no transformers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from .setting_checks import Settings


# Settings of earlier versions that a file may still name, and what to do without them.
DROPPED_SETTINGS = {
    "kl_switch_patience": "the stages switch at `kl_switch`. Remove it.",
    "kl_switch_threshold": "the stages switch at `kl_switch`. Remove it.",
    "teacher_offload": "`teacher_load_in_4bit` or `teacher_cache` save the teacher's memory. Remove it.",
}


def setting(default: Any, text: str, **metadata: Any) -> Any:
    """Return a field of a dataclass of settings; see [`check_settings`] for its range."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": text, **metadata})
    return field(default=default, metadata={"help": text, **metadata})


def as_mapping(value: dict[str, Any] | str | None, setting: str) -> dict[str, Any]:
    """Return a setting that is a mapping: YAML gives a mapping, the command line a string of JSON."""
    if value is None or isinstance(value, dict):
        return value or {}
    try:
        mapping, reason = json.loads(value), ""
    except (ValueError, RecursionError) as error:
        mapping, reason = None, f" ({error})"
    if not isinstance(mapping, dict):
        raise ValueError(f"`{setting}` is {value!r}, which is no JSON object{reason}. Write '{{\"key\": value}}'.")
    return mapping


def require_model(name_or_path: str | None, setting: str = "model_name_or_path") -> str:
    """Return the model's name, or say which setting is missing."""
    if not name_or_path:
        raise ValueError(f"`{setting}` is not given. Name a Hub id or a local directory, e.g. `--{setting} ./model`.")
    return name_or_path


@dataclass
class ProblemArguments(Settings):
    """Which problems, and how their columns are called."""

    _argument_group_name: ClassVar[str] = "problems"

    dataset_name: str | None = setting(
        None,
        "Problems: a .jsonl, .ndjson, .json, .csv, .tsv (each also .gz) or .parquet file, a directory of "
        "save_to_disk, a Hub dataset id, or reasoning_gym:<task>?size=500&seed=0&<knob>=<value>.",
    )
    dataset_config: str | None = setting(None, "Configuration name of a Hub dataset.")
    dataset_train_split: str = setting("train", "Split of a Hub dataset that holds the problems.")
    dataset_test_split: str = setting("test", "Split of a Hub dataset named in eval_sets or retention_sets.")
    prompt_column: str = setting("prompt", "Column of the prompt: text or messages. With dots a field: a.b.")
    solution_column: str = setting(
        "solution",
        "Column of the gold solution, which the verifier compares with; '' if the data have none.",
        may_be_empty=True,
    )
    problem_id_column: str | None = setting(None, "Column of unique ids. Default: a hash of prompt and solution.")
    reference_column: str | None = setting(
        None, "Column of completions to train on, text or one message. Default: 'reference', else 'completion'."
    )
    privileged_context_column: str | None = setting(
        None, "Column of what only the teacher sees in self-distillation: a worked solution, or a hint."
    )
    system_prompt: str | None = setting(None, "System message before every prompt; makes prompts chats.")
    few_shot: str | None = setting(None, "JSON file with a list of messages before every prompt; makes prompts chats.")
    as_chat: str = setting(
        "auto",
        "Turn text prompts into a user message, rendered with the chat template: true, false, or 'auto': where the "
        "tokenizer has a template.",
        nargs="?",
        const="true",
        metavar="auto|true|false",
        unchecked=True,
    )
    choices_column: str | None = setting(
        None, "Column of a multiple choice's answers, a list; they follow the prompt as lines 'A. ...'."
    )
    problem_weight_column: str | None = setting(
        None, "Column of weights of your own, which are used as they are, with mean 1; nothing needs measuring."
    )
    pass_rate_column: str | None = setting(None, "Column of pass rates of your own; nothing needs measuring.")
    num_passed_column: str | None = setting(
        None, "Column of passes of your own, with num_valid_column; nothing needs measuring."
    )
    num_valid_column: str | None = setting(None, "Column of how many generations num_passed_column counts among.")
    max_problems: int | None = setting(None, "Use the first so many problems only.", at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if str(self.as_chat).lower() not in ("true", "false", "auto"):
            raise ValueError(f"`as_chat` is {self.as_chat!r}, but it must be true, false or 'auto'.")
        self.as_chat = str(self.as_chat).lower()
        if (self.num_passed_column is None) != (self.num_valid_column is None):
            given, other = "num_passed_column", "num_valid_column"
            if self.num_passed_column is None:
                given, other = other, given
            raise ValueError(
                f"`{given}` is given without `{other}`: a pass rate needs both counts. Name both columns."
            )

    def record(self, *, as_chat: bool) -> dict[str, Any]:
        """Return the settings as a run's record has them: those of version 0.1.0, and of later ones what is given."""
        later = ("problem_weight_column", "pass_rate_column", "num_passed_column", "num_valid_column")
        given = {name: value for name, value in vars(self).items() if name not in later or value is not None}
        return given | {"as_chat": as_chat}

    def load_options(self) -> dict[str, Any]:
        """Return the keyword arguments of [`load_problems`] that shape columns and prompts."""
        options = {
            f.name: getattr(self, f.name) for f in fields(ProblemArguments) if not f.name.startswith("dataset_")
        }
        return options | {"as_chat": {"true": True, "false": False}.get(self.as_chat, "auto")}


@dataclass
class ModelArguments(Settings):
    """Which model generates. Names as in TRL's `ModelConfig`."""

    _argument_group_name: ClassVar[str] = "student"

    model_name_or_path: str | None = setting(None, "Student: a Hub id, a local directory, or an adapter directory.")
    model_revision: str = setting("main", "Branch, tag or commit of a model on the Hub.")
    attn_implementation: str | None = setting(None, "Attention implementation, e.g. 'sdpa'.")
    trust_remote_code: bool = setting(False, "Allow models that ship their own code.")


@dataclass
class SamplingArguments(Settings):
    """How completions are sampled. All explicit: nothing is inherited from a model's generation_config."""

    _argument_group_name: ClassVar[str] = "sampling"

    max_completion_length: int = setting(512, "Most tokens in a completion, end of sequence included.", at_least=1)
    temperature: float = setting(1.0, "Sampling temperature; 0 is greedy.", at_least=0)
    top_p: float = setting(1.0, "Nucleus sampling: keep tokens up to this probability mass.", more_than=0, at_most=1)
    top_k: int = setting(0, "Keep the k likeliest tokens; 0 keeps all.", at_least=0)
    min_p: float | None = setting(
        None, "Drop tokens below this fraction of the likeliest token's probability.", at_least=0, at_most=1
    )
    repetition_penalty: float = setting(1.0, "Penalty on tokens that occurred already; 1 is none.", more_than=0)
    chat_template_kwargs: dict[str, Any] | str | None = setting(
        None, "Options of the chat template, e.g. '{\"enable_thinking\": false}'."
    )
    seed: int = setting(42, "Seed of all draws.", at_least=0, at_most=2**32 - 1)


# The built-in verifiers, and what each compares a completion with. `NAME` is the class `NameCheck` of
# `verification/NAME_check.py`; help, errors and the table in the room's README follow from this one.
VERIFIERS = {
    "math": "numbers, expressions, sets, matrices",
    "numeric": "one number, within a tolerance",
    "exact": "a whole text",
    "choice": "a letter, or one of a few words",
    "python_tests": "the unit tests of a program",
    "reasoning_gym": "the task's own scorer",
}


@dataclass
class VerifierArguments(Settings):
    """How completions are judged."""

    _argument_group_name: ClassVar[str] = "verifier"

    verifier: str = setting(
        "math",
        "; ".join(f"'{name}': {gold}" for name, gold in VERIFIERS.items())
        + "; or the path of a TRL reward function, 'pkg.module:name'.",
    )
    verifier_kwargs: dict[str, Any] | str | None = setting(None, "Options of the verifier, as JSON.")


@dataclass
class VerifyArguments(Settings):
    """Which completions `verify` judges, and what is known of them."""

    _argument_group_name: ClassVar[str] = "completions to judge"

    completion_column: str = setting("completion", "Column of the completions: text, or a list of messages.")
    label_column: str | None = setting(
        None, "Column that says which completions are right: true/false, 1/0 or passed/failed. Shows the agreement."
    )
    max_shown: int = setting(5, "Show the first so many disagreements, and rows without a valid verdict.", at_least=0)


@dataclass
class OutputArguments(Settings):
    """Where results go."""

    _argument_group_name: ClassVar[str] = "output"

    output_dir: str | None = setting(None, "Directory of the run, e.g. runs/my-student.")


@dataclass
class EstimationArguments(Settings):
    """How often the student is asked, and where its pass rates lie."""

    _argument_group_name: ClassVar[str] = "pass rates"

    num_generations: int = setting(8, "Completions per problem (K).", at_least=1)
    allocation: Literal["fixed", "adaptive"] = setting(
        "fixed",
        "'fixed': num_generations for every problem. 'adaptive': two each, then one more where it sharpens the "
        "weights most, num_generations on average at most.",
    )
    target_error: float | None = setting(
        None,
        "With 'adaptive': stop at this error of the weights (mean 1). Default: that of a plug-in estimate with "
        "num_generations each.",
        more_than=0,
    )
    generation_batch_size: int | None = setting(
        None,
        "Completions that the engine transformers generates at once. Default: what fits the card's free memory, at "
        "most 256; 64 on a CPU. The other engines have a `concurrency` in engine_kwargs.",
        at_least=1,
    )
    generation_dtype: Literal["auto", "bfloat16", "float16", "float32"] = setting(
        "auto",
        "Number format in which the student is measured and evaluated, whatever dtype it is trained in. 'auto': "
        "bfloat16 on a GPU that has it, float32 on a CPU.",
    )
    engine: Literal["transformers", "vllm", "openai"] = setting(
        "transformers", "What generates: transformers or vLLM in this process, or OpenAI-compatible servers."
    )
    engine_kwargs: dict[str, Any] | str | None = setting(
        None, 'Options of the engine, e.g. \'{"base_urls": ["http://127.0.0.1:8000"]}\' for openai.'
    )
    pass_rates: str | None = setting(
        None,
        "Directory of the pass-rate store: `estimate` writes it, `train` reads it. Default: OUTPUT_DIR/pass_rates. "
        "USER/NAME, where there is no directory USER: published pass rates on the Hub.",
    )


FITTED = "fitted"


def number_or_1(exponent: float | str) -> float:
    """Return an exponent of the weight as a number: 1, the paper's, until it is fitted."""
    return 1.0 if isinstance(exponent, str) else exponent


@dataclass
class WeightArguments(Settings):
    """How training will estimate the weights, which adaptive allocation sharpens. Names as in `PacedConfig`."""

    _argument_group_name: ClassVar[str] = "problem weights"

    weight_alpha: float | Literal["fitted"] = setting(
        1.0,
        "Exponent a of the pass rate in p^a (1-p)^b, or 'fitted': the best one for the signal-to-noise ratio of this "
        "student's gradients on these problems, as `paced-trl diagnose` estimates it before training; until then 1.",
        at_least=0,
    )
    weight_beta: float | Literal["fitted"] = setting(
        1.0, "Exponent b of the failure rate in p^a (1-p)^b, or 'fitted', as weight_alpha.", at_least=0
    )
    weight_estimator: Literal["plugin", "unbiased", "posterior"] = setting(
        "plugin", "How weights are estimated from pass counts."
    )
    weight_gate: bool = setting(True, "With 'posterior', weight 0 where only passes or only failures were seen.")
    prior_features: list[str] = setting(
        [],
        "Columns known before generating that may tell how hard a problem is, 'prompt_length' or "
        "'solution_log_probability' (of the student).",
    )

    @property
    def weighting_arguments(self) -> dict[str, Any]:
        """The arguments of [`problem_weights`] that these settings mean."""
        return {
            "weight_alpha": number_or_1(self.weight_alpha),
            "weight_beta": number_or_1(self.weight_beta),
            "estimator": self.weight_estimator,
            "gate": self.weight_gate,
        }


@dataclass
class TrainArguments(Settings):
    """What `train` needs beside `PacedConfig`: where references come from."""

    _argument_group_name: ClassVar[str] = "references and held-out problems"

    references: str | None = setting(
        None, "Directory for the teacher's completions, kept and reused. Default: OUTPUT_DIR/references."
    )
    num_reference_attempts: int = setting(4, "Completions the teacher may make until one is verified.", at_least=1)
    unsolved: Literal["drop", "solution", "keep"] = setting(
        "drop",
        "Problems the teacher does not solve: left out, trained on the solution text, or on a failed completion.",
    )
    teacher_engine: Literal["transformers", "vllm", "openai"] = setting(
        "transformers", "As engine, for the teacher's references."
    )
    teacher_engine_kwargs: dict[str, Any] | str | None = setting(None, "As engine_kwargs, for teacher_engine.")
    self_teacher_problems: int = setting(
        64,
        "With self_distillation, problems on which the student with its privileged context is compared with the "
        "student without, before training; 0: none.",
        at_least=0,
    )
    force: bool = setting(False, "Train although the self-teacher passes no more often than the student.")
    validation_set: str | None = setting(
        None, "Held-out problems for evaluations during training (--eval_strategy), as in --dataset_name."
    )
    retention_set: str | None = setting(
        None,
        "Problems of a kind that is not trained, evaluated along with the validation set: mean@k there shows "
        "forgetting, and --max_forgetting ends the run when there is too much.",
    )


@dataclass
class EvaluateArguments(Settings):
    """What `evaluate` measures."""

    _argument_group_name: ClassVar[str] = "evaluation"

    eval_sets: list[str] = setting(
        [],
        "Held-out problems as NAME=DATA pairs, e.g. test=data/test.jsonl; DATA as in --dataset_name, where a Hub id "
        "may go on with its own split and configuration: org/data?split=train&config=main.",
    )
    retention_sets: list[str] = setting(
        [], "Problems the run does not train on, as NAME=DATA pairs: accuracy there shows forgetting."
    )
    training_problems: bool = setting(
        False,
        "Evaluate on the training problems (--dataset_name) as well, as the set 'training': what training changed "
        "there, for the report's figures and its table of problems.",
    )
    verifier_by_set: dict[str, Any] | str | None = setting(
        None,
        "Verifiers of sets whose answers are of another kind, by set: a name, or a name with its options, e.g. "
        '\'{"mmlu": {"verifier": "choice", "choices": "ABCD"}}\'. Default: verifier, for all sets.',
    )
    num_eval_generations: int = setting(4, "Completions per held-out problem (k of mean@k).", at_least=1)
    baseline: list[str] = setting(
        [], "Evaluation directories to compare with, problem by problem (several: seeds of one run)."
    )


@dataclass
class PlanArguments(Settings):
    """What `plan` cannot know before anything downloads, and the card."""

    _argument_group_name: ClassVar[str] = "plan"

    card: int = setting(24, "Memory of the GPU in GB.", at_least=1)
    num_problems: int | None = setting(None, "How many problems, where they are not on this disk.", at_least=1)
    prompt_tokens: int = setting(256, "Tokens of the longest prompt.", at_least=1)
    autocast: bool = setting(
        True, "Whether matrices are multiplied in half precision, as TRL does on a GPU, here where there may be none."
    )
    tokens_per_second: float | None = setting(
        None, "Tokens that the engine generates in a second on that card, as you measured, for hours.", more_than=0
    )
    trained_tokens_per_second: float | None = setting(
        None, "Tokens that training takes in a second on that card, prompts included, as you measured.", more_than=0
    )
    measured_rates: str | None = setting(
        None, "Both rates from the file that scripts/check_gpu.py wrote on that card for this run's models."
    )
    completion_share: float = setting(
        0.5, "Mean length of completions, as a share of max_completion_length.", more_than=0, at_most=1
    )


@dataclass
class TeacherGapArguments(Settings):
    """How closely `teacher-gap` looks."""

    _argument_group_name: ClassVar[str] = "teacher gap"

    num_gap_references: int = setting(
        64, "Compare the two teachers on so many references, drawn at random.", at_least=1
    )


@dataclass
class DiagnoseArguments(Settings):
    """How closely `diagnose` looks."""

    _argument_group_name: ClassVar[str] = "diagnosis"

    problems_per_pass_rate: int = setting(32, "Most problems per pass rate; one gradient each.", at_least=2)
    sketch_size: int = setting(
        8192, "Numbers kept of each gradient: all where it has no more, else a random projection.", at_least=1
    )


@dataclass
class PublishArguments(Settings):
    """How a run is published: by `publish`, and by `train` with `push_to_hub`."""

    _argument_group_name: ClassVar[str] = "publishing"

    base_model: str | None = setting(
        None, "Hub id of the student before training, for runs that loaded it from a directory."
    )
    license: str | None = setting(
        None,
        "License of the student, e.g. apache-2.0. Default: that of the student before training, where it is known.",
    )
    merge: bool = setting(
        False, "Publish the adapter merged into its 16-bit base, after checking that it is the same model."
    )
    pass_rates_repo: str | None = setting(
        None, "Publish the pass rates too, as the Hub dataset USER/NAME; `train --pass_rates USER/NAME` reads it."
    )
    publish_completions: bool = setting(False, "With pass_rates_repo, publish the student's completions too.")
    not_private: list[str] = setting(
        [], "Texts that look private and are meant to be published, such as an address in a problem."
    )


@dataclass
class RepositoryArguments(Settings):
    """Which run `publish` publishes, and where."""

    _argument_group_name: ClassVar[str] = "repository"

    run: str | None = setting(None, "Directory of a finished run, e.g. runs/mine.")
    repo: str | None = setting(None, "Repository on the Hub, USER/NAME; made if there is none.")
    public: bool = setting(False, "Let everybody see the repository. Default: private.")
    dry_run: bool = setting(False, "Write what would be published to RUN/publish, and upload nothing.")
