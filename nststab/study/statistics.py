"""What answers say: majorities, exact intervals, how far people agree, and strengths of clips."""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import binomtest

from nststab.measure.intervals import Interval

FIRST, SECOND, SAME = range(3)
RESAMPLES = 200
_STEPS, _STILL = 100, 1e-9  # of Newton's method at most, and a step that ends it
_PRIOR = 0.01  # keeps the strength of a clip finite that won each time: a normal one of a standard deviation of ten

Votes = tuple[int, int, int]
"""How many chose the first clip, the second, and about the same."""


def votes(choices: Iterable[int]) -> Votes:
    """Counts choices."""
    counted = Counter(choices)
    return counted[FIRST], counted[SECOND], counted[SAME]


def majority(given: Votes) -> int:
    """What more than half of the people chose, `SAME` also where no answer has so many."""
    winner = int(np.argmax(given))
    return winner if 2 * given[winner] > sum(given) else SAME


def exact_interval(count: int, of: int) -> Interval:
    """The 95 % interval of a share by Clopper and Pearson 1934; NaN of nothing."""
    if of == 0:
        return Interval(math.nan, math.nan)
    found = binomtest(count, of).proportion_ci(0.95, "exact")
    return Interval(float(found.low), float(found.high))


def krippendorff_alpha(units: Iterable[Sequence[Hashable]]) -> float:
    """How far people agree on units, 1 wholly, 0 as by chance: Krippendorff's alpha for names (2011, section B).

    units: the answers that each got; of one answer alone nothing can be learnt. NaN where all that is comparable has
    one name.
    """
    counted = [Counter(unit) for unit in units if len(unit) > 1]
    totals = sum(counted, Counter[Hashable]())
    n = totals.total()
    disagreed = sum(
        sum(count * (unit.total() - count) for count in unit.values()) / (unit.total() - 1) for unit in counted
    )
    expected = sum(count * (n - count) for count in totals.values())
    return 1 - (n - 1) * disagreed / expected if expected else math.nan


class Strengths(NamedTuple):
    """Of each clip its strength, in units of log odds around a mean of zero, and its interval."""

    values: dict[str, float]
    intervals: dict[str, Interval]


class Judgement(NamedTuple):
    """One person's choice between two clips."""

    person: str
    first: str
    second: str
    choice: int


def strengths(judgements: Sequence[Judgement], clips: Sequence[str], seed: int = 0) -> Strengths:
    """Bradley and Terry's strengths with Davidson's ties (1970), and percentile bootstrap intervals over the people.

    first : same : second are chosen as e^a : v e^((a + b) / 2) : e^b, for strengths a and b and a common v. People are
    drawn whole, as the answers of one resemble each other; of a single person there is no interval.
    """
    people = list(dict.fromkeys(one.person for one in judgements))
    counts = np.zeros((len(people), len(clips), len(clips), 3))
    for one in judgements:
        counts[people.index(one.person), clips.index(one.first), clips.index(one.second), one.choice] += 1
    best = dict(zip(clips, _davidson(counts.sum(0)[None])[0].tolist(), strict=True))
    if len(people) < 2:
        return Strengths(best, dict.fromkeys(clips, Interval(math.nan, math.nan)))
    draw = np.random.default_rng(seed)
    drawn = [counts[draw.integers(len(people), size=len(people))].sum(0) for _ in range(RESAMPLES)]
    low, high = np.quantile(_davidson(np.stack(drawn)), [0.025, 0.975], axis=0)
    intervals = (Interval(float(one), float(other)) for one, other in zip(low, high, strict=True))
    return Strengths(best, dict(zip(clips, intervals, strict=True)))


def _davidson(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The strengths (K, clips) that make counts (K, clips, clips, 3) of first, second and same the likeliest.

    The log odds of the answers are linear in the strengths and log v, so Newton's method finds the one maximum.
    """
    size = counts.shape[1]
    unit, pairs = np.eye(size + 1), np.argwhere(counts.sum((0, 3)) > 0)
    first, second = unit[pairs[:, 0]], unit[pairs[:, 1]]
    odds = np.stack([first, second, (first + second) / 2 + unit[-1]], 1)  # (P, 3, size + 1): of a pair's answers
    chosen = counts[:, pairs[:, 0], pairs[:, 1]]  # (K, P, 3)
    values = np.zeros((len(counts), size + 1))
    for _ in range(_STEPS):
        shares = softmax(np.einsum("pcd,kd->kpc", odds, values), -1)
        expected = chosen.sum(-1, keepdims=True) * shares
        mean = np.einsum("kpc,pcd->kpd", shares, odds)
        slope = np.einsum("kpc,pcd->kd", expected - chosen, odds) + _PRIOR * values
        curvature = np.einsum("kpc,pcd,pce->kde", expected, odds, odds) + _PRIOR * unit
        curvature -= np.einsum("kp,kpd,kpe->kde", chosen.sum(-1), mean, mean)
        step = np.linalg.solve(curvature, slope[..., None])[..., 0]
        values -= step / np.maximum(1, np.abs(step).max(1, keepdims=True))  # a longer one may overshoot
        if np.abs(step).max() < _STILL:
            break
    found: NDArray[np.float64] = values[:, :size] - values[:, :size].mean(1, keepdims=True)
    return found


class Prediction(NamedTuple):
    """How often a measure names the clip that the majority names, out of so many pairs that it decided."""

    right: int
    of: int

    @property
    def interval(self) -> Interval:
        """Of the share."""
        return exact_interval(self.right, self.of)


def predicted(
    differences: Mapping[Any, float], winners: Mapping[Any, int], agrees: Callable[[float], int]
) -> Prediction:
    """Compares a measure with people on the pairs that both decided.

    differences: of the measure, the first clip's less the second's. winners: the majority's, by the same keys. agrees:
    the clip that a difference stands for.
    """
    decided = [
        (agrees(differences[key]), winner)
        for key, winner in winners.items()
        if winner != SAME and key in differences and differences[key] and not math.isnan(differences[key])
    ]
    return Prediction(sum(one == other for one, other in decided), len(decided))
