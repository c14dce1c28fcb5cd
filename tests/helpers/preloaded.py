"""What processes that tests fork have imported: see `processes.py`."""

import gc
import os


os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}

import pytest  # noqa: F401
import torch
import torch.distributed.nn.functional
from transformers import LlamaForCausalLM, Qwen3ForCausalLM  # noqa: F401

import paced_trl.commands.early_checks
import paced_trl.commands.estimation_steps
import paced_trl.commands.evaluation_steps
import paced_trl.commands.recipe
import paced_trl.commands.training_steps
import paced_trl.evaluation.run_comparison
import paced_trl.publishing.publish
import paced_trl.training.preflight.before_loading  # noqa: F401
from paced_trl import PacedTrainer, load_generator, load_verifier  # noqa: F401


torch.set_num_threads(1)
# Forked processes neither search nor copy what was there before them.
gc.freeze()
