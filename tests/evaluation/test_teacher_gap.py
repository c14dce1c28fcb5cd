"""How far a teacher in 4 bits is from the full one: against whole-vocabulary sums, and as a command."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from paced_trl.commands import teacher_gap as command
from paced_trl.evaluation.teacher_gap import _logits, _summed, teacher_gap
from paced_trl.generation.models import load_model
from paced_trl.generation.prompts import PromptRenderer


REFERENCES = Dataset.from_dict(
    {"prompt": ["1+1?", "Say hi.", "7"], "reference": ["2", "hi there", "8 or so, I think"]}
)


def generators(full: Any, quantised: Any) -> Any:
    tokenizer = build_tiny_tokenizer()

    def load(in_4bit: bool) -> SimpleNamespace:
        model = quantised if in_4bit else full
        return SimpleNamespace(model=model, tokenizer=tokenizer, renderer=PromptRenderer(tokenizer), eos_token_ids=[1])

    return load


def test_gap_is_the_divergence_over_the_whole_vocabulary_of_every_completion_token() -> None:
    full, quantised = build_tiny_model(seed=0), build_tiny_model(seed=0)
    with torch.no_grad():
        for layer in quantised.model.layers:
            layer.mlp.down_proj.weight += 0.1 * torch.randn(layer.mlp.down_proj.weight.shape)
    gap = teacher_gap(generators(full, quantised), REFERENCES, num_references=9, max_completion_length=10, seed=0)
    tokenizer = build_tiny_tokenizer()
    divergences, agreeing = [], []
    for row in REFERENCES:
        prompt = tokenizer(row["prompt"])["input_ids"]
        completion = [*tokenizer(row["reference"])["input_ids"], 1][:10]
        ids = torch.tensor([prompt + completion])
        with torch.no_grad():
            p, q = (model(ids).logits[0, len(prompt) - 1 : -1].softmax(-1) for model in (full, quantised))
        divergences += [float((a * (a / b).log()).sum()) for a, b in zip(p, q, strict=True)]
        agreeing += [int(a.argmax()) == int(b.argmax()) for a, b in zip(p, q, strict=True)]
    assert gap.num_references == 3 and gap.num_tokens == len(divergences) == 2 + 9 + 10
    assert gap.kl == pytest.approx(np.mean(divergences), rel=1e-4) and gap.kl > 0.01
    assert gap.top1_agreement == pytest.approx(np.mean(agreeing))
    assert gap.kl_interval[0] < gap.kl < gap.kl_interval[1]


def test_a_teacher_is_no_way_from_itself() -> None:
    model = build_tiny_model()
    gap = teacher_gap(generators(model, model), REFERENCES, num_references=2, max_completion_length=20, seed=0)
    assert (gap.kl, gap.top1_agreement, gap.num_references) == (0.0, 1.0, 2)
    with pytest.raises(ValueError, match="at least 1 reference"):
        teacher_gap(generators(model, model), REFERENCES, num_references=0, max_completion_length=20, seed=0)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(200):
        lengths = rng.integers(5, 50, size=40)
        rates = rng.gamma(2.0, 0.05, size=40)  # independent of the length, mean 0.1
        gap = _summed(np.stack([rates * lengths, lengths], axis=1), lengths, rng)
        covered.append(gap.kl_interval[0] <= 0.1 <= gap.kl_interval[1])
    assert 0.86 <= np.mean(covered) <= 0.99


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("gemma2", {"final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8}),
        ("granite", {"logits_scaling": 4.0}),
        ("cohere", {"logit_scale": 0.25}),
        ("llama", {}),
    ],
)
def test_logits_are_those_of_the_model(architecture: str, options: dict[str, Any]) -> None:
    model = build_tiny_model(architecture, **options)
    ids = torch.arange(12).view(1, -1)
    with torch.no_grad():
        states = model.base_model(input_ids=ids).last_hidden_state
        torch.testing.assert_close(_logits(model, states), model(input_ids=ids).logits.float())


def test_the_command_writes_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    sizes = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}
    build_tiny_model(**sizes).save_pretrained(tmp_path / "teacher")
    build_tiny_tokenizer().save_pretrained(tmp_path / "teacher")
    rows = [{"prompt": f"{n}+1?", "solution": str(n + 1), "worked": f"It is {n + 1}."} for n in range(6)]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = ["--dataset_name", str(tmp_path / "problems.jsonl"), "--reference_column", "worked"]
    settings += ["--teacher_model_name_or_path", str(tmp_path / "teacher"), "--output_dir", str(tmp_path / "run")]
    command.run([*settings, "--num_gap_references", "4", "--max_completion_length", "16"])
    written = json.loads((tmp_path / "run/teacher_gap.json").read_text())
    assert written["num_references"] == 4 and 0 < written["kl"] < 1 and 0.3 < written["top1_agreement"] <= 1
    assert f"{written['kl']:.4f} nats per token" in capsys.readouterr().out
    quantised = load_model(tmp_path / "teacher", device="cpu", load_in_4bit=True)
    assert isinstance(quantised.model.layers[0].mlp.up_proj, bitsandbytes.nn.Linear4bit)
