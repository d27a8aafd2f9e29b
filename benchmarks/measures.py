"""Measures of a ranking in which one document is the right one, and how sure their means are."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

CUT: Final = 10
"""Ranks that count."""

_RESAMPLES: Final = 2000


class Interval(NamedTuple):
    """A value, and where it would be in 95 of 100 samples of as many queries."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """With half the width of the interval."""
        return f"{self.value:.3f} ± {(self.high - self.low) / 2:.3f}"


def ndcg(rank: int | None) -> float:
    """nDCG@10, from rank 0; None: not found."""
    return 1 / math.log2(rank + 2) if rank is not None and rank < CUT else 0.0


def recall(rank: int | None) -> float:
    """Whether it is among the first ten."""
    return float(rank is not None and rank < CUT)


def reciprocal(rank: int | None) -> float:
    """Of MRR, cut at ten."""
    return 1 / (rank + 1) if rank is not None and rank < CUT else 0.0


def mean(values: Sequence[float]) -> Interval:
    """The mean of a measure over all queries."""
    return _interval(np.asarray(values), np.ones(len(values)))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """The ratio of two means over the same queries."""
    return _interval(np.asarray(ours), np.asarray(theirs))


def _interval(above: npt.NDArray[np.float64], below: npt.NDArray[np.float64]) -> Interval:
    drawn = np.random.default_rng(1).integers(0, len(above), (_RESAMPLES, len(above)))
    samples = above[drawn].mean(axis=1) / np.maximum(below[drawn].mean(axis=1), 1e-9)
    low, high = np.quantile(samples, (0.025, 0.975))
    return Interval(float(above.mean() / max(below.mean(), 1e-9)), float(low), float(high))
