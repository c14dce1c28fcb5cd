"""
The teacher's half of a training step: who teaches, what it sees, and when its hidden states are computed.

TRL runs a teacher model on the student's tokens, beside the student, at every micro-batch. Here the teacher may be the
student itself (`self_teacher.py`), see a prompt of its own (`teacher_prompt.py`), have its hidden states of references
on disk (`teacher_cache.py`), or have a head of another size. Where none of this is asked for, every call is TRL's.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from datasets import Dataset
from peft import PeftModel
from trl.trainer.utils import pad

from ..generation.identity import memory_checksum
from ..generation.models import load_trainable
from ..generation.prompts import with_one_bos
from ..problems import Messages
from ..settings import as_mapping
from .config import PacedConfig, uses_fsdp
from .dataset import end_of_completion_id, reference_token_ids
from .preflight.trainability import keep_four_bit_trainable, on_language_model
from .prompt_beginning import completion_states
from .resumable_trainer import ResumableTrainer
from .self_teacher import AVERAGE_FILE, FollowStudent, SelfTeacher
from .teacher_cache import HiddenStateCache
from .teacher_prompt import teacher_prompt


if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


# In the config of a teacher that was resized: a padded head must be recognised when the model is used again.
_OWN_SIZE = "paced_own_vocab_size"


class TeacherStatesTrainer(ResumableTrainer):
    """
    TRL's [`~trl.DistillationTrainer`] with a say in where the teacher's hidden states come from.

    `head_size` is the number of rows of the student's head, if the teacher's has others.
    """

    args: PacedConfig

    def __init__(
        self,
        model: Any,
        teacher_model: Any,
        args: PacedConfig,
        train_dataset: Dataset,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        head_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        self._loss_inputs: dict[str, Any] = {}
        self._num_teacher_tokens = torch.tensor(0)
        options = args.model_init_kwargs, args.teacher_model_init_kwargs
        was_name = isinstance(model, str), isinstance(teacher_model, str)
        teacher_model = teacher_to_load(model, teacher_model, args, head_size)
        if was_name[0]:
            model = student_to_train(model, args, kwargs)
        # TRL takes models, and refuses or ignores what would be for loading them.
        args.model_init_kwargs = None if was_name[0] else options[0]
        args.teacher_model_init_kwargs = None if was_name[1] else options[1]
        super().__init__(
            model=model,
            teacher_model=teacher_model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            **kwargs,
        )
        args.model_init_kwargs, args.teacher_model_init_kwargs = options
        # Under FSDP accelerate leaves a teacher in main memory, but one of 4 or 8 bits was placed as it was loaded.
        is_placed = self.teacher_model is None or getattr(self.teacher_model, "is_quantized", False)
        if uses_fsdp(args) and not is_placed:
            self.teacher_model.to(self.accelerator.device)
        keep_four_bit_trainable(cast(torch.nn.Module, self.model))
        if args.self_distillation in ("base", "ema"):
            decay = args.self_distillation_decay if args.self_distillation == "ema" else None
            self.teacher_model = SelfTeacher(cast(PeftModel, self.model), decay)
            self.add_callback(FollowStudent(self.teacher_model))
        self.teacher_cache = None if args.teacher_cache is None else self._open_teacher_cache(train_dataset)

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        """Tokenize prompts as the student was measured on them: with one beginning-of-sequence token."""
        ids, images, fields = super()._tokenize_prompts(prompts)
        return [with_one_bos(row, self._tokenizer.bos_token_id) for row in ids], images, fields

    def _open_teacher_cache(self, dataset: Dataset) -> HiddenStateCache:
        """Open the cache that belongs to this teacher, and to these references as the teacher sees them."""
        needed = {"prompt", "reference", "privileged_context"}
        rows = dataset.select_columns([name for name in dataset.column_names if name in needed]).to_list()
        prompt_ids, _, _ = self._tokenize_prompts(self._teacher_prompts(rows))
        teacher = memory_checksum(self.accelerator.unwrap_model(self.teacher_model))
        precision = f"bf16={self.args.bf16} fp16={self.args.fp16}"
        path = Path(str(self.args.teacher_cache))
        return HiddenStateCache(path, f"{teacher} {precision}", prompt_ids, self._reference_ids(rows))

    def _reference_ids(self, inputs: list[dict[str, Any]]) -> list[list[int]]:
        """Return the token ids of each row's reference. They end in EOS unless cut, or no student would learn to."""
        eos_id = end_of_completion_id(self._tokenizer, inputs[0]["prompt"], self.eos_token_ids)
        references = [row["reference"] for row in inputs]
        token_ids = reference_token_ids(self._tokenizer, references, eos_id, self.eos_token_ids)
        return [ids[: self.max_completion_length] for ids in token_ids]

    def compute_loss_context_manager(self) -> ExitStack:
        """Compute the loss in the run's precision: TRL 1.16 calls the models past accelerate's own autocast."""
        stack = ExitStack()
        stack.enter_context(super().compute_loss_context_manager())
        stack.enter_context(self.accelerator.autocast())
        return stack

    def _load_state(self, checkpoint: Path) -> None:
        super()._load_state(checkpoint)
        if isinstance(self.teacher_model, SelfTeacher):
            self.teacher_model.load(checkpoint)

    def _save_state(self, checkpoint: Path) -> None:
        super()._save_state(checkpoint)
        if isinstance(self.teacher_model, SelfTeacher):
            self.teacher_model.save(checkpoint)

    @property
    def state_files(self) -> list[str]:
        """Names of the files that a checkpoint of this run holds beside those of every run."""
        has_average = isinstance(self.teacher_model, SelfTeacher) and self.teacher_model.decay is not None
        return [*super().state_files, *([AVERAGE_FILE] if has_average else [])]

    def _teacher_outputs(
        self, inputs: list[dict[str, Any]], batch: dict[str, torch.Tensor], cache_rows: list[int] | None
    ) -> dict[str, torch.Tensor]:
        """Return what the teacher's side of the loss needs of B rows, whose numbers in the cache `cache_rows` are."""
        # TRL shuffles and splits it along with the rest. Also set here: how many tokens the teacher runs on.
        if self.args.kl == "cross_entropy":
            self._num_teacher_tokens = torch.tensor(0, device=batch["prompt_mask"].device)
            return {}
        prompts = self._padded_teacher_prompts(inputs) if self.args.self_distillation != "none" else {}
        cache = None if cache_rows is None else self.teacher_cache
        prompt_mask = prompts.get("teacher_prompt_mask", batch["prompt_mask"])
        lengths = prompt_mask.sum(dim=1) + batch["completion_mask"].sum(dim=1)
        rows = cache_rows or []
        missing = [i for i in range(len(inputs)) if cache is None or not cache.has(rows[i])]
        self._num_teacher_tokens = lengths[missing].sum()
        if cache is None:
            return prompts
        return {"teacher_hidden_states": self._cached_hidden_states({**batch, **prompts}, rows, missing, cache)}

    def _teacher_prompts(self, inputs: Iterable[dict[str, Any]]) -> list[str | Messages]:
        if self.args.self_distillation == "none":
            return [row["prompt"] for row in inputs]
        template = self.args.privileged_template
        return [teacher_prompt(row["prompt"], row.get("privileged_context"), template) for row in inputs]

    def _padded_teacher_prompts(self, inputs: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return ids and mask of the teacher's prompts, **shape (B, L)** each, padded as TRL pads the student's."""
        ids, _, _ = self._tokenize_prompts(self._teacher_prompts(inputs))
        multiple = cast("int | None", self.pad_to_multiple_of)
        token_ids = [torch.tensor(row) for row in ids]
        masks = [torch.ones_like(row) for row in token_ids]
        prompt_ids = pad(token_ids, self._tokenizer.pad_token_id, "left", multiple)
        prompt_mask = pad(masks, 0, "left", multiple)
        device = self.accelerator.device
        return {"teacher_prompt_ids": prompt_ids.to(device), "teacher_prompt_mask": prompt_mask.to(device)}

    def _cached_hidden_states(
        self, batch: dict[str, torch.Tensor], rows: list[int], missing: list[int], cache: HiddenStateCache
    ) -> torch.Tensor:
        """Return the teacher's states of a batch, **shape (B, C, H)**; it runs on the positions that are `missing`."""
        num_rows, num_tokens = batch["completion_ids"].shape
        if missing:
            parts = []
            with torch.no_grad(), self.compute_loss_context_manager():
                for chosen in torch.tensor(missing).split(self.args.per_device_train_batch_size):
                    part = {name: value[chosen] for name, value in batch.items() if value.ndim > 0}
                    parts.append(self._teacher_forward(part))
            cache.write([rows[i] for i in missing], torch.cat(parts))
        found = torch.tensor(1.0 - len(missing) / num_rows, device=self.accelerator.device)
        self._metrics["train"]["paced/teacher_cached"].append(self.accelerator.gather(found).mean().item())
        return cache.read(rows, num_tokens).to(self.accelerator.device)

    def _teacher_forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        self._loss_inputs = batch
        self.teacher_model.eval()
        teacher = self.accelerator.unwrap_model(self.teacher_model)
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        method, num_tokens = self._get_last_hidden_state, batch["completion_ids"].size(1)
        return self._forward_redirection(self.teacher_model, teacher, method, teacher, ids, mask, num_tokens)

    def _get_last_hidden_state(
        self,
        unwrapped_model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        **multimodal: Any,
    ) -> torch.Tensor:
        model, batch = unwrapped_model, self._loss_inputs
        with ExitStack() as stack:
            if model is self.accelerator.unwrap_model(self.teacher_model):
                if self.args.kl == "cross_entropy":  # not run: what TRL passes on to the loss is not read
                    head = model.get_output_embeddings().weight
                    shape = (len(input_ids), logits_to_keep, head.shape[-1])
                    return torch.zeros(shape, dtype=head.dtype, device=head.device)
                if "teacher_hidden_states" in batch:
                    return batch["teacher_hidden_states"]
                if "teacher_prompt_ids" in batch:
                    # The completion stands at the end, so prompts may differ in length.
                    input_ids = torch.cat([batch["teacher_prompt_ids"], batch["completion_ids"]], dim=1)
                    attention_mask = torch.cat([batch["teacher_prompt_mask"], batch["completion_mask"]], dim=1)
                if isinstance(model, SelfTeacher):
                    model = stack.enter_context(model.in_place_of_student())
            if self.args.share_prompt_beginning and all(value is None for value in multimodal.values()):
                language_model = model.base_model.model if isinstance(model, PeftModel) else model
                shared = completion_states(language_model, input_ids, attention_mask, logits_to_keep)
                if shared is not None:
                    return shared
            states = super()._get_last_hidden_state(model, input_ids, attention_mask, logits_to_keep, **multimodal)
        return states

    def _compute_loss(self, unwrapped_student: Any, inputs: dict[str, Any], num_items_in_batch: Any) -> Any:
        self._loss_inputs = inputs
        return super()._compute_loss(unwrapped_student, inputs, num_items_in_batch)


def student_to_train(name_or_path: str, args: PacedConfig, options: dict[str, Any]) -> Any:
    """Load the student, and settle in TRL's `options` what concerns loading it and the adapter that it gets."""
    settings = as_mapping(args.model_init_kwargs, "model_init_kwargs")
    if options.get("quantization_config") is not None:
        settings["quantization_config"] = options.pop("quantization_config")
    peft_config = options.get("peft_config")
    model = load_trainable(
        name_or_path,
        continue_adapter=peft_config is not None,
        **{"trust_remote_code": args.trust_remote_code} | settings,
    )
    if peft_config is not None:
        options["peft_config"] = None if isinstance(model, PeftModel) else on_language_model(peft_config, model)
    return model


def teacher_to_load(model: Any, teacher_model: Any, args: PacedConfig, head_size: int | None) -> Any:
    """Return the teacher that TRL takes: a model, where a name was given or it is a copy of the student."""
    is_copy = args.self_distillation == "copy"
    teacher = model if is_copy else teacher_model
    if isinstance(teacher, str):
        settings: dict[str, Any] = {"trust_remote_code": args.trust_remote_code}
        if is_copy:
            settings |= as_mapping(args.model_init_kwargs, "model_init_kwargs")
        else:
            revision = {"revision": args.teacher_model_revision} if args.teacher_model_revision is not None else {}
            options = as_mapping(args.teacher_model_init_kwargs, "teacher_model_init_kwargs")
            settings |= {"dtype": None, **revision, **options}
        teacher = load_trainable(teacher, **settings)
    elif is_copy:
        teacher = copy.deepcopy(teacher)
    if head_size is not None:
        resize_head(teacher, head_size)
    return teacher


def own_head_size(config: PreTrainedConfig) -> int:
    """Return how many rows a model's head has of its own, whatever [`resize_head`] made of it."""
    return int(getattr(config, _OWN_SIZE, config.get_text_config().vocab_size))


def resize_head(teacher: PreTrainedModel, vocab_size: int) -> None:
    """Give a teacher, in memory, embeddings and a head of as many rows as the student's, which TRL's kernel needs."""
    # Models of one family pad their heads to different sizes (Qwen2.5: 151936 and 152064). Rows are added, not only
    # cut: a student that is larger may sample an id of its padding, which the teacher then has to embed.
    setattr(teacher.config, _OWN_SIZE, own_head_size(teacher.config))
    # Rows that are added are in no loss, so their values are of no matter, and the mean costs a covariance.
    teacher.resize_token_embeddings(vocab_size, mean_resizing=False)
