"""Generation with transformers: the right distribution, whatever the batch; greedy equal to plain `generate`."""

from __future__ import annotations

import inspect
import json
import random
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from scipy.stats import chi2_contingency, chisquare
from transformers.cache_utils import DynamicLayer

from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from paced_trl.generation import attention_cache, transformers_engine
from paced_trl.generation.attention_cache import cache_argument, can_share_beginning
from paced_trl.generation.batching import PromptRow, RowLimit, capacity, per_prompt, split_off
from paced_trl.generation.completions import Completion, SamplingParameters
from paced_trl.generation.continuous_batch import ContinuousBatch, _Tensors
from paced_trl.generation.device_memory import bytes_per_token
from paced_trl.generation.engines import load_generator
from paced_trl.generation.seeded_sampling import DrawFromRowStream, row_uniforms
from paced_trl.generation.transformers_engine import TransformersGenerator


def make_prompts(count: int = 8, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    lengths = [1, 2, 5, 9, 17, 30]
    return ["".join(rng.choice("abcdef123 +=") for _ in range(lengths[i % len(lengths)])) for i in range(count)]


PROMPTS = make_prompts()


@pytest.fixture
def make_generator(tiny_tokenizer: Any) -> Callable[..., TransformersGenerator]:
    def make(model: Any = None, *, tokenizer: Any = None, **options: Any) -> TransformersGenerator:
        names = set(SamplingParameters.__dataclass_fields__)
        sampling = SamplingParameters(
            **{"max_completion_length": 16, **{name: options.pop(name) for name in names & options.keys()}}
        )
        return TransformersGenerator(
            build_tiny_model() if model is None else model, tokenizer or tiny_tokenizer, sampling, **options
        )

    return make


def plain_greedy(model: Any, tokenizer: Any, prompt: str, max_new_tokens: int = 16) -> str:
    """The definition: one prompt, no batch, no padding, transformers' own loop."""
    encoded = tokenizer(prompt, return_tensors="pt")
    output = model.generate(
        input_ids=encoded["input_ids"],
        attention_mask=encoded["attention_mask"],
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=1,
    )[0, encoded["input_ids"].shape[1] :].tolist()
    return tokenizer.decode(output[: output.index(1)] if 1 in output else output, skip_special_tokens=True)


@pytest.mark.parametrize(
    ("architecture", "options", "can_cut"),
    [
        ("llama", {}, True),
        ("gpt2", {}, True),
        ("bloom", {}, True),
        ("mistral", {"sliding_window": 8}, True),
        ("gemma3_text", {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}, True),
        ("mamba", {}, False),
    ],
)
def test_greedy_equals_plain_generate(
    make_generator: Callable[..., TransformersGenerator],
    tiny_tokenizer: Any,
    architecture: str,
    options: dict[str, Any],
    can_cut: bool,
) -> None:
    model = build_tiny_model(architecture, **options)
    expected = {index: plain_greedy(model, tiny_tokenizer, prompt) for index, prompt in enumerate(PROMPTS)}
    assert len(set(expected.values())) > 1
    transformers_engine._say_why_slow.cache_clear()
    with (
        nullcontext() if can_cut else pytest.warns(UserWarning, match="MambaForCausalLM generates in batches that run")
    ):
        greedy = make_generator(model, temperature=0)
    assert greedy._can_cut_cache is can_cut
    assert {index: c[0].text for index, c in greedy(PROMPTS, 1, seed=0)} == expected
    # Sampling from one token is greedy too, and generates K rows per prompt, from a shared prefill where possible.
    for index, completions in make_generator(model, top_k=1)(PROMPTS, 3, seed=0):
        assert [completion.text for completion in completions] == [expected[index]] * 3


def test_greedy_completions_of_a_prompt_are_generated_once(
    make_generator: Callable[..., TransformersGenerator], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = make_generator(temperature=0)
    rows = []
    generate = generator.model.generate

    def spy(**inputs: Any) -> torch.Tensor:
        rows.append(len(inputs["input_ids"]))
        return generate(**inputs)

    monkeypatch.setattr(generator.model, "generate", spy)
    generated = dict(generator(PROMPTS, 5, seed=0))
    assert rows[0] == len(PROMPTS) and rows == sorted(rows, reverse=True)
    assert all(len(c) == 5 and len(set(c)) == 1 for c in generated.values())


@pytest.mark.parametrize(
    ("pad_is_eos", "options"),
    [(False, {}), (True, {"temperature": 0.7, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.3})],
    ids=["plain", "all parameters"],
)
def test_completions_do_not_depend_on_the_batch(
    make_generator: Callable[..., TransformersGenerator], pad_is_eos: bool, options: dict[str, Any]
) -> None:
    tokenizer = build_tiny_tokenizer(pad_is_eos=pad_is_eos)
    options = {**options, "max_completion_length": 8}
    expected = dict(make_generator(tokenizer=tokenizer, **options)(PROMPTS, 4, seed=3))
    assert len({c.text for completions in expected.values() for c in completions}) > 2 * len(PROMPTS)
    for limits in ({"batch_size": 1}, {"batch_size": 3}, {"batch_tokens": 100}):
        assert dict(make_generator(tokenizer=tokenizer, **options, **limits)(PROMPTS, 4, seed=3)) == expected
    shuffled = [5, 2, 7, 0]
    generator = make_generator(tokenizer=tokenizer, **options)
    some = dict(generator([PROMPTS[index] for index in shuffled], [4, 1, 0, 2], seed=3))
    assert some == {i: expected[shuffled[i]][:count] for i, count in ((0, 4), (1, 1), (3, 2))}


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("llama", {}),
        ("gpt2", {}),
        ("bloom", {}),
        ("gemma3_text", {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}),
    ],
)
@pytest.mark.parametrize("sampling", [{}, {"repetition_penalty": 1.3}, {"temperature": 0}], ids=str)
def test_leaving_and_entering_rows_change_no_completion(
    make_generator: Callable[..., TransformersGenerator],
    architecture: str,
    options: dict[str, Any],
    sampling: dict[str, Any],
) -> None:
    """The definition: one padded batch that runs to its longest row."""
    prompts = [*make_prompts(9, seed=1), "a"]
    counts = [3, 0, 1, 5, 2, 4, 1, 3, 9, 1]
    model = build_tiny_model(architecture, **options)
    padded = make_generator(model, max_completion_length=30, **sampling)
    padded._can_cut_cache = False
    expected = dict(padded(prompts, counts, seed=0))
    lengths = {c.num_tokens for completions in expected.values() for c in completions}
    assert len(lengths) > 3 or sampling.get("temperature") == 0
    for batch_size in (3, 8, 64):
        generator = make_generator(model, max_completion_length=30, batch_size=batch_size, **sampling)
        assert dict(generator(prompts, counts, seed=0)) == expected


def test_finished_rows_leave_and_waiting_rows_enter(
    make_generator: Callable[..., TransformersGenerator], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = make_generator(temperature=3.0, max_completion_length=200, batch_size=8)
    forward = generator.model.forward
    num_row_steps = 0
    num_prefilled = 0

    def spy(*args: Any, **inputs: Any) -> Any:
        nonlocal num_row_steps, num_prefilled
        rows, positions = inputs["input_ids"].shape
        if positions > 1:
            num_prefilled += rows
        else:
            num_row_steps += rows
            # No row holds more positions than the longest prompt and completion.
            assert inputs[str(cache_argument(generator.model))].get_seq_length() < max(map(len, PROMPTS)) + 200
        return forward(*args, **inputs)

    spy.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    monkeypatch.setattr(generator.model, "forward", spy)
    generated = dict(generator(PROMPTS, 6, seed=0))
    lengths = [c.num_tokens for completions in generated.values() for c in completions]
    assert num_prefilled < 2 * len(PROMPTS)
    # Padded batches of eight would take: each its longest completion.
    padded = sum(8 * max(lengths[start : start + 8]) for start in range(0, len(lengths), 8))
    assert sum(lengths) <= num_row_steps < 1.3 * sum(lengths) < padded


def test_streams_differ_by_seed_prompt_and_generation(make_generator: Callable[..., TransformersGenerator]) -> None:
    generator = make_generator(temperature=2.0)
    first = dict(generator(["abc", "abc", "abd"], 6, seed=0))
    assert first[0] == first[1]
    assert len(set(first[0])) == 6
    assert not set(first[0]) & set(first[2])
    assert not set(first[0]) & set(dict(generator(["abc"], 6, seed=1))[0])


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5, "top_k": 7}, {"top_p": 0.8}], ids=str)
def test_tokens_are_drawn_from_the_softmax(
    make_generator: Callable[..., TransformersGenerator], tiny_tokenizer: Any, options: dict[str, Any]
) -> None:
    prompt, num_draws = "ab", 4000
    # Smaller weights: no token so likely that nothing else is seen, none so unlikely that the test has no power.
    model = build_tiny_model(initializer_range=0.1)
    logits = model(**tiny_tokenizer(prompt, return_tensors="pt")).logits[0, -1].detach().double()
    probabilities = torch.softmax(logits / options.get("temperature", 1.0), dim=0)
    ranked = probabilities.argsort(descending=True)
    if "top_k" in options:
        probabilities[ranked[options["top_k"] :]] = 0
    if "top_p" in options:
        kept = int((probabilities[ranked].cumsum(0) < options["top_p"]).sum()) + 1
        probabilities[ranked[kept:]] = 0
    expected = (num_draws * probabilities / probabilities.sum()).numpy()
    generator = make_generator(model, max_completion_length=1, batch_size=1000, **options)
    # The ids, not the text: special tokens have none.
    drawn: list[int] = []
    completion = generator._completion
    generator._completion = lambda ids: (drawn.append(ids[0]), completion(ids))[1]  # type: ignore[method-assign]
    list(generator([prompt], num_draws, seed=0))
    observed = np.bincount(drawn, minlength=100)
    assert observed.sum() == num_draws
    assert not observed[expected == 0].any()
    # One bin per frequent token, one for all others.
    frequent = expected >= 5
    bins = [np.append(counts[frequent], counts[~frequent].sum()) for counts in (observed, expected)]
    observed_bins, expected_bins = (counts[bins[1] > 0] for counts in bins)
    assert len(expected_bins) > 5
    assert chisquare(observed_bins, expected_bins).pvalue > 0.01


def test_completions_are_distributed_as_those_of_generate(
    make_generator: Callable[..., TransformersGenerator], tiny_tokenizer: Any
) -> None:
    """Lengths, and tokens at several places, against `do_sample=True`; rows leave and enter all the time."""
    num_draws, length = 800, 12
    model = build_tiny_model(initializer_range=0.1)
    # Every fifth token ends a completion, so that many are short and a few long.
    eos_token_ids = list(range(1, 100, 5))
    model.generation_config.eos_token_id = eos_token_ids
    generator = make_generator(model, max_completion_length=length, batch_size=48)
    ours: list[list[int]] = []
    completion = generator._completion
    generator._completion = lambda ids: (ours.append(ids), completion(ids))[1]  # type: ignore[method-assign]
    # Of different lengths: their rows are padded, and enter among each other's.
    prompts = ["ab", "2+2=4 2+3="]
    generated = dict(generator(prompts, num_draws, seed=0))
    lengths = [[completion.num_tokens for completion in generated[index]] for index in range(2)]
    theirs: list[list[list[int]]] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for prompt in prompts:
            encoded = tiny_tokenizer(prompt, return_tensors="pt")
            output = model.generate(
                **encoded,
                do_sample=True,
                top_k=0,
                max_new_tokens=length,
                num_return_sequences=num_draws,
                pad_token_id=0,
                eos_token_id=eos_token_ids,
            )
            theirs.append(output[:, encoded["input_ids"].shape[1] :].tolist())
    ended = [
        [next((i + 1 for i, token in enumerate(row) if token in eos_token_ids), length) for row in rows]
        for rows in theirs
    ]
    p_values = [_same_distribution(ours_, theirs_) for ours_, theirs_ in zip(lengths, ended, strict=True)]
    for place in (0, 1, 3):
        drawn = [row[place] for row in ours if len(row) > place and not set(row[:place]) & set(eos_token_ids)]
        expected = [row[place] for rows in theirs for row in rows if not set(row[:place]) & set(eos_token_ids)]
        p_values.append(_same_distribution(drawn, expected))
    assert min(p_values) > 0.01
    # The test can fail: another distribution is seen.
    cold = make_generator(model, max_completion_length=length, temperature=0.3)
    other = [c.num_tokens for c in dict(cold(["ab"], num_draws, seed=0))[0]]
    assert _same_distribution(other, ended[0]) < 0.01


def _same_distribution(first: list[int], second: list[int]) -> float:
    """P value of the hypothesis that two samples of integers come from one distribution."""
    counts = np.array([np.bincount(sample, minlength=100) for sample in (first, second)])
    frequent = counts.sum(axis=0) >= 20
    table = np.column_stack([counts[:, frequent], counts[:, ~frequent].sum(axis=1)])
    return float(chi2_contingency(table[:, table.sum(axis=0) > 0]).pvalue)


def test_the_draw_inverts_the_cumulative_distribution() -> None:
    probabilities = torch.tensor([0.0, 0.25, 0.0, 0.5, 0.25, 0.0])
    cases = {0.0: 1, 0.2499: 1, 0.25: 3, 0.5: 3, 0.7499: 3, 0.75: 4, 1 - 2**-24: 4}
    uniforms = torch.tensor(list(cases))[:, None]
    draw = DrawFromRowStream(uniforms, starts=torch.full((len(cases),), 4))
    scores = probabilities.log().expand(len(cases), -1)
    result = draw(torch.zeros(len(cases), 4, dtype=torch.long), scores)
    assert result.argmax(dim=-1).tolist() == list(cases.values())
    assert torch.isneginf(result).sum() == result.numel() - len(cases)


def test_the_draw_never_takes_a_token_of_probability_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = 10 * torch.randn(2000, 301, generator=generator)
    scores[torch.rand(scores.shape, generator=generator) < 0.9] = -torch.inf
    scores[:, 0] = 0.0
    uniforms = torch.rand(2000, 1, generator=generator)
    uniforms[:500], uniforms[500:1000] = 0.0, 1 - 2**-24
    drawn = DrawFromRowStream(uniforms, torch.zeros(2000, dtype=torch.long))(
        torch.zeros(2000, 0, dtype=torch.long), scores
    ).argmax(dim=-1)
    assert torch.isfinite(scores.gather(1, drawn[:, None])).all()


def test_a_masked_token_is_not_drawn_where_sums_are_not_monotone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    scores = torch.randn(500, 60).masked_fill(torch.rand(500, 60) < 0.5, -torch.inf)
    uniforms = torch.rand(500, 1)
    starts = torch.zeros(500, dtype=torch.long)
    ids = torch.zeros(500, 0, dtype=torch.long)
    exact = DrawFromRowStream(uniforms, starts)(ids, scores).argmax(dim=-1)
    cumsum = torch.Tensor.cumsum
    # As parallel sums do: off by rounding, here much larger, and not the same way for neighbours.
    noise = 1e-3 * (torch.arange(60) % 2 * 2 - 1)
    monkeypatch.setattr(torch.Tensor, "cumsum", lambda self, dim: cumsum(self, dim) + noise)
    drawn = DrawFromRowStream(uniforms, starts)(ids, scores).argmax(dim=-1)
    assert torch.isfinite(scores.gather(1, drawn[:, None])).all()
    assert (drawn == exact).float().mean() > 0.9


def test_a_row_has_the_same_numbers_whatever_its_length_limit() -> None:
    long = row_uniforms(PromptRow(0, [1, 2, 3], 0, 1), 7, 1000)
    assert long.dtype == np.float32 and long.min() >= 0 and long.max() < 1
    assert abs(long.mean() - 0.5) < 0.05
    np.testing.assert_array_equal(row_uniforms(PromptRow(9, [1, 2, 3], 0, 4), 7, 10), long[:10])
    others = [
        row_uniforms(PromptRow(0, ids, first, 1), seed, 1000)
        for seed, ids, first in ((8, [1, 2, 3], 0), (7, [1, 2, 4], 0), (7, [12, 3], 0), (7, [1, 2, 3], 1))
    ]
    assert all(abs(np.corrcoef(long, other)[0, 1]) < 0.15 for other in others)


@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_lengths_and_finish_reasons(make_generator: Callable[..., TransformersGenerator], pad_is_eos: bool) -> None:
    tokenizer = build_tiny_tokenizer(pad_is_eos=pad_is_eos)
    generator = make_generator(tokenizer=tokenizer, temperature=3.0, max_completion_length=40)
    completions = [c for _, cs in generator(PROMPTS, 8, seed=0) for c in cs]
    by_reason = Counter(completion.finish_reason for completion in completions)
    assert by_reason["stop"] > 5 and by_reason["length"] > 5
    for completion in completions:
        # A character per token, but for special tokens, which have no text; the last of "stop" is EOS.
        assert len(completion.text) <= completion.num_tokens - (completion.finish_reason == "stop")
        assert (completion.num_tokens == 40) if completion.finish_reason == "length" else completion.num_tokens <= 40
        assert "<" not in completion.text or "<eos>" not in completion.text
    ids = [[20, 21, 1, 1], [1, 1, 1, 1], [20, 21, 22, 1], [20, 0, 3, 22]]
    assert [generator._completion(generator._cut(row)) for row in ids] == [
        Completion(tokenizer.decode([20, 21]), 3, "stop"),
        Completion("", 1, "stop"),
        Completion(tokenizer.decode([20, 21, 22]), 4, "stop"),
        Completion(tokenizer.decode([20, 22]), 4, "length"),
    ]


def test_eos_ids_of_the_generation_config_end_a_completion(
    make_generator: Callable[..., TransformersGenerator],
) -> None:
    model = build_tiny_model()
    model.generation_config.eos_token_id = [1, 50]
    generator = make_generator(model, temperature=3.0)
    assert generator.eos_token_ids == [1, 50]
    fifty = generator.tokenizer.decode([50])
    completions = [c for _, cs in generator(PROMPTS, 8, seed=0) for c in cs]
    assert not any(fifty in completion.text for completion in completions)
    model.generation_config.eos_token_id = 50
    assert make_generator(model).eos_token_ids == [1, 50]
    generator.tokenizer.eos_token = None
    model.generation_config.eos_token_id = None
    with pytest.raises(ValueError, match="end-of-sequence token"):
        make_generator(model)


def test_nothing_is_inherited_from_the_generation_config(
    make_generator: Callable[..., TransformersGenerator],
) -> None:
    expected = dict(make_generator()(PROMPTS, 2, seed=0))
    model = build_tiny_model()
    inherited = {"top_k": 1, "temperature": 0.1, "min_p": 0.99, "suppress_tokens": list(range(20, 60)), "num_beams": 2}
    model.generation_config.update(**inherited, repetition_penalty=5.0, max_length=3, no_repeat_ngram_size=1)
    before = model.generation_config.to_dict()
    assert dict(make_generator(model)(PROMPTS, 2, seed=0)) == expected
    assert model.generation_config.to_dict() == before


def test_a_model_in_training_is_evaluated_and_given_back(
    make_generator: Callable[..., TransformersGenerator],
) -> None:
    expected = dict(make_generator()(PROMPTS, 2, seed=0))
    model = build_tiny_model(attention_dropout=0.5).train()
    model.gradient_checkpointing_enable()
    assert dict(make_generator(model)(PROMPTS, 2, seed=0)) == expected
    assert model.training
    assert all(parameter.grad_fn is None for parameter in model.parameters())


def test_an_adapter_is_part_of_the_model(make_generator: Callable[..., TransformersGenerator]) -> None:
    base = dict(make_generator()(PROMPTS, 2, seed=0))
    model = get_peft_model(build_tiny_model(), LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
    model.base_model.model.generation_config.top_k = 1
    generator = make_generator(model)
    assert generator._can_cut_cache
    assert dict(generator(PROMPTS, 2, seed=0)) == base
    untrained = generator.record["weights"]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.5)
    assert generator.record["weights"] != untrained
    assert dict(generator(PROMPTS, 2, seed=0)) != base
    assert model.base_model.model.generation_config.top_k == 1


def test_prompts_become_the_tokens_that_trl_trains_on(
    make_generator: Callable[..., TransformersGenerator], tiny_tokenizer: Any
) -> None:
    from trl.trainer.distillation_trainer import DistillationTrainer

    chats = [[{"role": "user", "content": text}] for text in ("hi", "2+2=")]
    trainer: Any = SimpleNamespace(
        _is_vlm=False, processing_class=tiny_tokenizer, tools=None, chat_template=None, chat_template_kwargs={}
    )
    generator = make_generator()
    for prompts in (PROMPTS, chats):
        ids, _, _ = DistillationTrainer._tokenize_prompts(trainer, prompts)
        assert generator.renderer.tokenize(prompts) == ids
    assert generator.renderer.tokenize([chats[0], "ab"]) == [
        generator.renderer.tokenize(chats)[0],
        generator.renderer.tokenize(["ab"])[0],
    ]
    assert generator.render(chats[0]) == "<user>hi<assistant>"
    assert generator.render("2+2=") == "2+2="


def test_chat_template_options_reach_the_template_and_the_record(
    make_generator: Callable[..., TransformersGenerator], tiny_tokenizer: Any
) -> None:
    tiny_tokenizer.chat_template = "{{ messages[0].content }}{% if think %}!{% endif %}"
    prompt = [{"role": "user", "content": "hi"}]
    plain, thinking = make_generator(), make_generator(chat_template_kwargs={"think": True})
    assert (plain.render(prompt), thinking.render(prompt)) == ("hi", "hi!")
    assert thinking.record["chat_template_kwargs"] == {"think": True}
    assert dict(thinking([prompt], 2, seed=0)) == dict(plain(["hi!"], 2, seed=0))
    before = plain.record
    tiny_tokenizer.chat_template += " "
    assert before["chat_template"] != plain.record["chat_template"]


def test_the_record_holds_what_completions_depend_on(make_generator: Callable[..., TransformersGenerator]) -> None:
    record = make_generator(temperature=0.7, top_p=0.9).record
    assert json.loads(json.dumps(record)) == record
    assert record["sampling"] == {
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 0,
        "min_p": None,
        "repetition_penalty": 1.0,
        "max_completion_length": 16,
    }
    assert (record["engine"], record["dtype"], record["eos_token_ids"]) == ("transformers", "float32", [1])
    assert record == make_generator(temperature=0.7, top_p=0.9, batch_size=3).record
    model = build_tiny_model()
    generator = make_generator(model)
    before = generator.record
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-6
    assert generator.record["weights"] != before["weights"]
    assert make_generator(record={"model": "m", "weights": "w"}).record["weights"] == "w"
    other = build_tiny_tokenizer()
    other.add_tokens(["new"])
    assert make_generator(model, tokenizer=other).record["tokenizer"] != before["tokenizer"]
    generator(PROMPTS, 1, seed=0)
    generator.tokenizer(PROMPTS, padding=True, truncation=True, max_length=5)
    assert generator.record["tokenizer"] == before["tokenizer"]


def test_impossible_prompts_are_refused_before_anything_is_generated(
    make_generator: Callable[..., TransformersGenerator], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = make_generator(max_completion_length=56)
    monkeypatch.setattr(generator.model, "generate", lambda **_: pytest.fail("generated"))
    with pytest.raises(ValueError, match="Prompt 1 has no tokens"):
        list(generator(["a", "", "b"], 1, seed=0))
    with pytest.raises(ValueError, match=r"Prompt 2 has 203 tokens.*56 exceeds.*256 tokens \(2 of 4"):
        list(generator(["a", "b" * 201, "c" * 203, "d" * 200], 1, seed=0))
    with pytest.raises(ValueError, match="Prompt 2 has 203 tokens"):
        list(generator(["a", "", "c" * 203], [1, 0, 1], seed=0))
    with pytest.raises(ValueError, match="Prompt 1 has no tokens"):
        generator.check_prompts(["a", ""])
    with pytest.raises(ValueError, match=r"\[1, 2\] for 3 prompts"):
        list(generator(["a", "b", "c"], [1, 2], seed=0))
    with pytest.raises(ValueError, match="none below 0"):
        list(generator(["a"], -1, seed=0))
    generator.check_prompts(["d" * 200])
    assert list(generator(["a", ""], 0, seed=0)) == list(generator([], 3, seed=0)) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("min_p", 1.5),
        ("repetition_penalty", 0.0),
        ("max_completion_length", 0),
    ],
)
def test_impossible_sampling_parameters_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{name}` is {value}"):
        SamplingParameters(**{name: value})  # type: ignore[arg-type]


def test_nan_is_not_taken_for_an_answer(make_generator: Callable[..., TransformersGenerator]) -> None:
    model = build_tiny_model()
    with torch.no_grad():
        model.lm_head.weight[3] = torch.nan
    for temperature in (0, 1.0):
        with pytest.raises(FloatingPointError, match="NaN"):
            list(make_generator(model, temperature=temperature)(["ab"], 1, seed=0))


def test_out_of_memory_halves_the_batch(
    make_generator: Callable[..., TransformersGenerator], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = dict(make_generator()(PROMPTS, 4, seed=0))
    generator = make_generator()
    generate = generator.model.generate
    largest = 8

    def generate_in_little_memory(**inputs: Any) -> torch.Tensor:
        if len(inputs["input_ids"]) > largest:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return generate(**inputs)

    monkeypatch.setattr(generator.model, "generate", generate_in_little_memory)
    with pytest.warns(UserWarning, match=r"Out of memory with (32|16) completions"):
        assert dict(generator(PROMPTS, 4, seed=0)) == expected
    largest = 0
    with pytest.warns(UserWarning, match="Out of memory"), pytest.raises(torch.OutOfMemoryError):
        list(generator(PROMPTS, 4, seed=0))


def test_out_of_memory_while_finished_rows_leave_loses_none(
    make_generator: Callable[..., TransformersGenerator], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"temperature": 3.0, "max_completion_length": 200, "batch_size": 8}
    expected = dict(make_generator(**options)(PROMPTS, 6, seed=0))
    keep, num_calls = _Tensors.keep, 0

    def run_out(self: _Tensors, rows: torch.Tensor) -> None:
        nonlocal num_calls
        num_calls += 1
        if num_calls == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        keep(self, rows)

    monkeypatch.setattr(_Tensors, "keep", run_out)
    with pytest.warns(UserWarning, match="Out of memory with"):
        assert dict(make_generator(**options)(PROMPTS, 6, seed=0)) == expected
    assert num_calls > 2


def test_batches_grow_again_after_memory_ran_out() -> None:
    limit = RowLimit(64)
    limit.ran_out(50)
    assert limit.now == 25
    sizes, steps = [], 0
    while limit.now < 64:
        limit.went_well(limit.now)
        steps += 1
        sizes.append(limit.now)
    assert sorted(sizes) == sizes and steps == 8 * len(set(sizes) - {25})
    # Memory for 40 only: it runs out less and less often.
    num_failed = 0
    for _ in range(1000):
        if limit.now > 40:
            limit.ran_out(limit.now)
            num_failed += 1
        else:
            limit.went_well(limit.now)
    assert 3 <= num_failed <= 8 and 20 <= limit.now <= 40
    few = RowLimit(64)
    few.ran_out(20)
    for _ in range(100):
        few.went_well(3)  # says nothing of more
    assert few.now == 10


def test_batches_are_sized_to_the_free_memory(
    make_generator: Callable[..., TransformersGenerator], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_tiny_model()
    config = model.config
    per_token = 2 * 4 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    assert bytes_per_token(model, model) == per_token
    rows: list[int] = []
    advance = ContinuousBatch.advance
    monkeypatch.setattr(
        ContinuousBatch, "advance", lambda self, stop_at: (rows.append(len(self.rows)), advance(self, stop_at))[1]
    )
    prompts = make_prompts(270)
    list(make_generator(model, max_completion_length=1)(prompts, 1, seed=0))
    assert max(rows) == 64  # nothing tells how much is free
    # A row: the longest prompt, its completion, room, and scores.
    row_bytes = (30 + 1 + 64) * per_token + 32 * config.vocab_size + per_token
    free = 0
    monkeypatch.setattr("paced_trl.generation.device_memory.free_memory", lambda device: free)
    monkeypatch.setattr("paced_trl.generation.transformers_engine.free_memory", lambda device: free)
    for num_rows, options in ((10, {}), (40, {}), (5, {"batch_size": 5}), (64, {"batch_tokens": 10**6})):
        free, rows[:] = int(max(num_rows, 10) * row_bytes / 0.7), []
        list(make_generator(model, max_completion_length=1, **options)(prompts[:100], 1, seed=0))
        assert num_rows - 1 <= rows[0] <= num_rows
    free, rows[:] = 10**12, []
    list(make_generator(model, max_completion_length=1)(prompts, 1, seed=0))
    assert max(rows) == 256


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"repetition_penalty": 1.3}], ids=str)
@pytest.mark.parametrize(
    ("architecture", "options", "longest_run"),
    [
        ("llama", {}, 30),
        ("gpt2", {}, 30),
        ("bloom", {}, 30),
        ("mistral", {"sliding_window": 100}, 30),
        ("mistral", {"sliding_window": 30}, 53),  # but for the last token, which runs with the completion
        ("gemma3_text", {"sliding_window": 100, "layer_types": ["sliding_attention", "full_attention"]}, 30),
        ("mamba", {}, 54),
    ],
)
@pytest.mark.filterwarnings("ignore:MambaForCausalLM generates:UserWarning")
def test_what_prompts_begin_with_alike_runs_once(
    make_generator: Callable[..., TransformersGenerator],
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    options: dict[str, Any],
    longest_run: int,
    sampling: dict[str, Any],
) -> None:
    beginning = "1+2=3 4+5=9 2+2=4 6+1=7 "
    prompts = [beginning + prompt for prompt in [*make_prompts(7, seed=2), "a", "a"]]
    model = build_tiny_model(architecture, **options)
    generator = make_generator(model, batch_size=6, **sampling)
    widths: list[tuple[int, ...]] = []
    hook = model.get_input_embeddings().register_forward_hook(lambda module, args, out: widths.append(args[0].shape))
    generated = dict(generator(prompts, [3, 1, 2, 0, 5, 1, 1, 2, 1], seed=0))
    hook.remove()
    assert widths.count((1, 23)) == (architecture != "mamba")
    assert max(shape[1] for shape in widths) == longest_run
    monkeypatch.setattr(ContinuousBatch, "share_beginning", lambda self, rows: None)
    assert dict(generator(prompts, [3, 1, 2, 0, 5, 1, 1, 2, 1], seed=0)) == generated
    assert len({c.text for completions in generated.values() for c in completions}) > 3


def test_rescaled_positions_are_not_shared() -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    assert not can_share_beginning(build_tiny_model(rope_parameters=rope), 50)
    assert can_share_beginning(build_tiny_model(), 50)


def test_tokens_are_written_into_room_and_nothing_is_copied(
    make_generator: Callable[..., TransformersGenerator], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"temperature": 3.0, "max_completion_length": 150, "batch_size": 8}
    copies = 0
    with_room = attention_cache._with_room

    def count(held: torch.Tensor, num_new: int) -> torch.Tensor:
        nonlocal copies
        copies += 1
        return with_room(held, num_new)

    monkeypatch.setattr(attention_cache, "_with_room", count)
    model = build_tiny_model()
    steps = 0

    def step(module: Any, args: Any, out: Any) -> None:
        nonlocal steps
        steps += 1

    hook = model.get_input_embeddings().register_forward_hook(step)
    generated = dict(make_generator(model, **options)(PROMPTS, 4, seed=0))
    hook.remove()
    assert copies < 0.4 * steps * 2 * model.config.num_hidden_layers
    # The definition: transformers' own layers.
    monkeypatch.setattr(attention_cache, "RoomyLayer", DynamicLayer)
    assert dict(make_generator(model, **options)(PROMPTS, 4, seed=0)) == generated


def test_a_call_with_a_seed_per_prompt_is_as_many_calls(make_generator: Callable[..., TransformersGenerator]) -> None:
    generator = make_generator()
    together = dict(generator(PROMPTS[:4], [2, 0, 3, 1], seed=[7, 7, 8, 9]))
    for index, count, seed in ((0, 2, 7), (2, 3, 8), (3, 1, 9)):
        assert dict(generator([PROMPTS[index]], count, seed=seed)) == {0: together.pop(index)}
    assert together == {}


def test_batches_keep_to_their_budget() -> None:
    rng = random.Random(0)
    rows = [PromptRow(index, [0] * rng.randrange(1, 40), 0, rng.randrange(1, 12)) for index in range(60)]
    rows.sort(key=lambda row: -len(row.prompt_ids))
    wanted = {row.prompt_index: row.num_generations for row in rows}
    made: dict[int, list[int]] = {index: [] for index in wanted}
    num_batches = 0
    while rows:
        batch, rows = split_off(rows, capacity(rows, 10, 300, max_completion_length=20))
        num_batches += 1
        size = sum(row.num_generations for row in batch)
        assert 1 <= size <= 10
        assert size == 1 or size * (max(len(row.prompt_ids) for row in batch) + 20) <= 300
        for row in batch:
            made[row.prompt_index] += range(row.first_generation, row.first_generation + row.num_generations)
    assert made == {index: list(range(count)) for index, count in wanted.items()}
    assert num_batches < 2 * sum(wanted.values()) / 6
    assert capacity([PromptRow(0, [0] * 1000, 0, 2)], 10, 300, 20) == 1
    assert PromptRow(3, [7], 2, 2).singles() == [PromptRow(3, [7], 2, 1), PromptRow(3, [7], 3, 1)]
    assert per_prompt(3, 2) == [3, 3]


def test_generators_are_loaded_by_name(tmp_path: Path, tiny_tokenizer: Any) -> None:
    model = build_tiny_model(seed=1)
    model.save_pretrained(tmp_path / "student")
    tiny_tokenizer.save_pretrained(tmp_path / "student")
    sampling = SamplingParameters(max_completion_length=16)
    generator = load_generator("transformers", model_name_or_path=str(tmp_path / "student"), sampling=sampling)
    assert (generator.record["model"], generator.record["sampling"]["max_completion_length"]) == ("student", 16)
    assert generator.record["weights"].startswith("sha256:")
    expected = dict(TransformersGenerator(model, tiny_tokenizer, sampling)(PROMPTS, 2, seed=0))
    if generator.record["dtype"] == "float32":
        assert dict(generator(PROMPTS, 2, seed=0)) == expected
    with pytest.raises(ValueError, match=r"'sglang', which does not exist. The engines are: 'transformers', 'vllm', "):
        load_generator("sglang")
    for limits in ({"batch_size": 0}, {"batch_tokens": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            TransformersGenerator(model, tiny_tokenizer, sampling, **limits)


def test_a_cache_by_an_unknown_name_is_said_once_and_changes_no_completion(
    make_generator: Callable[..., TransformersGenerator], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = dict(make_generator(max_completion_length=6)(PROMPTS, 2, seed=0))
    monkeypatch.setattr("paced_trl.generation.attention_cache.cache_argument", lambda model: None)
    transformers_engine._say_why_slow.cache_clear()
    with pytest.warns(UserWarning, match="its `forward` takes no cache by a name that is known here") as said:
        slow, _ = make_generator(max_completion_length=6), make_generator()
    assert len(said) == 1 and dict(slow(PROMPTS, 2, seed=0)) == expected
