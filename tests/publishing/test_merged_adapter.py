"""Merging an adapter into its base, and the check that refuses a merge that changed the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file

from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from paced_trl.generation.models import load_model
from paced_trl.publishing.merged_adapter import Parity, merge_adapter


# peft 0.21 asks transformers 5.23 for a property under its old name. Can go with the next peft.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

PROMPTS = ["1+1=", "abc", "What is 7 * 6?"]


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter with visible effect on a bfloat16 base."""
    base = build_tiny_model().to(torch.bfloat16)
    base.save_pretrained(tmp_path / "base")
    build_tiny_tokenizer().save_pretrained(tmp_path / "base")
    model = get_peft_model(
        load_model(tmp_path / "base", dtype=torch.bfloat16), LoraConfig(target_modules="all-linear", r=4)
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    model.save_pretrained(tmp_path / "adapter")
    build_tiny_tokenizer().save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_the_merged_model_is_base_plus_adapter_in_16_bits(adapter: Path, tmp_path: Path) -> None:
    parity = merge_adapter(adapter, tmp_path / "merged", prompts=PROMPTS)
    assert parity.holds and parity.num_prompts == 3
    assert f"tolerance {parity.tolerance:.0%}" in str(parity)
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    base = load_file(tmp_path / "base" / "model.safetensors")
    lora = load_file(adapter / "adapter_model.safetensors")
    config = json.loads((adapter / "adapter_config.json").read_text())
    name = "model.layers.0.mlp.up_proj"
    a, b = (lora[f"base_model.model.{name}.lora_{which}.weight"].float() for which in "AB")
    naive = base[f"{name}.weight"].float() + config["lora_alpha"] / config["r"] * b @ a
    assert merged[f"{name}.weight"].dtype == torch.bfloat16
    torch.testing.assert_close(merged[f"{name}.weight"].float(), naive, rtol=0.01, atol=1e-3)
    assert not list((tmp_path / "merged").glob("*.bin")) and not (tmp_path / "merged/adapter_config.json").exists()


def test_the_difference_is_that_of_the_logits(adapter: Path, tmp_path: Path) -> None:
    parity = merge_adapter(adapter, tmp_path / "merged", prompts=PROMPTS[:1], max_new_tokens=4)
    with_adapter = PeftModel.from_pretrained(load_model(tmp_path / "base", dtype=torch.bfloat16), str(adapter)).eval()
    merged = load_model(tmp_path / "merged", dtype=torch.bfloat16)
    prompt = torch.tensor([build_tiny_tokenizer()(PROMPTS[0])["input_ids"]])
    with torch.no_grad():
        ids = with_adapter.generate(input_ids=prompt, do_sample=False, max_new_tokens=4)
        one, other = (model(input_ids=ids).logits[0].float() for model in (with_adapter, merged))
    each = [float((a - b - (a - b).mean()).square().mean() / a.var()) for a, b in zip(one, other, strict=True)]
    assert parity.num_tokens == len(each)
    assert parity.logit_difference == pytest.approx((sum(each) / len(each)) ** 0.5, rel=1e-3)
    assert 0 < parity.logit_difference < 0.05


def test_a_merge_that_changes_the_model_is_refused_and_not_saved(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lossy_merge(self: PeftModel, **options: bool) -> torch.nn.Module:
        merged = self.base_model.merge_and_unload(**options)
        with torch.no_grad():
            for parameter in merged.parameters():
                # What four bits leave of a weight: sixteen values.
                step = parameter.abs().max() / 7
                parameter.copy_((parameter / step).round() * step)
        return merged

    monkeypatch.setattr(PeftModel, "merge_and_unload", lossy_merge, raising=False)
    with pytest.raises(ValueError, match=r"is not the adapter on its base: logits differ by .*tolerance 10%"):
        merge_adapter(adapter, tmp_path / "merged", prompts=PROMPTS)
    assert not (tmp_path / "merged").exists()


def test_a_quantized_base_is_refused_before_it_loads(adapter: Path, tmp_path: Path) -> None:
    config = json.loads((tmp_path / "base/config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "base/config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"is stored quantized.*--base_model"):
        merge_adapter(adapter, tmp_path / "merged", prompts=PROMPTS)


def test_adapters_that_are_no_sum_of_weights_are_refused(adapter: Path, tmp_path: Path) -> None:
    tuned = get_peft_model(
        load_model(tmp_path / "base", dtype=torch.bfloat16),
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
    )
    tuned.save_pretrained(tmp_path / "prompt_tuning")
    with pytest.raises(ValueError, match=r"learned prompt.*cannot be merged.*without `--merge`"):
        merge_adapter(tmp_path / "prompt_tuning", tmp_path / "merged", prompts=PROMPTS)


def test_what_is_merged_already_is_kept_until_the_adapter_changes(adapter: Path, tmp_path: Path) -> None:
    first = merge_adapter(adapter, tmp_path / "merged", prompts=PROMPTS)
    written = (tmp_path / "merged/model.safetensors").stat().st_mtime_ns
    assert merge_adapter(adapter, tmp_path / "merged", prompts=PROMPTS) == first
    assert (tmp_path / "merged/model.safetensors").stat().st_mtime_ns == written
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({name: 2 * tensor for name, tensor in weights.items()}, adapter / "adapter_model.safetensors")
    assert merge_adapter(adapter, tmp_path / "merged", prompts=PROMPTS) != first
    assert (tmp_path / "merged/model.safetensors").stat().st_mtime_ns != written


def test_completions_may_part_at_near_ties_only() -> None:
    near, far = (Parity(0.01, 0.1, 100, 8, 7, margin) for margin in (0.02, 0.4))
    assert near.holds and not far.holds
    assert (
        "7 of 8 greedy completions are equal; 1 part where the two best logits lie 2.00% or less (tolerance 20%)"
        in str(near)
    )
    assert not Parity(0.11, 0.1, 100, 8, 8, 0.0).holds
