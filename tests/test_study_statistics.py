"""Statistics of a study: answers that others have published, and people of whom the truth is known."""

import math
from itertools import combinations

import numpy as np
import pytest

from nststab.study.statistics import (
    FIRST,
    SAME,
    SECOND,
    Judgement,
    Prediction,
    exact_interval,
    krippendorff_alpha,
    majority,
    predicted,
    strengths,
    votes,
)


def test_alpha_is_the_published_one() -> None:
    """Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: four people, twelve units, 0.743."""
    table = ["1 2 3 3 2 1 4 1 2 * * *", "1 2 3 3 2 2 4 1 2 5 * 3", "* 3 3 3 2 3 4 2 2 5 1 *", "1 2 3 3 2 4 4 1 2 5 1 *"]
    units = [[answer for answer in unit if answer != "*"] for unit in zip(*map(str.split, table), strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha([["a", "a"], ["b", "b", "b"]]) == 1
    assert krippendorff_alpha([["a", "b"], ["b", "a"]]) < 0
    assert math.isnan(krippendorff_alpha([["a", "a"], ["b"]]))


def test_alpha_of_chance_is_none() -> None:
    draw = np.random.default_rng(0)
    assert krippendorff_alpha(draw.integers(3, size=(500, 5)).tolist()) == pytest.approx(0, abs=0.04)


def test_exact_interval_is_the_textbook_one() -> None:
    """Of 0 out of n the upper bound is 1 - 0.025^(1/n)."""
    assert exact_interval(0, 10) == pytest.approx((0, 1 - 0.025**0.1))
    assert exact_interval(8, 10) == pytest.approx((0.4439, 0.9748), abs=1e-4)
    assert all(map(math.isnan, exact_interval(0, 0)))


def test_a_majority_is_more_than_half() -> None:
    assert votes([FIRST, SAME, FIRST, SECOND, FIRST]) == (3, 1, 1)
    assert majority((3, 1, 1)) == FIRST
    assert majority((1, 3, 1)) == SECOND
    assert [majority(given) for given in ((2, 2, 1), (1, 1, 3), (2, 1, 1), (1, 1, 0), (0, 0, 0))] == [SAME] * 5


TRUTH = {"a": 0.9, "b": 0.1, "c": -0.3, "d": -0.7}
TIES = 0.8


def simulated(people: int, seed: int) -> list[Judgement]:
    """People who choose by Davidson's model, each of them all pairs twice."""
    draw = np.random.default_rng(seed)
    judgements = []
    for person in range(people):
        for first, second in 2 * list(combinations(TRUTH, 2)):
            one, other = math.exp(TRUTH[first]), math.exp(TRUTH[second])
            odds = np.array([one, other, TIES * math.sqrt(one * other)])
            judgements.append(Judgement(f"{person}", first, second, int(draw.choice(3, p=odds / odds.sum()))))
    return judgements


def test_two_hundred_people_of_known_preference_are_recovered_within_the_interval() -> None:
    found = strengths(simulated(200, seed=1), list(TRUTH))
    for clip, truth in TRUTH.items():
        low, high = found.intervals[clip]
        assert low < truth < high
        assert high - low < 0.25
        assert found.values[clip] == pytest.approx(truth, abs=0.1)
    assert sum(found.values.values()) == pytest.approx(0)
    assert strengths(simulated(200, seed=1)[:600], list(TRUTH)) == strengths(simulated(200, seed=1)[:600], list(TRUTH))


def test_strengths_do_not_depend_on_who_stands_first() -> None:
    judgements = simulated(10, seed=2)
    turned = [Judgement(one.person, one.second, one.first, (SECOND, FIRST, SAME)[one.choice]) for one in judgements]
    one, other = strengths(judgements, list(TRUTH)), strengths(turned, list(TRUTH))
    assert list(one.values.values()) == pytest.approx(list(other.values.values()), abs=1e-3)


def test_of_two_clips_the_strengths_are_the_log_odds() -> None:
    given = [FIRST] * 60 + [SECOND] * 20 + [SAME] * 20
    found = strengths([Judgement("one", "a", "b", choice) for choice in given], ["a", "b"])
    assert found.values["a"] - found.values["b"] == pytest.approx(math.log(3), abs=0.01)
    assert math.isnan(found.intervals["a"].low)  # of one person


def test_a_clip_that_always_wins_is_finite() -> None:
    found = strengths([Judgement(f"{n}", "a", "b", FIRST) for n in range(30)], ["a", "b"])
    assert 1 < found.values["a"] < 10


def test_a_measure_predicts_where_both_decided() -> None:
    winners = {1: FIRST, 2: SECOND, 3: SAME, 4: FIRST, 5: FIRST}
    differences = {1: 0.2, 2: 0.1, 3: 1.0, 4: math.nan, 5: 0.0}
    lower = predicted(differences, winners, lambda difference: FIRST if difference < 0 else SECOND)
    assert lower == (1, 2)
    assert lower.interval == exact_interval(1, 2)
    assert Prediction(0, 0).of == 0
