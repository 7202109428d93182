"""Flow: the traffic among a few VMs as links, the heaviest first; what all shapes are looked for in.

Owns the order, the directions and the arithmetic of scores. If the traffic has a shape with so many links, then
the so many heaviest links are the shape, whatever chatter lies below: so no threshold has to be guessed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transhume.analyze.ties import Members, Weights, summed
from transhume.knowledge.model import PatternKind

TALKS = 0.1
"""A VM takes part when its heaviest link has this share of the median VM's heaviest."""
STANDS_OUT = 1.3
"""How much heavier the lightest link of a shape must be than the heaviest beside it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Links:
    """Some of the links between `count` VMs: ends, bytes both ways, and bytes from `one` to `other`."""

    count: int
    one: Members
    other: Members
    weight: Weights
    forward: Weights

    @property
    def degree(self) -> Members:
        """How many links each VM has."""
        return np.bincount(self.one, minlength=self.count) + np.bincount(
            self.other, minlength=self.count
        )

    def neighbours(self, degree: int) -> Members:
        """Return the neighbours of each VM as a row, ascending; where each VM has so many."""
        ends = np.concatenate((self.one, self.other))
        company = np.concatenate((self.other, self.one))
        return company[np.lexsort((company, ends))].reshape(self.count, degree)


@dataclass(frozen=True, kw_only=True, eq=False)
class Flow:
    """All links among some VMs, the heaviest first."""

    vms: Members
    """The rows of the VMs, as the caller counts them."""
    links: Links
    total: float
    """All bytes, also those of VMs that were left out since."""

    @classmethod
    def of_pairs(
        cls, count: int, source: NDArray[Any], destination: NDArray[Any], said: NDArray[Any]
    ) -> "Flow":
        """Return the flow of ordered pairs, each of them at most once."""
        told = (source != destination) & (said > 0)
        source, destination = source[told].astype(np.intp), destination[told].astype(np.intp)
        said = said[told].astype(float)
        key = np.minimum(source, destination) * count + np.maximum(source, destination)
        pair, at = np.unique(key, return_inverse=True)
        weight = summed(at, said, len(pair))
        forward = summed(at, np.where(source < destination, said, 0.0), len(pair))
        order = _heaviest_first(weight, count * count.bit_length())
        links = Links(
            count=count,
            one=pair[order] // max(count, 1),
            other=pair[order] % max(count, 1),
            weight=weight[order],
            forward=forward[order],
        )
        return cls(vms=np.arange(count), links=links, total=float(weight.sum()))

    def of_talkers(self) -> "Flow":
        """Return the flow without the VMs that only chatter."""
        links = self.links
        heaviest = np.zeros(links.count)
        np.maximum.at(heaviest, links.one, links.weight)
        np.maximum.at(heaviest, links.other, links.weight)
        told = heaviest[heaviest > 0]
        talks = heaviest >= TALKS * (np.median(told) if len(told) else 1.0)
        if talks.all():
            return self
        row = np.cumsum(talks) - 1
        kept = talks[links.one] & talks[links.other]
        return Flow(
            vms=np.flatnonzero(talks),
            links=Links(
                count=int(talks.sum()),
                one=row[links.one[kept]],
                other=row[links.other[kept]],
                weight=links.weight[kept],
                forward=links.forward[kept],
            ),
            total=self.total,
        )

    @property
    def count(self) -> int:
        """How many VMs there are."""
        return self.links.count

    def heaviest(self, number: int) -> Links | None:
        """Return so many links, the heaviest there are; None where these don't stand out from the others."""
        links = self.links
        if not 0 < number <= len(links.weight):
            return None
        if links.weight[number - 1] < STANDS_OUT * links.weight[number : number + 1].sum():
            return None
        return Links(
            count=links.count,
            one=links.one[:number],
            other=links.other[:number],
            weight=links.weight[:number],
            forward=links.forward[:number],
        )

    def explained(self, links: Links) -> float:
        """Return the share of all bytes that some links carry."""
        return float(links.weight.sum()) / self.total


def _heaviest_first(weight: Weights, number: int) -> Members:
    """Return the order of the weights in which so many, and no more, are sorted: more no shape has."""
    if len(weight) <= 4 * number:
        return np.argsort(-weight, kind="stable")
    order = np.argpartition(-weight, number)
    order[:number] = order[:number][np.argsort(-weight[order[:number]], kind="stable")]
    return order


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A shape that the traffic may have: the order of the VMs in it, and how well it fits, 0 to 1."""

    kind: PatternKind
    order: Members
    score: float


def evenness(weight: Weights, classes: Members | None = None) -> float:
    """Return how evenly links are used within their classes, 0 to 1: Jain's index, weighted by traffic."""
    if classes is None:
        square = float((weight**2).sum()) * len(weight)
        return float(weight.sum()) ** 2 / square if square else 0.0
    parts = [weight[classes == one] for one in np.unique(classes)]
    whole = float(weight.sum())
    return sum(evenness(part) * float(part.sum()) for part in parts) / whole if whole else 0.0
