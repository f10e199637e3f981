"""Means of what could be measured, and how sure they are: percentile bootstrap."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000


class Interval(NamedTuple):
    """The bounds between which the mean lies in 95 % of resamples; NaN where one value alone was there."""

    low: float
    high: float


def mean_of_known(values: Iterable[float]) -> float:
    """The mean without the NaN, which stand for what could not be measured; NaN where nothing could."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def bootstrap_interval(values: Sequence[float], seed: int = 0, confidence: float = 0.95) -> Interval:
    """Percentile bootstrap interval of the mean of `values` (Efron 1979); NaN among them are left out.

    The values are to be independent: means of sequences, not of frames, which resemble their neighbours.
    """
    known = np.array([value for value in values if not math.isnan(value)])
    if len(known) < 2:
        return Interval(math.nan, math.nan)
    drawn = np.random.default_rng(seed).integers(len(known), size=(RESAMPLES, len(known)))
    low, high = np.quantile(known[drawn].mean(1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def said(value: float | None, digits: int) -> str:
    """A figure for a table, with a dash for what could not be measured."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def with_interval(value: float, interval: Interval, digits: int) -> str:
    """A figure for a table with its interval, where it has one."""
    shown = said(value, digits)
    return shown if math.isnan(interval.low) else f"{shown} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
