"""The gradient diagnostic: SNR estimators against cases whose SNR is known, sketches against inner products."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from paced_trl.evaluation.diagnosis import GradientSketch
from paced_trl.evaluation.gradient_snr import _snr_with_replicates, gradient_snr


def synthetic(
    snr: np.ndarray, per_bin: int, size: int = 50, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients mu + noise with |mu|^2 / E|noise|^2 = snr at each of the pass rates 0/K..K/K."""
    rng = np.random.default_rng(seed)
    last = len(snr) - 1
    mean = rng.normal(size=size)
    mean /= np.linalg.norm(mean)
    gradients = [np.sqrt(ratio) * mean + rng.normal(size=(per_bin, size)) / np.sqrt(size) for ratio in snr]
    return np.concatenate(gradients), np.repeat(np.arange(last + 1), per_bin), np.full((last + 1) * per_bin, last)


def test_known_snr_is_found_with_its_interval() -> None:
    rates = np.arange(9) / 8
    true = 4 * rates * (1 - rates)
    found = gradient_snr(*synthetic(true, per_bin=120))
    assert [b.pass_rate for b in found.bins] == rates.tolist()
    for estimate, value in zip(found.bins, true, strict=True):
        assert estimate.snr == pytest.approx(value, abs=0.12)
        assert estimate.low - 0.02 <= value <= estimate.high + 0.02
    assert found.is_bell and found.finding.startswith("The data show a bell")
    assert found.exponents == pytest.approx((1.0, 1.0), abs=0.15)
    for low, high in found.exponent_intervals:
        assert low <= 1.0 <= high
    assert found.explained >= found.explained_by_default > 0.95


def test_the_estimate_has_no_bias_where_the_plain_ratio_has() -> None:
    rng = np.random.default_rng(1)
    estimates, plain = [], []
    for _ in range(400):
        noise = rng.normal(size=(8, 30))
        estimates.append(float(_snr_with_replicates(noise @ noise.T, 1, rng)[0]))
        mean = noise.mean(axis=0)
        plain.append(mean @ mean / np.mean(np.sum((noise - mean) ** 2, axis=1)))
    assert np.mean(estimates) == pytest.approx(0.0, abs=0.01)
    assert np.mean(plain) == pytest.approx(1 / 7, rel=0.1)


def test_estimates_are_the_definition_of_unbiased_moments() -> None:
    gradients = np.random.default_rng(2).normal(size=(5, 3)) + 1
    pairs = [gradients[i] @ gradients[j] for i in range(5) for j in range(5) if i != j]
    signal = np.mean(pairs)
    noise = np.mean(np.sum(gradients**2, axis=1)) - signal
    snr, replicates = _snr_with_replicates(gradients @ gradients.T, 20_000, np.random.default_rng(0))
    assert float(snr) == pytest.approx(signal / noise)
    assert np.median(replicates) == pytest.approx(float(snr), rel=0.15)


@pytest.mark.parametrize(
    ("snr", "words"),
    [
        (np.full(5, 0.5), "above that at neither end"),
        (np.linspace(0, 1, 5), "falls towards p = 0 only. It is highest at p = 1"),
        (np.linspace(1, 0, 5), "falls towards p = 1 only. It is highest at p = 0"),
        (np.zeros(5), "above that at neither end"),
    ],
)
def test_no_bell_is_said_plainly(snr: np.ndarray, words: str) -> None:
    found = gradient_snr(*synthetic(snr, per_bin=80))
    assert not found.is_bell
    assert found.finding.startswith("The data do not show a bell") and words in found.finding


def test_exponents_follow_a_skewed_curve() -> None:
    rates = np.arange(9) / 8
    found = gradient_snr(*synthetic(6 * rates**0.5 * (1 - rates) ** 2, per_bin=150))
    assert found.exponents == pytest.approx((0.5, 2.0), abs=0.35)
    assert found.explained > found.explained_by_default
    assert found.best_exponents() == (*found.exponents, pytest.approx(found.explained))
    a, b, explained = found.best_exponents(a=1.5)
    assert a == 1.5 and b > found.exponents[1] and explained < found.explained


def test_no_exponents_fit_gradients_that_disagree_everywhere() -> None:
    found = gradient_snr(*synthetic(np.zeros(5), per_bin=40))
    without = replace(found, bins=[replace(each, snr=-0.01) for each in found.bins])
    with pytest.raises(ValueError, match="agree at no pass rate"):
        without.best_exponents()


def test_too_few_pass_rates_are_refused() -> None:
    with pytest.raises(ValueError, match="Only 2 pass rates have 4 problems or more"):
        gradient_snr(*synthetic(np.zeros(2), per_bin=10))


def parameters(*sizes: int) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.zeros(size)) for size in sizes]


def vector(trained: list[torch.nn.Parameter], sketch: GradientSketch, values: torch.Tensor) -> np.ndarray:
    for parameter, value in zip(trained, values.split([p.numel() for p in trained]), strict=True):
        parameter.grad = value.clone()
    return sketch.of_gradients()


def test_small_gradients_are_kept_as_they_are() -> None:
    trained = parameters(3, 4)
    values = torch.arange(7.0)
    sketch = GradientSketch(trained, size=7)
    assert sketch.is_exact and vector(trained, sketch, values).tolist() == values.tolist()
    trained[0].grad = None
    assert sketch.of_gradients().tolist() == [0, 0, 0, 3, 4, 5, 6]


def test_a_sketch_is_the_signed_sum_into_buckets() -> None:
    trained = parameters(5, 9, 2)
    sketch = GradientSketch(trained, size=4)
    signs = torch.cat(sketch._signs)
    values = torch.randn(16)
    expected = np.zeros(4)
    for i in range(16):
        expected[i % 4] += float(signs[i] * values[i])
    np.testing.assert_allclose(vector(trained, sketch, values), expected, rtol=1e-5)


def test_sketches_keep_inner_products() -> None:
    trained = parameters(3000, 7000)
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(10_000, generator=generator)
    two = one + torch.randn(10_000, generator=generator)
    products = []
    for seed in range(20):
        sketch = GradientSketch(trained, size=1000, seed=seed)
        products.append(vector(trained, sketch, one) @ vector(trained, sketch, two))
    scale = float(one.norm() * two.norm())
    assert np.mean(products) == pytest.approx(float(one @ two), abs=2 * scale / np.sqrt(1000 * 20) + 1)
    assert np.std(products) < 2 * scale / np.sqrt(1000)
