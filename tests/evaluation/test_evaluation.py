"""mean@k, pass@k, their intervals and paired differences, against enumeration and simulation."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest
from scipy import stats

from paced_trl.evaluation.differences import Difference, compare_runs, mean_over_runs
from paced_trl.evaluation.evaluation import Evaluation, evaluate_model, majority_votes
from paced_trl.generation.completions import Completion
from paced_trl.store.store import PassRateStore
from paced_trl.verification.verdict import Verdict
from paced_trl.verification.verifier import load_verifier


RECORD = {
    "generator": {
        "engine": "transformers",
        "model": "student",
        "weights": "sha256:1",
        "dtype": "float32",
        "chat_template_kwargs": {"enable_thinking": False},
        "sampling": {"temperature": 1.0, "max_completion_length": 16},
    },
    "verifier": {"name": "math", "model": "judge"},
    "seed": 0,
}


class ScriptedGenerator:
    """Say the prompt's answer in the first `num_right` generations and nonsense, cut off, in the others."""

    record: ClassVar = {"model": "scripted", "sampling": {"temperature": 1.0}}

    def __init__(self, num_right):
        self.num_right = num_right
        self.num_calls = 0

    def __call__(self, prompts, num_generations, *, seed):
        counts = [num_generations] * len(prompts) if isinstance(num_generations, int) else num_generations
        for index, (prompt, count) in enumerate(zip(prompts, counts, strict=True)):
            self.num_calls += count
            right, wrong = Completion(str(eval(prompt)), len(prompt), "stop"), Completion("?", 9, "length")
            yield index, [right if i < self.num_right else wrong for i in range(count)]


PROBLEMS = [
    {"problem_id": "sum", "prompt": "2 + 3", "solution": "5"},
    {"problem_id": "product", "prompt": "20 * 3", "solution": "60"},
    {"problem_id": "wrong gold", "prompt": "1 + 1", "solution": "3"},
]


def make(num_passed, num_valid, **changes):
    settings = {
        "name": "held out",
        "model": "student",
        "record": RECORD,
        "seed": 0,
        "num_generations": 4,
        "problem_ids": [f"problem {i}" for i in range(len(num_passed))],
        "num_passed": list(num_passed),
        "num_valid": list(num_valid),
        "mean_completion_length": 12.5,
        "clipped_ratio": 0.25,
        "verdicts": {"passed": 3, "failed": 4, "timeout": 1},
    }
    return Evaluation(**(settings | changes))


def simulate(rates, num_generations=4, seed=0):
    rng = np.random.default_rng(seed)
    return make(rng.binomial(num_generations, rates).tolist(), [num_generations] * len(rates))


def changed_record(path, value):
    record = json.loads(json.dumps(RECORD))
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return record


def test_the_pure_modules_load_no_heavy_library():
    code = (
        "import sys, paced_trl.weighting.counts, paced_trl.weighting.weights, paced_trl.evaluation.evaluation; "
        "print([name for name in ('torch', 'transformers', 'datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_model_is_evaluated_as_it_is_estimated():
    generator = ScriptedGenerator(num_right=3)
    with load_verifier("exact") as verifier:
        evaluation = evaluate_model(PROBLEMS, generator, verifier, name="sums", progress=False)
    assert evaluation.problem_ids == ["sum", "product", "wrong gold"]
    assert evaluation.num_passed == [3, 3, 0]
    assert evaluation.num_valid == [4, 4, 4]
    assert evaluation.mean_at_k == pytest.approx(0.5)
    assert evaluation.num_generations == 4
    assert evaluation.mean_completion_length == pytest.approx((3 * (5 + 6 + 5) + 3 * 9) / 12)
    assert evaluation.clipped_ratio == pytest.approx(0.25)
    assert evaluation.verdicts["passed"] == 6
    assert sum(evaluation.verdicts.values()) == 12
    assert (evaluation.name, evaluation.model, evaluation.seed) == ("sums", "scripted", 0)
    assert evaluation.record["generator"] == ScriptedGenerator.record
    assert Evaluation.from_dict(json.loads(json.dumps(evaluation.to_dict()))) == evaluation


def test_a_stored_evaluation_is_not_generated_again(tmp_path):
    generator = ScriptedGenerator(num_right=1)
    with load_verifier("exact") as verifier:
        settings = {"name": "sums", "store": tmp_path / "store", "progress": False}
        first = evaluate_model(PROBLEMS, generator, verifier, num_generations=4, **settings)
        assert generator.num_calls == 12
        # The store now holds other problems and more generations than are asked for.
        second = evaluate_model(PROBLEMS[:1], generator, verifier, num_generations=2, **settings)
        reopened = PassRateStore(tmp_path / "store")
        third = evaluate_model(PROBLEMS, generator, verifier, **(settings | {"store": reopened}))
    assert generator.num_calls == 12
    assert third == first
    assert (second.problem_ids, second.num_passed, second.num_valid) == (["sum"], [1], [4])
    assert second.num_generations == 4
    assert second.mean_completion_length == pytest.approx((5 + 3 * 9) / 4)
    assert sum(second.verdicts.values()) == 4


def test_an_evaluation_without_a_valid_verdict_says_what_to_check():
    def no_verdict(completions, solutions, **columns):
        return [Verdict.TIMEOUT] * len(completions)

    with pytest.raises(ValueError, match=r"No completion of the 3 problems of 'sums' .*'timeout': 12.*verifier"):
        evaluate_model(PROBLEMS, ScriptedGenerator(1), no_verdict, name="sums", progress=False)


def test_evaluations_of_two_models_compare():
    with load_verifier("exact") as verifier:
        better, worse = (
            evaluate_model(PROBLEMS, ScriptedGenerator(num_right), verifier, name="sums", seed=seed, progress=False)
            for num_right, seed in ((3, 1), (1, 0))
        )
    assert compare_runs(better, worse).estimate == pytest.approx((0.5 + 0.5 + 0.0) / 3)


def test_mean_at_k_averages_problems_not_completions():
    assert make([1, 4, 1], [4, 4, 1]).mean_at_k == pytest.approx((0.25 + 1.0 + 1.0) / 3)


def test_an_unmeasured_problem_does_not_count_and_is_listed():
    evaluation = make([1, 0, 4], [4, 0, 4])
    assert evaluation.mean_at_k == pytest.approx(0.625)
    assert evaluation.mean_at_k_interval == make([1, 4], [4, 4]).mean_at_k_interval
    assert evaluation.pass_at(2) == make([1, 4], [4, 4]).pass_at(2)
    assert evaluation.unmeasured == ["problem 1"]


def test_interval_is_the_percentile_bootstrap_over_problems():
    evaluation = simulate(np.random.default_rng(1).beta(0.7, 0.9, 120))
    rates = np.array(evaluation.num_passed) / 4
    expected = stats.bootstrap(
        (rates,), np.mean, n_resamples=20_000, method="percentile", vectorized=True, rng=np.random.default_rng(2)
    ).confidence_interval
    assert evaluation.mean_at_k_interval == pytest.approx((expected.low, expected.high), abs=0.006)
    assert evaluation.mean_at_k_interval == evaluation.mean_at_k_interval


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = []
    for seed in range(200):
        low, high = simulate(rng.beta(0.5, 0.5, 100), seed=seed).mean_at_k_interval
        covered.append(low <= 0.5 <= high)
    assert 0.89 <= np.mean(covered) <= 0.99


def test_interval_of_equal_pass_rates_has_no_width():
    assert make([4, 4], [4, 4]).mean_at_k_interval == (1.0, 1.0)


def test_interval_does_not_depend_on_how_resamples_are_split(monkeypatch):
    evaluation = simulate(np.linspace(0.0, 1.0, 50))
    whole = evaluation.mean_at_k_interval
    monkeypatch.setattr("paced_trl.evaluation.intervals._MAX_DRAWS", 70)
    assert evaluation.mean_at_k_interval == whole


@pytest.mark.parametrize("num_valid", [1, 3, 5])
def test_pass_at_k_is_the_share_of_draws_with_a_pass(num_valid):
    for num_passed, k in itertools.product(range(num_valid + 1), range(1, num_valid + 1)):
        outcomes = [True] * num_passed + [False] * (num_valid - num_passed)
        share = np.mean([any(draw) for draw in itertools.combinations(outcomes, k)])
        assert make([num_passed], [num_valid]).pass_at(k) == pytest.approx(share)


def test_pass_at_k_is_the_estimator_of_chen_et_al():
    evaluation = make([0, 3, 20, 200], [200] * 4)
    for k in (1, 10, 100):
        expected = np.mean([1.0 - math.comb(200 - c, k) / math.comb(200, k) for c in (0, 3, 20, 200)])
        assert evaluation.pass_at(k) == pytest.approx(expected)
    assert evaluation.pass_at(1) == pytest.approx(evaluation.mean_at_k)


def test_pass_at_k_leaves_out_problems_with_fewer_valid_verdicts():
    assert make([1, 1], [4, 1]).pass_at(2) == pytest.approx(0.5)


@pytest.mark.parametrize("k", [0, -1, 5])
def test_pass_at_refuses_what_the_counts_cannot_say(k):
    with pytest.raises(ValueError, match=f"`k` is {k}, but no problem of 'held out' has more than 4.*Give 1 to 4"):
        make([1, 0], [4, 0]).pass_at(k)


def test_a_saved_evaluation_comes_back_equal(tmp_path):
    evaluation = make([1, 0, 4], [4, 0, 4])
    evaluation.save(tmp_path / "new" / "held_out.json")
    assert Evaluation.load(tmp_path / "new" / "held_out.json") == evaluation
    assert Evaluation.from_dict(evaluation.to_dict()) == evaluation


def test_the_file_says_the_score_and_every_setting(tmp_path):
    make([1, 4], [4, 4]).save(tmp_path / "held_out.json")
    values = json.loads((tmp_path / "held_out.json").read_text())
    assert values["mean_at_k"] == 0.625
    assert values["mean_at_k_interval"][0] <= 0.625 <= values["mean_at_k_interval"][1]
    assert values["record"] == RECORD


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "the field `name` is missing; it has none"),
        ('{"name": "a", "model": "b"}', "the field `record` is missing; it has name, model"),
        ("[1]", "it holds a list, not an object"),
        ('{"name": ', "Expecting value"),
    ],
)
def test_a_file_without_an_evaluation_is_refused_by_name(tmp_path, text, message):
    (tmp_path / "broken.json").write_text(text)
    with pytest.raises(ValueError, match=rf"Cannot read an evaluation from '.*broken\.json': .*{message}"):
        Evaluation.load(tmp_path / "broken.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problem_ids": ["a"]}, "has 1 problem ids and counts of 2 problems"),
        ({"problem_ids": ["a", "a"]}, "Rows 0 and 1 of the evaluation on .* have the same `problem_id` 'a'"),
        ({"num_passed": [5, 0]}, "`num_passed` is 5 and `num_valid` 4 in row 0"),
        ({"num_passed": [0, 0], "num_valid": [0, 0]}, "No completion of the 2 problems .*'timeout': 1.*verifier"),
    ],
)
def test_what_is_no_evaluation_is_refused(changes, message):
    evaluation = make([1, 2], [4, 4])
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(evaluation, **changes)


def test_difference_is_paired_by_problem_id():
    run, baseline = make([3, 1, 2], [4, 4, 4]), make([1, 1, 0], [4, 4, 4])
    order = [2, 0, 1]
    shuffled = make(
        [baseline.num_passed[i] for i in order], [4, 4, 4], problem_ids=[baseline.problem_ids[i] for i in order]
    )
    difference = compare_runs(run, shuffled)
    assert difference == compare_runs(run, baseline)
    assert difference.estimate == pytest.approx((0.5 + 0.0 + 0.5) / 3)
    assert difference.low <= difference.estimate <= difference.high
    assert difference.num_problems == 3


def test_difference_is_the_paired_percentile_bootstrap():
    rates = np.random.default_rng(0).beta(0.5, 0.5, 200)
    run, baseline = simulate(np.minimum(rates + 0.1, 1.0), seed=1), simulate(rates, seed=2)
    paired = (np.array(run.num_passed) - np.array(baseline.num_passed)) / 4
    expected = stats.bootstrap(
        (paired,), np.mean, n_resamples=20_000, method="percentile", vectorized=True, rng=np.random.default_rng(3)
    ).confidence_interval
    difference = compare_runs(run, baseline)
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high), abs=0.004)


def test_pairing_is_narrower_than_the_two_intervals():
    rates = np.random.default_rng(0).beta(0.2, 0.2, 300)
    run, baseline = simulate(rates, seed=1), simulate(rates, seed=2)
    difference = compare_runs(run, baseline)
    low, high = run.mean_at_k_interval
    assert difference.high - difference.low < 0.7 * (high - low)


def test_sides_with_several_seeds_are_averaged_per_problem():
    first, second, baseline = make([4, 0], [4, 4]), make([2, 2], [4, 4], seed=1), make([1, 1], [4, 4])
    assert compare_runs([first, second], baseline).estimate == pytest.approx(0.5 - 0.25)
    assert compare_runs([first, second], [baseline, baseline]) == compare_runs([first, second], baseline)


def test_runs_in_another_order_have_the_same_mean_and_are_other_pairs():
    runs = [simulate(np.linspace(0.05, 0.95, 31), num_generations=7, seed=seed) for seed in range(3)]
    same, shuffled = compare_runs(runs, runs), compare_runs(runs, runs[::-1])
    assert (same.estimate, same.low, same.high) == (0.0, 0.0, 0.0)
    assert shuffled.estimate == 0.0 and shuffled.low < 0.0 < shuffled.high


def naive_bootstrap(run, baseline, num_resamples=3000, seed=3):
    """Draw seeds and problems one resample at a time; runs of the same position are pairs."""
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(num_resamples):
        problems = rng.integers(len(run[0].num_passed), size=len(run[0].num_passed))
        seeds = rng.integers(len(run), size=len(run))
        pairs = [(run[s], baseline[min(s, len(baseline) - 1)]) for s in seeds]
        rates = [
            np.array(one.num_passed) / one.num_valid - np.array(other.num_passed) / other.num_valid
            for one, other in pairs
        ]
        means.append(np.mean([rate[problems].mean() for rate in rates]))
    return np.quantile(means, [0.025, 0.975])


@pytest.mark.parametrize("num_baselines", [1, 4])
def test_resamples_are_of_problems_and_of_runs(num_baselines):
    rates = np.linspace(0.1, 0.9, 40)
    run = [simulate(np.clip(rates + shift, 0, 1), seed=i) for i, shift in enumerate((0.0, 0.1, 0.2, 0.3))]
    baseline = [simulate(rates, seed=10 + i) for i in range(num_baselines)]
    difference = compare_runs(run, baseline)
    assert (difference.low, difference.high) == pytest.approx(naive_bootstrap(run, baseline), abs=0.01)
    # With the runs fixed the interval would be narrower.
    per_problem = [
        dataclasses.replace(
            run[0], num_passed=np.sum([r.num_passed for r in run], axis=0).tolist(), num_valid=[16] * 40
        )
    ]
    fixed = compare_runs(per_problem, baseline[:1])
    assert difference.high - difference.low > 1.1 * (fixed.high - fixed.low)


def test_sides_of_other_sizes_are_drawn_each_for_itself():
    rates = np.linspace(0.1, 0.9, 40)
    run = [simulate(np.clip(rates + shift, 0, 1), seed=i) for i, shift in enumerate((0.1, 0.3))]
    baseline = [simulate(rates, seed=10 + i) for i in range(3)]
    difference = compare_runs(run, baseline)
    means = [np.mean([e.mean_at_k for e in side]) for side in (run, baseline)]
    assert difference.estimate == pytest.approx(means[0] - means[1])
    assert difference.low < difference.estimate < difference.high
    back = compare_runs(baseline, run)
    assert (back.low, back.high) == pytest.approx((-difference.high, -difference.low), abs=0.01)


def test_mean_over_runs_is_the_mean_with_an_interval_over_both():
    evaluations = [simulate(np.linspace(0.1, 0.9, 40), seed=seed) for seed in range(3)]
    mean = mean_over_runs(evaluations)
    assert mean.estimate == pytest.approx(np.mean([e.mean_at_k for e in evaluations]))
    one = mean_over_runs(evaluations[:1])
    assert (one.low, one.high) == evaluations[0].mean_at_k_interval


def naive_majority(verdicts, answers):
    """Draw among the answers with most votes, all of them equally often."""
    votes = [("right",) if verdict == "passed" else answer for verdict, answer in zip(verdicts, answers, strict=True)]
    votes = [
        vote
        for vote, verdict in zip(votes, verdicts, strict=True)
        if vote is not None and verdict in ("passed", "failed", "truncated")
    ]
    winners = [vote for vote in set(votes) if all(votes.count(vote) >= votes.count(other) for other in votes)]
    return sum(winner == ("right",) for winner in winners) / len(winners) if winners else 0.0


def test_majority_is_the_naive_definition():
    rng = np.random.default_rng(0)
    verdicts = ["passed", "failed", "truncated", "unparseable", "timeout"]
    for _ in range(500):
        drawn = rng.choice(verdicts, size=rng.integers(1, 7), p=[0.3, 0.4, 0.1, 0.1, 0.1]).tolist()
        answers = [None if v in ("unparseable", "timeout") else rng.choice(["1", "2", None]) for v in drawn]
        assert majority_votes(drawn, answers) == naive_majority(drawn, answers)


def test_what_passed_agrees_however_it_is_written_and_ties_are_drawn():
    assert majority_votes(["passed", "passed", "failed"], ["1/2", "0.5", "7"]) == 1.0
    assert majority_votes(["passed", "failed", "failed"], [None, "7", "8"]) == pytest.approx(1 / 3)
    assert majority_votes(["failed", "passed", "failed"], ["7", "1", "7"]) == 0.0
    assert majority_votes(["timeout", "unparseable"], [None, None]) == 0.0


def test_an_evaluation_counts_votes_where_the_verifier_can():
    generator = ScriptedGenerator(num_right=2)
    with load_verifier("exact") as verifier:
        # "?" is one answer: two of it against two right ones.
        assert evaluate_model(PROBLEMS[:2], generator, verifier, name="sums", progress=False).maj_at_k == 0.5
        assert evaluate_model(PROBLEMS, generator, verifier, name="sums", progress=False).maj_at_k == pytest.approx(
            1 / 3
        )
        skipped = evaluate_model(PROBLEMS, generator, verifier, name="sums", majority=False, progress=False)
        assert skipped.maj_at_k is None
        all_right = evaluate_model(PROBLEMS[:2], ScriptedGenerator(num_right=4), verifier, name="sums", progress=False)
        assert all_right.maj_at_k == 1.0
    old = {key: value for key, value in skipped.to_dict().items() if key != "majority"}
    assert Evaluation.from_dict(old) == skipped
    with load_verifier("helpers.rewards:reward_by_text") as verifier:
        assert verifier.answers(["1"]) is None
        assert evaluate_model(PROBLEMS, generator, verifier, name="sums", progress=False).maj_at_k is None


@pytest.mark.parametrize(
    ("name", "completions", "answers"),
    [
        ("math", ["\\boxed{\\frac{1}{2}}", "The answer is 0.50", "no idea"], ["1/2", "1/2", None]),
        ("math", ["$x^2 + 1$", "\\boxed{1 + x^2}"], ["x**2 + 1", "x**2 + 1"]),
        ("numeric", ["it is 50%", "a 1/2 b", "= 0.5", "?"], ["50%", "1/2", "1/2", None]),
        ("choice", ["The answer is B.", "(b)", "hm"], ["B", "B", None]),
        ("exact", [" a ", "a", " "], ["a", "a", None]),
    ],
)
def test_equal_answers_are_equal_texts(name, completions, answers):
    options = {"num_workers": 1} if name == "math" else {}
    with load_verifier(name, **options) as verifier:
        assert verifier.answers(completions) == answers


def test_swapping_the_sides_turns_the_sign():
    rates = np.random.default_rng(0).beta(0.5, 0.5, 50)
    run, baseline = simulate(rates, seed=1), simulate(rates**2, seed=2)
    forth, back = compare_runs(run, baseline), compare_runs(baseline, run)
    assert forth.estimate == -back.estimate
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low), abs=0.01)


@pytest.mark.parametrize(
    ("low", "high", "excludes_zero"),
    [(0.01, 0.2, True), (-0.2, -0.01, True), (-0.1, 0.1, False), (0.0, 0.1, False), (-0.1, 0.0, False)],
)
def test_excludes_zero_is_about_the_interval(low, high, excludes_zero):
    assert Difference((low + high) / 2, low, high, 10).excludes_zero is excludes_zero


def test_an_effect_is_found_and_none_is_not_invented():
    rng = np.random.default_rng(0)
    found, invented = [], []
    for seed in range(100):
        rates = rng.beta(0.5, 0.5, 150)
        better = simulate(rates + 0.3 * (1.0 - rates), seed=3 * seed)
        baseline, same = simulate(rates, seed=3 * seed + 1), simulate(rates, seed=3 * seed + 2)
        found.append(compare_runs(better, baseline, num_resamples=1000).excludes_zero)
        invented.append(compare_runs(same, baseline, num_resamples=1000).excludes_zero)
    assert np.mean(found) > 0.95
    assert np.mean(invented) <= 0.12


def test_problems_unmeasured_on_one_side_do_not_count():
    run, baseline = make([4, 4, 0], [4, 4, 0]), make([1, 0, 4], [4, 0, 4])
    difference = compare_runs(run, baseline)
    assert difference.num_problems == 1
    assert difference.estimate == pytest.approx(0.75)
    with pytest.raises(ValueError, match="None of the 2 problems of 'held out' has a valid verdict in every"):
        compare_runs(make([1, 0], [4, 0]), make([0, 1], [0, 4]))


def test_other_problems_are_refused():
    run, baseline = make([1, 2, 3], [4, 4, 4]), make([1, 2], [4, 4], model="base")
    message = "of 'student' on 'held out' has 1 problems that the one of 'base' on 'held out' lacks, .*'problem 2'"
    with pytest.raises(ValueError, match=message):
        compare_runs(run, baseline)
    with pytest.raises(ValueError, match=message):
        compare_runs(baseline, [run])


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("generator", "sampling", "temperature"), 0.7, r"`generator\.sampling\.temperature` 1\.0 and 0\.7"),
        (("generator", "chat_template_kwargs"), {}, r"`generator\.chat_template_kwargs\.enable_thinking` False and"),
        (("generator", "engine"), "vllm", r"`generator\.engine` 'transformers' and 'vllm'"),
        (("verifier", "name"), "exact", r"`verifier\.name` 'math' and 'exact'"),
        (("verifier", "model"), "other judge", r"`verifier\.model` 'judge' and 'other judge'"),
    ],
)
def test_other_settings_are_refused_by_name_and_value(path, value, message):
    baseline = make([1, 2], [4, 4], record=changed_record(path, value))
    with pytest.raises(ValueError, match=message):
        compare_runs(make([1, 2], [4, 4]), baseline)
    with pytest.raises(ValueError, match="were made under different settings"):
        compare_runs([make([1, 2], [4, 4]), baseline], make([1, 2], [4, 4]))


@pytest.mark.parametrize("path", [("generator", "model"), ("generator", "weights"), ("generator", "dtype"), ("seed",)])
def test_the_model_and_the_seed_may_differ(path):
    baseline = make([1, 2], [4, 4], record=changed_record(path, "other"))
    assert compare_runs(make([2, 3], [4, 4]), baseline).estimate == pytest.approx(0.25)


def test_runs_with_other_numbers_of_generations_can_be_compared():
    baseline = make([2, 4], [8, 8], num_generations=8)
    assert compare_runs(make([1, 2], [4, 4]), baseline).estimate == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"run": []}, "`run` holds no evaluation"),
        ({"baseline": []}, "`baseline` holds no evaluation"),
        ({"num_resamples": 0}, "`num_resamples` is 0"),
    ],
)
def test_nothing_to_compare_is_refused(arguments, message):
    evaluation = make([1, 2], [4, 4])
    with pytest.raises(ValueError, match=message):
        compare_runs(**({"run": evaluation, "baseline": evaluation} | arguments))


def test_evaluations_are_values():
    evaluation = make([1], [4])
    with pytest.raises(dataclasses.FrozenInstanceError):
        evaluation.seed = 1
