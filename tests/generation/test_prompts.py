"""Prompts become tokens once, with one beginning, and what cannot be rendered is said in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from helpers.tiny_models import build_tiny_tokenizer
from helpers.training import problems
from paced_trl.generation.prompts import PromptRenderer, with_one_bos


GEMMA = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
)


def tokenizer_of(characters: str, *, bos: bool = False, **options: Any) -> PreTrainedTokenizerFast:
    """A tokenizer of some characters, which knows no others; with `bos` it puts "<s>" before every text."""
    backend = Tokenizer(models.WordLevel({token: index for index, token in enumerate(["<s>", "</s>", *characters])}))
    backend.pre_tokenizer = pre_tokenizers.Split("", behavior="isolated")
    backend.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    if bos:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", **options)


def test_a_text_that_begins_with_bos_gets_no_second_one() -> None:
    renderer = PromptRenderer(tokenizer_of("ab", bos=True, chat_template="<s>{{ messages[0].content }}"))
    plain, written, chat = renderer.tokenize(["ab", "<s>ab", [{"role": "user", "content": "ab"}]])
    assert plain == written == chat == [0, 2, 3]
    assert renderer.tokenize(["a<s><s>b"]) == [[0, 2, 0, 0, 3]]
    assert with_one_bos([0, 0, 2], None) == [0, 0, 2] and with_one_bos([0], 0) == [0]


def test_the_trainer_sees_the_tokens_that_the_student_was_measured_on(make_trainer: Callable) -> None:
    trainer = make_trainer(problems())
    trainer.processing_class.add_special_tokens({"bos_token": "<user>"})
    ids, _, _ = trainer._tokenize_prompts(["<user><user>1", "<user>1", "1"])
    assert ids == PromptRenderer(trainer.processing_class).tokenize(["<user><user>1", "<user>1", "1"])
    assert ids[0] == ids[1] != ids[2]


def test_an_unknown_character_is_named_with_its_prompt() -> None:
    renderer = PromptRenderer(tokenizer_of("ab"))
    message = r"cannot encode prompt 2, 'a.*b' .*a character that the vocabulary lacks"
    with pytest.raises(ValueError, match=message) as refusal:
        renderer.tokenize(["ab", "ba", "aéb", "é"])
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("template", "prompt", "message"),
    [
        (GEMMA, [{"role": "system", "content": "Add."}, {"role": "user", "content": "1"}], "no system role: put its"),
        (GEMMA, [{"content": "1"}], "refuses prompt 1 .* Check its roles: they are None"),
        (None, [{"role": "user", "content": "1"}], "the tokenizer has no chat template to render it with. Give text"),
    ],
)
def test_what_a_template_refuses_is_said(template: str | None, prompt: list[dict[str, str]], message: str) -> None:
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = template
    prompts = [[{"role": "user", "content": "fine"}] if template else "fine", prompt]
    if "role" not in prompt[0]:
        tokenizer.chat_template = "{% for message in messages %}{{ '<' + message.role + '>' }}{% endfor %}"
    with pytest.raises(ValueError, match=message) as refusal:
        PromptRenderer(tokenizer).tokenize(prompts)
    assert "prompt 1" in str(refusal.value).lower() and "\n" not in str(refusal.value)
