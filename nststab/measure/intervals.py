"""Means of what could be measured, how sure they are, and whether two differ: bootstrap and sign-flip tests."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
_CONFIDENCE = 0.95
_LEAST = 3  # values of which an interval is given: of two it would be their minimum and maximum
_EXACT = 13  # units of whose signs all 2^n patterns are tried


class Interval(NamedTuple):
    """The bounds between which the mean lies in 95 % of resamples; NaN where fewer than three values were there."""

    low: float
    high: float


def mean_of_known(values: Iterable[float]) -> float:
    """The mean without the NaN, which stand for what could not be measured; NaN where nothing could."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> Interval:
    """Percentile bootstrap interval of the mean of `values` (Efron 1979); NaN among them are left out.

    The values are to be independent: means of sequences, not of frames, which resemble their neighbours.
    """
    return block_interval(values, seed, block=1)


def block_length(count: int) -> int:
    """Of how many neighbours the blocks of a series consist that are drawn as one: the cube root of its length."""
    return max(1, math.ceil(float(np.cbrt(count)) - 1e-9))


def block_interval(values: Sequence[float], seed: int = 0, block: int | None = None) -> Interval:
    """Percentile interval of the mean of a series whose neighbours resemble each other, such as a clip's frames.

    The circular block bootstrap (Politis and Romano 1992) with blocks of `block_length`; NaN are left out.
    """
    known = np.array([value for value in values if not math.isnan(value)])
    count = len(known)
    if count < _LEAST:
        return Interval(math.nan, math.nan)
    length = block_length(count) if block is None else min(block, count)
    starts = np.random.default_rng(seed).integers(count, size=(RESAMPLES, math.ceil(count / length)))
    before = np.concatenate([[0.0], np.cumsum(np.tile(known, 2))])  # so that a block is the difference of two
    sums = (before[starts + length] - before[starts]).sum(1)
    if beyond := starts.shape[1] * length - count:  # the last block is cut, so that each resample has `count` values
        sums -= before[starts[:, -1] + length] - before[starts[:, -1] + length - beyond]
    low, high = np.quantile(sums / count, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return Interval(float(low), float(high))


class Difference(NamedTuple):
    """A mean of paired differences, its interval, and the two-sided p of a sign-flip test; NaN where none."""

    mean: float
    interval: Interval
    p: float

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.interval.low > 0 or self.interval.high < 0


def paired_difference(
    first: Sequence[float], second: Sequence[float], seed: int = 0, block: int | None = None
) -> Difference:
    """By how much `first` exceeds `second`, measured at the same places: of frames in blocks, of sequences block=1.

    The test flips the signs of whole blocks (Fisher's randomisation test): all patterns of up to 13 blocks, else
    `RESAMPLES` random ones. So p is never below 2 / 2^n for n blocks: of three sequences never below 0.25.
    """
    both = [one - other for one, other in zip(first, second, strict=True) if not math.isnan(one - other)]
    if not both:
        return Difference(math.nan, Interval(math.nan, math.nan), math.nan)
    length = block_length(len(both)) if block is None else block
    sums = np.array([math.fsum(both[start : start + length]) for start in range(0, len(both), length)])
    return Difference(math.fsum(both) / len(both), block_interval(both, seed, block=length), _sign_flip_p(sums, seed))


def paired_differences(
    curves: Mapping[str, Sequence[float]], seed: int = 0, block: int | None = None
) -> dict[tuple[str, str], Difference]:
    """`paired_difference` of each two of the curves, by their names."""
    pairs = itertools.combinations(curves, 2)
    return {(one, other): paired_difference(curves[one], curves[other], seed, block) for one, other in pairs}


def _sign_flip_p(units: NDArray[np.float64], seed: int) -> float:
    """How often random signs give a sum as far from zero as that of `units`."""
    if len(units) <= _EXACT:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(units))))
    else:
        drawn = np.random.default_rng(seed).integers(2, size=(RESAMPLES, len(units)))
        signs = np.concatenate([np.ones((1, len(units))), 2.0 * drawn - 1])
    reached = np.abs(signs @ units) >= abs(units.sum()) * (1 - 1e-12)
    return float(reached.mean())


def said(value: float | None, digits: int) -> str:
    """A figure for a table, with a dash for what could not be measured."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def with_interval(value: float, interval: Interval, digits: int) -> str:
    """A figure for a table with its interval, where it has one."""
    shown = said(value, digits)
    return shown if math.isnan(interval.low) else f"{shown} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
