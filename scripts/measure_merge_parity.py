"""
Measure what merging an adapter changes: in 16 bits, and rounded to 4 bits (NF4), which `publish --merge` refuses.

    python scripts/measure_merge_parity.py --run runs/smollm2/student --output scripts/results/merge_parity.json

`parity` is what `publish --merge` prints. The other two numbers are a definition of their own, over the prompts alone:
root mean square difference of the logits, without what is added to all of a token's, as a fraction of their spread.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit

from paced_trl.generation.models import load_model, load_tokenizer
from paced_trl.names import library_versions
from paced_trl.publishing.merged_adapter import merge_adapter
from paced_trl.run_directory import write_json


PROMPTS = ["The capital of France is", "12 + 30 =", "def fibonacci(n):", "Once upon a time"]


@torch.inference_mode()
def logits(model: torch.nn.Module, ids: list[list[int]]) -> torch.Tensor:
    """Return the logits of all prompts, **shape (tokens, V)**, in float32."""
    return torch.cat([model(input_ids=torch.tensor([row])).logits[0].float() for row in ids])


def difference(reference: torch.Tensor, other: torch.Tensor) -> float:
    """Return how far logits are apart, as a fraction of the reference's spread over the vocabulary."""
    apart = reference - other
    apart = apart - apart.mean(dim=-1, keepdim=True)
    return float((apart / reference.std(dim=-1, keepdim=True)).square().mean().sqrt())


@torch.inference_mode()
def round_to_nf4(model: torch.nn.Module) -> None:
    """Round the weights that a 4-bit model has in 4 bits, all linear layers but the head, and write them back."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            packed, state = quantize_4bit(module.weight.data, quant_type="nf4")
            module.weight.data = dequantize_4bit(packed, state).to(module.weight.dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="Directory of an adapter.")
    parser.add_argument("--base", help="Base to merge into. Default: the one that the adapter names.")
    parser.add_argument("--output", type=Path, help="JSON file for the numbers.")
    options = parser.parse_args()
    ids = load_tokenizer(options.run)(PROMPTS)["input_ids"]
    with tempfile.TemporaryDirectory() as directory:
        parity = merge_adapter(options.run, directory, prompts=PROMPTS, base=options.base)
        print(parity)
        reference = logits(load_model(options.run, dtype=torch.bfloat16), ids)
        merged = load_model(directory, dtype=torch.bfloat16)
    numbers = {"parity": dataclasses.asdict(parity), "prompts_16_bit": difference(reference, logits(merged, ids))}
    round_to_nf4(merged)
    numbers["prompts_nf4"] = difference(reference, logits(merged, ids))
    print(f"prompts alone: {numbers['prompts_16_bit']:.3f} in 16 bits, {numbers['prompts_nf4']:.3f} rounded to NF4")
    if options.output is not None:
        write_json(options.output, {**numbers, "device": "cpu", "versions": library_versions()})


if __name__ == "__main__":
    main()
