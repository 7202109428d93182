"""Stability: which method's groups are found again, and how sure each group is.

What time brings by chance should not make other groups. So a method is asked about the whole and about
samples of it: the parts of the time that a series covers or, without one, the same traffic with each tie some
louder or quieter. The first method whose division of the whole agrees with those of the samples is taken; where
none does, the one that agrees best, among those that explain the whole about as well as the first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from transhume.analyze.grouping.agreement import found_again, rand_index
from transhume.analyze.grouping.halving import FAINT
from transhume.analyze.grouping.methods import (
    QUICK,
    SLOW,
    SLOW_TO,
    Method,
    halving,
    modularity,
)
from transhume.analyze.ties import Members, Ties
from transhume.knowledge.model import MatrixSeries

STABLE = 0.9
"""From this agreement on a method is taken without asking another."""
FAIR = 0.75
"""From this agreement on the methods whose import alone takes seconds aren't asked."""
EXPLAINS = 0.9
"""Another method must reach this share of the first one's modularity: one single group is always stable."""
STRONG_CROSSING = 0.1
"""The share of what crosses between the groups of another method that links may carry that aren't faint."""
PARTS = 4
"""Into how many parts the time of a series falls."""
WOBBLE = 0.3
"""The standard deviation of the logarithm by which ties are made louder or quieter."""
WOBBLES = 3
MANY_VMS = 2000
MANY_TIES = 200_000
"""With more of either, one sample must do."""


@dataclass(frozen=True, slots=True, eq=False)
class Division:
    """Groups of VMs as labels, below 0 for VMs in none, and how sure each group is."""

    label: Members
    confidence: dict[int, float]
    stability: float


def most_stable(ties: Ties, samples: Sequence[Ties]) -> Division:
    """Return the groups of the method to trust.

    Where the first method finds that each connected part is one group, no other is asked: there is no cheap cut
    anywhere, and a chain or a sparse crowd would only be cut into pieces.
    """
    first = _judged(ties, samples, halving)
    undivided = (first.label[ties.one] == first.label[ties.other]).all()
    if undivided or first.stability >= STABLE or is_large(ties):
        return first
    needed = EXPLAINS * modularity(ties, first.label)
    best = first
    for methods in (QUICK, SLOW):
        for found in _all_judged(ties, samples, methods):
            better = found.stability > best.stability
            if better and modularity(ties, found.label) >= needed and _is_clean(ties, found.label):
                best = found
        if best.stability >= FAIR or ties.count > SLOW_TO:
            break
    return best


def _is_clean(ties: Ties, label: Members) -> bool:
    """Say whether it is chatter that crosses between the groups, not links as strong as those within.

    How much of it there may be is where methods differ; but a chain or a hypercube cut in pieces is no finding.
    """
    crosses = label[ties.one] != label[ties.other]
    strong = crosses & ties.strong(FAINT)
    return bool(ties.weight[strong].sum() <= STRONG_CROSSING * ties.weight[crosses].sum())


def is_large(ties: Ties) -> bool:
    """Say whether there is too much to look at it again and again."""
    return ties.count > MANY_VMS or len(ties.weight) > MANY_TIES


def as_before(ties: Ties, before: Members) -> Division:
    """Return the groups by the first method, as sure as they were there before; for thousands of VMs."""
    label = halving(ties, before)
    return Division(label, found_again(label, before), rand_index(label, before))


def _all_judged(ties: Ties, samples: Sequence[Ties], methods: Iterable[Method]) -> list[Division]:
    return [_judged(ties, samples, method) for method in methods]


def _judged(ties: Ties, samples: Sequence[Ties], method: Method) -> Division:
    label = method(ties)
    others = [method(sample) for sample in samples]
    return Division(
        label,
        _confidence(label, others),
        float(np.mean([rand_index(label, other) for other in others])) if others else 1.0,
    )


def _confidence(label: Members, others: Iterable[Members]) -> dict[int, float]:
    """Return how well each group is found again on average, in the samples in which its VMs talk."""
    seen: dict[int, list[float]] = {}
    for other in others:
        for group, share in found_again(label, other).items():
            seen.setdefault(group, []).append(share)
    return {group: float(np.mean(shares)) for group, shares in seen.items()}


# --- samples -----------------------------------------------------------------------------------------


def samples_of(ties: Ties, series: MatrixSeries | None) -> list[Ties]:
    """Return what the groups of the ties must be found again in."""
    large = is_large(ties)
    parts = _parts_of_time(series) if series is not None else []
    if len(parts) >= 2:
        return parts[-1:] if large else parts
    return [_wobbled(ties, seed) for seed in range(1 if large else WOBBLES)]


def _parts_of_time(series: MatrixSeries) -> list[Ties]:
    """Return the ties in consecutive parts of the time in which somebody talked."""
    loud = [matrix for matrix in series.matrices if matrix.bytes.any()]
    count = len(series.vms)
    bounds = np.linspace(0, len(loud), min(PARTS, len(loud)) + 1).astype(int).tolist()
    return [
        Ties.of_pairs(
            count,
            np.concatenate([matrix.source for matrix in loud[start:end]]),
            np.concatenate([matrix.destination for matrix in loud[start:end]]),
            np.concatenate([matrix.bytes_per_second for matrix in loud[start:end]]),
        )
        for start, end in pairwise(bounds)
    ]


def _wobbled(ties: Ties, seed: int) -> Ties:
    factor = np.random.default_rng(seed).lognormal(0.0, WOBBLE, len(ties.weight))
    return Ties(count=ties.count, one=ties.one, other=ties.other, weight=ties.weight * factor)
