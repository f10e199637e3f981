"""What answers say: majorities, exact intervals, how far people agree, and strengths of clips."""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import binomtest

from nststab.measure.intervals import Interval

FIRST, SECOND, SAME = range(3)
RESAMPLES = 200
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
    best = _davidson(counts.sum(0), np.zeros(len(clips)))
    if len(people) < 2:
        return Strengths(
            dict(zip(clips, best.tolist(), strict=True)), dict.fromkeys(clips, Interval(math.nan, math.nan))
        )
    draw = np.random.default_rng(seed)
    drawn = [_davidson(counts[draw.integers(len(people), size=len(people))].sum(0), best) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    intervals = (Interval(float(one), float(other)) for one, other in zip(low, high, strict=True))
    return Strengths(dict(zip(clips, best.tolist(), strict=True)), dict(zip(clips, intervals, strict=True)))


def _davidson(counts: NDArray[np.float64], start: NDArray[np.float64]) -> NDArray[np.float64]:
    """The strengths that make counts (clips, clips, 3) of first, second and same the likeliest, sought from `start`."""
    pairs = np.argwhere(counts.sum(2) > 0)
    first, second, chosen = pairs[:, 0], pairs[:, 1], counts[pairs[:, 0], pairs[:, 1]]
    size = len(counts)

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = np.stack([values[first], values[second], values[-1] + (values[first] + values[second]) / 2], 1)
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        off = chosen.sum(1, keepdims=True) * shares - chosen  # of the logits
        slope = _PRIOR * values
        np.add.at(slope, first, off[:, 0] + off[:, 2] / 2)
        np.add.at(slope, second, off[:, 1] + off[:, 2] / 2)
        slope[-1] += off[:, 2].sum()
        return float(-(chosen * np.log(shares + 1e-300)).sum() + _PRIOR / 2 * (values**2).sum()), slope

    best = minimize(loss, [*start, 0.0], jac=True, method="BFGS", options={"gtol": 1e-3}).x
    found: NDArray[np.float64] = best[:size] - best[:size].mean()
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
