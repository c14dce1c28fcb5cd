"""
Which settings of TRL's trainer and of the student decide what is learned: one list for the report and for the card.

Responsible for the names only. Knows nothing of values, files and pages; what PACED adds to TRL's settings is all
decisive, and is listed by `config.py`. Ours.
"""

from __future__ import annotations


SAMPLING_SETTINGS = (
    "max_completion_length",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "chat_template_kwargs",
)
OPTIMIZATION_SETTINGS = (
    "max_steps",
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "optim",
    "bf16",
    "fp16",
    "seed",
)
STUDENT_SETTINGS = (
    "use_peft",
    "lora_r",
    "lora_alpha",
    "lora_dropout",
    "lora_target_modules",
    "load_in_4bit",
    "load_in_8bit",
    "dtype",
)
