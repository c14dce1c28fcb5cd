"""
What a verifier says of the student's own completions while it trains.

Responsible for getting from token ids to verdicts, and from verdicts to what is logged of them. Refuses to know what
verdicts are evidence of: `online_pass_rates.py` and `validation.py` do. Ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...verification.verdict import Verdict, mark_truncated
from ...verification.verifier import Verifier
from ..dataset import ROW_COLUMN


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


def verify_completions(
    verifier: Verifier,
    tokenizer: PreTrainedTokenizerBase,
    inputs: list[dict[str, Any]],
    completion_ids: torch.Tensor,
    completion_mask: torch.Tensor,
    eos_token_ids: Sequence[int],
) -> list[Verdict]:
    """
    Return the verdict of each completion.

    Args:
        verifier ([`Verifier`]): Judges texts.
        tokenizer (`PreTrainedTokenizerBase`): The student's.
        inputs (`list[dict[str, Any]]`): B rows with `solution` and whatever else the verifier reads.
        completion_ids, completion_mask (`torch.Tensor`): Tokens, padded on the right, **shape (B, C)**.
        eos_token_ids (`Sequence[int]`): A completion that ends with none of these was cut.
    """
    lengths = completion_mask.sum(dim=1).tolist()
    token_ids = [ids[:n].tolist() for ids, n in zip(completion_ids, lengths, strict=True)]
    texts = tokenizer.batch_decode(token_ids, skip_special_tokens=True)
    columns = {key: [row[key] for row in inputs] for key in inputs[0] if key not in ("solution", ROW_COLUMN)}
    verdicts = verifier(texts, [row["solution"] for row in inputs], **columns)
    return mark_truncated(verdicts, [ids[-1] not in eos_token_ids for ids in token_ids])


def verdict_metrics(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Return the pass rate of the valid verdicts, left out where there are none, and the share of each kind."""
    counts = {kind: sum(verdict is kind for verdict in verdicts) for kind in Verdict}
    num_valid = sum(count for kind, count in counts.items() if kind.is_valid)
    metrics = {"paced/pass_rate": counts[Verdict.PASSED] / num_valid} if num_valid else {}
    return metrics | {f"paced/verdicts/{kind.value}": count / len(verdicts) for kind, count in counts.items()}
