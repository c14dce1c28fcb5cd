"""Adaptive KL against its definition: full softmaxes, a sort, and autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

from helpers.naive_definitions import naive_adaptive_kl
from paced_trl.training import loss
from paced_trl.training.loss import Predictions, adaptive_divergence, forward_shares, head_of


VOCABULARY, HIDDEN, POSITIONS = 300, 16, 7


def log_probabilities(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    softcap: float | None,
    temperature: float,
) -> torch.Tensor:
    logits = hidden @ weight.t() + (0 if bias is None else bias)
    logits = logits * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return (logits / temperature).log_softmax(-1)


def random_inputs(seed: int = 0, bias: bool = False) -> dict[str, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(seed)
    inputs: dict[str, torch.Tensor | None] = {}
    for name, width in (("student", HIDDEN), ("teacher", HIDDEN + 4)):
        # Positions from nearly uniform to nearly certain: heads of many tokens and of one.
        sharpness = torch.linspace(0.05, 2.0, POSITIONS).unsqueeze(1)
        inputs[f"{name}_hidden"] = torch.randn(POSITIONS, width, generator=generator) * sharpness
        inputs[f"{name}_weight"] = torch.randn(VOCABULARY, width, generator=generator)
        inputs[f"{name}_bias"] = torch.randn(VOCABULARY, generator=generator) if bias else None
    return inputs


RULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "bias": {"bias": True},
    "temperature": {"temperature": 0.7},
    "scale": {"student_logit_scale": 0.5, "teacher_logit_scale": 0.25},
    "soft cap": {"student_softcap": 3.0, "teacher_softcap": 2.0},
    "all": {"bias": True, "temperature": 1.3, "student_logit_scale": 0.5, "student_softcap": 4.0},
}


@pytest.mark.parametrize("max_logits", [2**25, 2 * VOCABULARY], ids=["one chunk", "chunks of two"])
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_value_and_gradient_are_those_of_the_definition(
    monkeypatch: pytest.MonkeyPatch, rules: dict[str, Any], max_logits: int
) -> None:
    monkeypatch.setattr(loss, "_MAX_LOGITS", max_logits)
    rules = {
        "temperature": 1.0,
        "student_logit_scale": 1.0,
        "student_softcap": None,
        "teacher_logit_scale": 1.0,
        "teacher_softcap": None,
        **rules,
    }
    inputs = random_inputs(bias=rules.pop("bias", False))
    trained = [value.requires_grad_() for name, value in inputs.items() if "student" in name and value is not None]
    divergence, entropy = adaptive_divergence(ChunkedDivergenceFunction, *inputs.values(), 0.3, *rules.values())
    log_s, log_t = (
        log_probabilities(
            *(inputs[f"{name}_{part}"] for part in ("hidden", "weight", "bias")),
            rules[f"{name}_logit_scale"],
            rules[f"{name}_softcap"],
            rules["temperature"],
        )
        for name in ("student", "teacher")
    )
    expected = naive_adaptive_kl(log_s, log_t)
    assert expected.min() > 1e-3
    torch.testing.assert_close(divergence, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(entropy, -(log_s.exp() * log_s).sum(-1), atol=1e-5, rtol=1e-4)
    weights = torch.arange(1.0, POSITIONS + 1)
    gradients = torch.autograd.grad((weights * divergence).sum(), trained)
    expected_gradients = torch.autograd.grad((weights * expected).sum(), trained)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        # Both sides are float32, and sum in an order that depends on the number of threads.
        torch.testing.assert_close(gradient, expected_gradient, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("probabilities", "head"),
    [
        ([0.1, 0.6, 0.3], [1]),
        ([0.3, 0.4, 0.3], [0, 1]),  # a tie: the lower id
        ([0.25, 0.25, 0.25, 0.25], [0, 1]),  # exactly half is enough
        ([0.125, 0.375, 0.125, 0.125, 0.125, 0.125], [0, 1]),
        ([0.0, 0.0, 1.0], [2]),
    ],
)
def test_the_head_are_the_fewest_tokens_that_hold_half(probabilities: list[float], head: list[int]) -> None:
    assert head_of(torch.tensor([probabilities])).nonzero()[:, 1].tolist() == head


def test_heads_of_many_tokens_and_of_few_in_one_batch() -> None:
    uniform, certain = torch.full((256,), 1 / 256), torch.zeros(256).index_fill(0, torch.tensor(200), 1.0)
    heads = head_of(torch.stack([uniform, certain, uniform]))
    assert heads[0].nonzero().flatten().tolist() == list(range(128))
    assert heads[1].nonzero().flatten().tolist() == [200]
    assert torch.equal(heads[2], heads[0])


def test_equal_models_have_no_divergence_and_finite_gradients() -> None:
    inputs = random_inputs()
    hidden, weight = inputs["student_hidden"].requires_grad_(), inputs["student_weight"]
    rest = (hidden.detach(), weight, None)
    divergence, _ = adaptive_divergence(ChunkedDivergenceFunction, hidden, weight, None, *rest, 0.0)
    torch.testing.assert_close(divergence, torch.zeros(POSITIONS), atol=1e-5, rtol=0)
    (gradient,) = torch.autograd.grad(divergence.sum(), hidden)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-5, rtol=0)
    assert forward_shares(Predictions(hidden, weight), Predictions(*rest)).tolist() == [0.5] * POSITIONS


def test_no_tensor_of_all_positions_and_tokens_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    probabilities: Callable[..., torch.Tensor] = loss._probabilities

    def record(*args: Any) -> torch.Tensor:
        sizes.append(len(args[0].hidden))
        return probabilities(*args)

    monkeypatch.setattr(loss, "_MAX_LOGITS", 3 * VOCABULARY)
    monkeypatch.setattr(loss, "_probabilities", record)
    inputs = list(random_inputs().values())
    forward_shares(Predictions(*inputs[:3]), Predictions(*inputs[3:]))
    assert sizes == [3, 3, 3, 3, 1, 1]
