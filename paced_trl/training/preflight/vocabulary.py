"""
Whether student and teacher speak of the same tokens. Looks at tokenizers and configs only.
"""

from __future__ import annotations

import warnings

from transformers import PreTrainedConfig, PreTrainedTokenizerBase


def check_same_vocabulary(
    student_tokenizer: PreTrainedTokenizerBase,
    teacher_tokenizer: PreTrainedTokenizerBase,
    student_config: PreTrainedConfig,
    teacher_config: PreTrainedConfig,
) -> int:
    """Refuse models whose distributions do not speak of the same tokens; return V, the ids that both heads have."""
    # TRL 1.16 compares the sizes of the two heads and nothing else, so two unrelated tokenizers of equal size would
    # silently train a student on noise.
    student_vocabulary, teacher_vocabulary = student_tokenizer.get_vocab(), teacher_tokenizer.get_vocab()
    _check_token_ids(student_vocabulary, teacher_vocabulary)
    student_size = student_config.get_text_config().vocab_size
    teacher_size = teacher_config.get_text_config().vocab_size
    shared_size = min(student_size, teacher_size)
    largest = max(*student_vocabulary.values(), *teacher_vocabulary.values())
    if largest >= shared_size:
        sizes = f"{student_size} (student) and {teacher_size} (teacher)"
        raise ValueError(
            f"The tokenizer's largest token id is {largest}, but the models' `vocab_size` is "
            f"{student_size if student_size == teacher_size else sizes}, so this token has no row in a head. Resize "
            "the models' embeddings or use the tokenizer they were trained with."
        )
    student_eos = _eos_tokens(student_tokenizer, student_config)
    teacher_eos = _eos_tokens(teacher_tokenizer, teacher_config)
    if student_eos != teacher_eos:
        warnings.warn(
            f"The student ends its completions with {student_eos} and the teacher with {teacher_eos}: the student may "
            "learn an ending that it does not stop at, and lengths may explode. Give both the same `eos_token_id`.",
            stacklevel=2,
        )
    return shared_size


def _check_token_ids(student_vocabulary: dict[str, int], teacher_vocabulary: dict[str, int]) -> None:
    if student_vocabulary == teacher_vocabulary:
        return
    teacher_tokens = {token_id: token for token, token_id in teacher_vocabulary.items()}
    for token, token_id in sorted(student_vocabulary.items(), key=lambda item: item[1]):
        other_id = teacher_vocabulary.get(token)
        # A token that only one of them has does no harm as long as its id is free for the other.
        if other_id == token_id or (other_id is None and token_id not in teacher_tokens):
            continue
        meaning = f", where {token_id} is {teacher_tokens[token_id]!r}" if token_id in teacher_tokens else ""
        raise ValueError(
            f"The tokenizers differ: token {token!r} has id {token_id} for the student and "
            f"{'no id' if other_id is None else f'id {other_id}'} for the teacher{meaning}, so their next-token "
            "distributions cannot be compared. Use a teacher with the student's tokenizer."
        )
    extra = sorted(student_vocabulary.keys() ^ teacher_vocabulary.keys())
    warnings.warn(
        f"{len(extra)} tokens are known to only one of student and teacher (first: {extra[0]!r}); "
        "all other ids agree.",
        stacklevel=3,
    )


def _eos_tokens(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> list[str]:
    ids = getattr(config.get_text_config(), "eos_token_id", None)
    eos = set(ids if isinstance(ids, list) else [ids]) | {tokenizer.eos_token_id}
    return sorted(str(tokenizer.convert_ids_to_tokens(token_id)) for token_id in eos - {None})
