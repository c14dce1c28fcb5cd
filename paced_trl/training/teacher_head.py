"""
A teacher whose head has another number of rows than the student's, although both have the same tokens.

Models of one family pad their heads to different sizes (Qwen2.5: 151936 and 152064). TRL refuses such a pair, and its
kernel takes two heads of equal size. Here the teacher's embeddings are given the student's number of rows, in memory:
the teacher is never saved, and the student keeps its size. What is cut, or added and then left out of the loss by
[`WeightedDivergence`], has no token. Whether the ids agree is checked in
`vocabulary.py`. Ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


# In the config of a teacher that was resized: a padded head must be recognised when the model is used again.
_OWN_SIZE = "paced_own_vocab_size"


def own_head_size(config: PreTrainedConfig) -> int:
    """Return how many rows a model's head has of its own, whatever it was resized to here."""
    return int(getattr(config, _OWN_SIZE, config.get_text_config().vocab_size))


def resize_head(teacher: PreTrainedModel, vocab_size: int) -> None:
    """
    Give a teacher embeddings and a head of `vocab_size` rows.

    Rows are added, not only cut: a student that is larger may sample an id of its padding, which the teacher then has
    to embed.

    Args:
        teacher (`PreTrainedModel`): Changed in place.
        vocab_size (`int`): Rows of the student's head.
    """
    setattr(teacher.config, _OWN_SIZE, own_head_size(teacher.config))
    # Rows that are added are in no loss, so their values are of no matter, and the mean costs a covariance.
    teacher.resize_token_embeddings(vocab_size, mean_resizing=False)
