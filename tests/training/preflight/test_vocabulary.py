"""Student and teacher must agree on their tokens."""

from __future__ import annotations

import pytest

from helpers.byte_level_models import TOKENS, make_config, make_tokenizer
from paced_trl.training.preflight.vocabulary import check_same_vocabulary


# peft 0.21 asks transformers 5.23 for a property under its old name. Can go with the next peft.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def test_same_vocabulary_returns_its_size() -> None:
    tokenizer, config = make_tokenizer(), make_config()
    assert check_same_vocabulary(tokenizer, make_tokenizer(), config, make_config()) == len(TOKENS)


def test_different_token_ids_are_refused_although_sizes_agree() -> None:
    swapped = list(TOKENS)
    first, second = TOKENS.index("3"), TOKENS.index("7")
    swapped[first], swapped[second] = "7", "3"
    with pytest.raises(ValueError, match=f"token '3' has id {first} for the student and id {second} for the teacher"):
        check_same_vocabulary(make_tokenizer(), make_tokenizer(swapped), make_config(), make_config())
    renamed = [*TOKENS[:first], "z", *TOKENS[first + 1 :]]
    with pytest.raises(ValueError, match=rf"token '3' has id {first} .* no id for the teacher, where {first} is 'z'"):
        check_same_vocabulary(make_tokenizer(), make_tokenizer(renamed), make_config(), make_config())


def test_a_token_of_one_side_only_is_said_but_accepted() -> None:
    larger = make_tokenizer([*TOKENS, "<think>"])
    config = make_config(vocab_size=32)
    with pytest.warns(UserWarning, match="1 tokens are known to only one of student and teacher .*<think>"):
        assert check_same_vocabulary(make_tokenizer(), larger, config, config) == 32


def test_padded_heads_share_the_rows_of_the_smaller_one() -> None:
    assert check_same_vocabulary(make_tokenizer(), make_tokenizer(), make_config(64), make_config(32)) == 32
    assert check_same_vocabulary(make_tokenizer(), make_tokenizer(), make_config(32), make_config(64)) == 32
    with pytest.raises(ValueError, match=r"token id is 22, .* is 64 \(student\) and 16 \(teacher\)"):
        check_same_vocabulary(make_tokenizer(), make_tokenizer(), make_config(64), make_config(16))


def test_a_tokenizer_larger_than_the_head_is_refused() -> None:
    with pytest.raises(ValueError, match=f"largest token id is {len(TOKENS) - 1}.*`vocab_size` is 8"):
        check_same_vocabulary(make_tokenizer(), make_tokenizer(), make_config(8), make_config(8))


def test_different_ends_of_sequence_are_warned_about() -> None:
    base = make_tokenizer(eos_token="<|endoftext|>")
    with pytest.warns(UserWarning, match=r"\['<\|endoftext\|>'\] and the teacher with \['<\|im_end\|>'\]"):
        check_same_vocabulary(base, make_tokenizer(), make_config(eos_token_id=0), make_config())
    both = make_config(eos_token_id=[0, 2])
    assert check_same_vocabulary(make_tokenizer(), make_tokenizer(), both, both) == len(TOKENS)
