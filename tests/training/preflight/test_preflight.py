"""What is found before weights load: each thing works, is warned about, or is refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import BitsAndBytesConfig, PreTrainedModel
from trl import ModelConfig

from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from helpers.training import hand_made_inputs, problems, settings
from paced_trl import PacedTrainer
from paced_trl.training.config import check_precision
from paced_trl.training.dataset import problem_weights_of, reference_token_ids
from paced_trl.training.preflight.before_loading import check_before_loading, check_chat_templates, check_run
from paced_trl.training.preflight.side import read_side
from paced_trl.training.preflight.trainability import (
    check_adapter,
    check_head,
    check_quantization,
    check_student_dtype,
    warn_of_whole_teacher,
)


CHAT = [{"role": "user", "content": "1+2="}]


def check(dataset: Dataset | None = None, *, student: Any = None, teacher: Any = None, **given: Any) -> Any:
    """The whole pre-flight of two models in memory."""
    return check_before_loading(
        settings(**given),
        student or build_tiny_model(),
        teacher or build_tiny_model(seed=1),
        problems() if dataset is None else dataset,
        processing_class=build_tiny_tokenizer(),
    )


def test_a_run_that_fits_passes_without_a_word() -> None:
    assert check() == (100, 100, 100)
    assert check(kl="forward_then_reverse", max_completion_length=250) == (100, 100, 100)


@pytest.mark.parametrize(
    ("device", "given", "message"),
    [
        (False, {"fp16": True}, "`fp16` is set, and training is on the CPU"),
        (True, {"fp16": True, "use_cpu": True}, "`fp16` is set, and training is on the CPU"),
        (False, {"bf16": True}, "`bf16` is set, and there is no accelerator"),
        (False, {"bf16": True, "use_cpu": True}, None),
        (True, {"fp16": True}, None),
        (True, {"bf16": True}, None),
        (False, {}, None),
    ],
)
def test_half_precision_needs_an_accelerator(
    monkeypatch: pytest.MonkeyPatch, device: bool, given: dict[str, bool], message: str | None
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: device)
    given = {"bf16": False, "fp16": False, "use_cpu": False} | given
    if message is None:
        check_precision(**given)
    else:
        with pytest.raises(ValueError, match=message):
            check_precision(**given)


def test_the_config_refuses_what_has_no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(ValueError, match="`fp16` is set"):
        settings(fp16=True)
    with pytest.raises(ValueError, match="`num_validation_generations` is 0"):
        settings(num_validation_generations=0)


@pytest.mark.parametrize("targets", [["q_proj", "lm_head"], "lm_head", r".*(q_proj|lm_head)"])
def test_an_adapter_on_the_head_is_refused(targets: Any) -> None:
    with pytest.raises(ValueError, match=r"includes the head, .* would never be trained.*lora_modules_to_save"):
        check_adapter(build_tiny_model().config, LoraConfig(target_modules=targets))


@pytest.mark.parametrize("targets", [None, "all-linear", ["q_proj"], r".*_proj"])
@pytest.mark.parametrize("start", [True, "pissa"])
def test_adapters_elsewhere_are_not(targets: Any, start: Any) -> None:
    config = build_tiny_model().config
    check_adapter(config, LoraConfig(target_modules=targets, init_lora_weights=start))
    check_adapter(config, None)


@pytest.mark.parametrize("targets", [["query", "value"], ["embed_out"], "query_key_value", r".*\.attn\..*"])
def test_an_adapter_that_reaches_nothing_is_refused(targets: Any) -> None:
    with pytest.raises(ValueError, match=r"has no such modules. Its linear layers are .*'q_proj'"):
        check_adapter(build_tiny_model().config, LoraConfig(target_modules=targets))


def test_an_adapter_that_reaches_some_of_its_targets_is_warned_about() -> None:
    with pytest.warns(UserWarning, match=r"names 'c_attn', which the student has not, so nothing is trained there"):
        check_adapter(build_tiny_model().config, LoraConfig(target_modules=["q_proj", "c_attn"]))


@pytest.mark.parametrize(
    ("targets", "message"), [(["lm_head"], "includes the head"), (["query"], "has no such modules")]
)
def test_adapters_are_checked_before_weights_load(tmp_path: Path, targets: list[str], message: str) -> None:
    names = [save_pair(tmp_path, name, build_tiny_model()) for name in ("student", "teacher")]
    for name in names:
        Path(name, "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=message):
        PacedTrainer(
            model=names[0],
            teacher_model=names[1],
            args=settings(output_dir=str(tmp_path)),
            train_dataset=problems(),
            peft_config=LoraConfig(target_modules=targets),
        )


def test_a_head_that_is_trained_itself_is_in_the_loss(tmp_path: Path) -> None:
    trainer = PacedTrainer(
        model=build_tiny_model(seed=0),
        teacher_model=build_tiny_model(seed=1),
        args=settings(output_dir=str(tmp_path)),
        train_dataset=problems(),
        processing_class=build_tiny_tokenizer(),
        peft_config=LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM"),
    )
    inputs = {**hand_made_inputs(trainer.processing_class), "row_weight": torch.ones(3)}
    trainer.compute_loss(trainer.model, inputs).backward()
    gradients = {
        name: p.grad is not None and bool(p.grad.any())
        for name, p in trainer.model.named_parameters()
        if "lm_head" in name
    }
    assert [has_gradient for name, has_gradient in gradients.items() if "modules_to_save" in name] == [True]


FOUR_BIT = BitsAndBytesConfig(load_in_4bit=True)
LORA = LoraConfig(target_modules=["q_proj"])


@pytest.mark.parametrize(
    ("model", "quantization", "peft", "args", "message"),
    [
        (SimpleNamespace(), FOUR_BIT, LORA, {}, "a model that is loaded already"),
        ("name", FOUR_BIT, LORA, {"use_vllm": True}, "cannot be synchronised to vLLM"),
        (SimpleNamespace(is_loaded_in_4bit=True), None, LORA, {"use_vllm": True}, "cannot be synchronised to vLLM"),
        ("name", FOUR_BIT, None, {}, "there is no adapter"),
        (
            "name",
            BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["o_proj"]),
            LORA,
            {},
            r"of the student is \['o_proj'\] and leaves out the head",
        ),
        (
            "name",
            None,
            None,
            {"teacher_model_init_kwargs": {"quantization_config": {"llm_int8_skip_modules": ["o_proj"]}}},
            "of the teacher is .* leaves out the head",
        ),
        ("name", FOUR_BIT, LORA, {}, None),
        ("name", BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["lm_head"]), LORA, {}, None),
        ("name", None, None, {"use_vllm": True}, None),
        (SimpleNamespace(is_loaded_in_8bit=True, peft_config={}), None, None, {}, None),
    ],
)
def test_quantisation_that_cannot_train_is_refused(
    model: Any, quantization: Any, peft: Any, args: dict[str, Any], message: str | None
) -> None:
    if message is None:
        check_quantization(settings(**args), model, quantization, peft)
    else:
        with pytest.raises(ValueError, match=message):
            check_quantization(settings(**args), model, quantization, peft)


@pytest.mark.parametrize("dtype", ["float16", torch.float16])
def test_float16_is_refused_where_all_weights_are_trained(dtype: Any) -> None:
    args = settings()
    check_student_dtype(args, None)
    args.model_init_kwargs = {"dtype": dtype}
    check_student_dtype(args, LORA)
    with pytest.raises(ValueError, match="`dtype` is 'float16' and all weights of the student are trained"):
        check_student_dtype(args, None)


def test_bfloat16_weights_that_are_all_trained_are_warned_of() -> None:
    args = settings()
    args.model_init_kwargs = {"dtype": "bfloat16"}
    check_student_dtype(args, LORA)
    with pytest.warns(UserWarning, match="most updates are smaller than half a unit"):
        check_student_dtype(args, None)


def test_a_quantised_head_is_refused() -> None:
    student = build_tiny_model()
    check_head("student", student)
    student.lm_head.weight = torch.nn.Parameter(torch.zeros(100, 32, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match=r"The head of the student holds torch.int8"):
        check(student=student)


def test_fsdp_copies_the_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    warn_of_whole_teacher(settings())
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.warns(UserWarning, match="each device holds the whole teacher"):
        warn_of_whole_teacher(settings())


def save_pair(tmp_path: Path, name: str, model: PreTrainedModel, **tokenizer: Any) -> str:
    build = build_tiny_tokenizer()
    for key, value in tokenizer.items():
        setattr(build, key, value)
    model.save_pretrained(tmp_path / name)
    build.save_pretrained(tmp_path / name)
    return str(tmp_path / name)


def test_names_are_read_without_their_weights(tmp_path: Path) -> None:
    name = save_pair(tmp_path, "student", build_tiny_model())
    (tmp_path / "student/model.safetensors").unlink()
    (tmp_path / "student/pytorch_model.bin").touch()  # a model without readable weights is still a model
    side = read_side("student", name)
    assert (side.vocab_size, side.context_length, side.eos_token_ids) == (100, 256, [1])
    assert side.tokenizer is not None and side.tokenizer.padding_side == "left"


def test_a_teacher_without_a_tokenizer_is_said_to_be_unchecked(tmp_path: Path) -> None:
    build_tiny_model().save_pretrained(tmp_path / "teacher")
    with pytest.warns(UserWarning, match=r"The teacher .*comes without a tokenizer that loads, .* was not checked"):
        assert read_side("teacher", str(tmp_path / "teacher")).tokenizer is None


def test_different_chat_templates_are_warned_about_and_missing_ones_refused(tmp_path: Path) -> None:
    student = save_pair(tmp_path, "student", build_tiny_model())
    same = save_pair(tmp_path, "same", build_tiny_model(seed=1))
    other = save_pair(tmp_path, "other", build_tiny_model(seed=1), chat_template="{{ messages[0].content }}")
    without = save_pair(tmp_path, "without", build_tiny_model(), chat_template=None)
    sides = {name: read_side("teacher", path) for name, path in [("same", same), ("other", other)]}
    check_chat_templates(read_side("student", student), sides["same"], CHAT)
    check_chat_templates(read_side("student", student), sides["other"], "1+2=")
    with pytest.warns(UserWarning, match="different chat templates. The student's renders the prompts of both"):
        check_chat_templates(read_side("student", student), sides["other"], CHAT)
    check_chat_templates(read_side("student", without), sides["same"], "1+2=")
    with pytest.raises(ValueError, match="student's tokenizer has no chat template"):
        check_chat_templates(read_side("student", without), sides["same"], CHAT)


def test_problems_too_long_for_a_model_are_refused_with_row_and_numbers() -> None:
    teacher = build_tiny_model(max_position_embeddings=16)
    assert check(teacher=teacher, max_completion_length=12)  # 4 + 12
    dataset = problems(prompt=["1+2="] * 14 + ["1+22=", "1+2="])
    message = (
        "Row 14 of `train_dataset` has a prompt of 5 tokens, which with a completion of up to 12 .* more than the 16 "
        "positions of the teacher; 1 of 16 rows"
    )
    with pytest.raises(ValueError, match=message):
        check(dataset, teacher=teacher, max_completion_length=12)
    with pytest.raises(ValueError, match="positions of the student"):
        check(dataset, student=teacher, max_completion_length=12)
    # References are as long as they are: 5 + 4 at most.
    assert check(dataset, teacher=teacher, max_completion_length=100, kl="forward")


def test_messages_are_counted_as_they_are_rendered() -> None:
    dataset = problems().remove_columns("prompt").add_column("prompt", [CHAT] * 16)
    teacher = build_tiny_model(max_position_embeddings=10)
    assert check(dataset, teacher=teacher, max_completion_length=4)  # <user>1+2=<assistant>, 6 tokens
    with pytest.raises(ValueError, match="a prompt of 6 tokens"):
        check(dataset, teacher=teacher, max_completion_length=5)


def test_references_that_lose_their_end_are_counted() -> None:
    with pytest.warns(UserWarning, match=r"4 of 16 references \(25%\) .*=6 \(the longest has 8 tokens\)"):
        check(problems(reference=["12345"] * 12 + ["1234567"] * 4), kl="forward")
    check(problems(reference=["12345"] * 16), kl="forward")


@pytest.mark.parametrize("ending", ["", "<eos>", "<eos>\n", "<eos><pad>", "<eos><eos>"])
def test_an_end_that_is_written_out_is_not_doubled(ending: str) -> None:
    tokenizer = build_tiny_tokenizer()
    expected = [*tokenizer("42")["input_ids"], 1]
    assert reference_token_ids(tokenizer, ["42" + ending], 1, [1]) == [expected]


def test_a_reference_that_goes_on_after_its_end_is_refused() -> None:
    with pytest.raises(ValueError, match=r"goes on after its end-of-sequence token '<eos>': '4<eos>2'"):
        check(problems(reference=["42"] * 15 + ["4<eos>2"]), kl="forward")


@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_eos_stays_in_the_loss_whatever_pads(tmp_path: Path, pad_is_eos: bool) -> None:
    trainer = PacedTrainer(
        model=build_tiny_model(seed=0),
        teacher_model=build_tiny_model(seed=1),
        args=settings(output_dir=str(tmp_path), kl="forward"),
        train_dataset=problems(),
        processing_class=build_tiny_tokenizer(pad_is_eos=pad_is_eos),
    )
    trainer.model.train()
    outputs = trainer._generate_and_score_completions([trainer.train_dataset[row] for row in (0, 1, 2)])
    in_loss = [
        ids[mask.bool()].tolist()
        for ids, mask in zip(outputs["completion_ids"], outputs["completion_mask"], strict=True)
    ]
    assert [len(ids) for ids in in_loss] == [len(problems()[row]["reference"]) + 1 for row in (0, 1, 2)]
    assert all(ids.count(1) == 1 and ids[-1] == 1 for ids in in_loss)


def test_held_out_problems_are_checked_too() -> None:
    check_all: Callable[..., Any] = lambda **held_out: check_before_loading(  # noqa: E731
        settings(),
        build_tiny_model(),
        build_tiny_model(seed=1),
        problems(),
        **held_out,
        needs_solution=True,
        processing_class=build_tiny_tokenizer(),
    )
    assert check_all(eval_dataset={"hard": problems()})
    with pytest.raises(ValueError, match="`hard` has no column `solution`"):
        check_all(eval_dataset={"easy": problems(), "hard": problems().remove_columns("solution")})
    with pytest.raises(ValueError, match="Row 0 of `eval_dataset` has a prompt of 300 tokens"):
        check_all(eval_dataset=problems(prompt=["1" * 300] * 16))


def named(tmp_path: Path, *, other_tokens: bool = False) -> tuple[ModelConfig, dict[str, str]]:
    """A student and a teacher on disk whose weights cannot be read, so that loading them would fail."""
    paths = [save_pair(tmp_path, "student", build_tiny_model()), save_pair(tmp_path, "teacher", build_tiny_model())]
    if other_tokens:
        vocabulary = json.loads(Path(paths[1], "tokenizer.json").read_text())
        first, second = list(vocabulary["model"]["vocab"])[10:12]
        vocab = vocabulary["model"]["vocab"]
        vocab[first], vocab[second] = vocab[second], vocab[first]
        Path(paths[1], "tokenizer.json").write_text(json.dumps(vocabulary))
    for path in paths:
        Path(path, "model.safetensors").write_bytes(b"no weights")
    return ModelConfig(model_name_or_path=paths[0]), {"teacher_model_name_or_path": paths[1]}


def test_a_run_is_checked_from_its_settings_without_weights(tmp_path: Path) -> None:
    student, teacher = named(tmp_path)
    args = settings(**teacher)
    before = args.to_dict()
    check_run(args, student, problems())
    check_run(args, replace(student, use_peft=True), problems())
    assert args.to_dict() == before


def test_different_tokenizers_are_said_to_differ_before_the_teacher_writes(tmp_path: Path) -> None:
    student, teacher = named(tmp_path, other_tokens=True)
    with pytest.raises(
        ValueError, match=r"The tokenizers differ: token .* Use a teacher with the student's tokenizer"
    ):
        check_run(settings(**teacher), student)


@pytest.mark.parametrize(
    ("targets", "message"), [(["lm_head"], "includes the head"), (["query"], "has no such modules")]
)
def test_lora_targets_are_checked_before_anything_loads(tmp_path: Path, targets: list[str], message: str) -> None:
    student, teacher = named(tmp_path)
    with pytest.raises(ValueError, match=message):
        check_run(settings(**teacher), replace(student, use_peft=True, lora_target_modules=targets))


def test_trackers_that_are_missing_or_unknown_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = named(tmp_path)
    monkeypatch.setattr("transformers.integrations.integration_utils.is_swanlab_available", lambda: False)
    for name, message in (
        ("swanlab", "'swanlab', which is not installed.*pip install"),
        ("wandbb", "Did you mean 'wandb'"),
    ):
        with pytest.raises(ValueError, match=message):
            check_run(settings(**teacher, report_to=name), student)


def test_messages_without_a_template_are_refused_from_settings(tmp_path: Path) -> None:
    student, teacher = named(tmp_path)
    build = build_tiny_tokenizer()
    build.chat_template = None
    build.save_pretrained(student.model_name_or_path)
    (Path(str(student.model_name_or_path)) / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(ValueError, match="no chat template to render them with"):
        check_run(settings(**teacher), student, [{"prompt": CHAT}])


def test_a_teacher_that_is_the_student_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student, _ = named(tmp_path)
    name = str(student.model_name_or_path)
    monkeypatch.chdir(tmp_path)
    for teacher in (name, "student", f"{name}/../student/"):
        with pytest.raises(ValueError, match=r"the same, .*the loss would be 0 .* `self_distillation`"):
            check_run(settings(teacher_model_name_or_path=teacher), student)
    check_run(settings(teacher_model_name_or_path=name, teacher_load_in_4bit=True), student)
    model = build_tiny_model()
    with pytest.raises(ValueError, match="the same, one model in memory"):
        check(student=model, teacher=model)


def test_the_base_of_an_adapter_is_looked_at(tmp_path: Path) -> None:
    base = save_pair(tmp_path, "base", build_tiny_model())
    get_peft_model(build_tiny_model(), LORA).save_pretrained(tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    config["base_model_name_or_path"] = base
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps(config))
    side = read_side("student", str(tmp_path / "adapter"))
    assert (side.vocab_size, side.eos_token_ids) == (100, [1]) and side.tokenizer is not None


def test_a_batch_that_holds_every_problem_many_times_is_refused() -> None:
    given = {"per_device_train_batch_size": 1_000_000}
    for refused in (lambda: check(**given), lambda: check_run(settings(**given), ModelConfig(), problems())):
        with pytest.raises(ValueError, match=r"`per_device_train_batch_size` is 1,000,000, .*in it 62,500 times"):
            refused()
    check(per_device_train_batch_size=64)


def test_a_prior_feature_that_is_no_column_is_refused_whatever_the_weights() -> None:
    for weighting in ("beta", "uniform"):
        given = {"kind": weighting, "weight_alpha": 1.0, "weight_beta": 1.0, "estimator": "plugin", "gate": True}
        with pytest.raises(ValueError, match="`prior_features` has 'nope', which is no column"):
            problem_weights_of(problems(), prior_features=["nope"], **given)


def test_the_base_does_not_teach_an_adapter_that_goes_on_being_trained(tmp_path: Path) -> None:
    base = save_pair(tmp_path, "base", build_tiny_model())
    adapter = str(tmp_path / "adapter")
    get_peft_model(build_tiny_model(), LORA).save_pretrained(adapter)
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": base}))
    rows = problems().add_column("privileged_context", ["It is 3."] * len(problems()))
    for name, how, is_refused in ((adapter, "base", True), (adapter, "ema", False), (base, "base", False)):
        student = ModelConfig(model_name_or_path=name, use_peft=True)
        with (
            pytest.raises(ValueError, match="is an adapter that goes on being trained")
            if is_refused
            else nullcontext()
        ):
            check_run(settings(self_distillation=how, kl="reverse"), student, rows)
