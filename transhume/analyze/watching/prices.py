"""Prices: told when they have moved, from the price told last; a wobble about the threshold is one change.

A further move the same way counts from 1 % on, a move back from 2 %: so a price that goes to and fro about 1 %
is told once, and one that creeps is told for every hundredth that it has come.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from transhume.analyze.watching import News
from transhume.knowledge.model import CloudName, PriceTick, Snapshot

EGRESS = "GB of egress"
WITHIN_PROVIDER = "GB of egress within its provider"
WITHIN_REGION = "GB of egress within its region"
CHANGE = 0.01
"""Relative change from which on a price has changed."""
WAY_BACK = 0.02
"""The same, where it goes back to whence it came."""


@dataclass(frozen=True, slots=True)
class _Told:
    """A price as it was told, or first seen, and whether it had risen (1), fallen (-1) or neither (0)."""

    dollars: float
    way: int = 0


@dataclass(frozen=True, slots=True)
class PricesTold:
    """What is known to have been told of each part of each cloud's price."""

    parts: Mapping[tuple[CloudName, str], _Told] = field(default_factory=dict)

    @classmethod
    def as_of(cls, snapshot: Snapshot) -> "PricesTold":
        """Return the memory of one who was told the prices of a snapshot."""
        return cls(
            {
                (cloud, what): _Told(dollars)
                for cloud, tick in snapshot.prices.items()
                for what, dollars in _parts(tick)
            }
        )

    def look(self, now: Snapshot) -> tuple[News, "PricesTold"]:
        """Return the clouds whose price changed, and what is told then."""
        news: News = []
        parts = dict(self.parts)
        for cloud in sorted(now.prices):
            changes: dict[str, tuple[float, float]] = {}
            for what, dollars in _parts(now.prices[cloud]):
                told = parts.setdefault((cloud, what), _Told(dollars))
                if _moved(told, dollars):
                    changes[what] = told.dollars, dollars
                    parts[cloud, what] = _Told(dollars, _way(told, dollars))
            texts = [_described(what, *both) for what, both in _by_themselves(changes)]
            if texts:
                news.append((cloud, f"{cloud}'s price changed: {', '.join(texts)}"))
        return news, PricesTold(parts)


def _parts(tick: PriceTick) -> Iterator[tuple[str, float]]:
    yield "vCPU hour", tick.dollars_per_vcpu_hour
    yield "GiB hour", tick.dollars_per_gib_hour
    yield EGRESS, tick.egress_dollars_per_gb
    yield WITHIN_PROVIDER, tick.within_provider_dollars_per_gb
    yield WITHIN_REGION, tick.within_region_dollars_per_gb


def _by_themselves(
    changes: Mapping[str, tuple[float, float]],
) -> Iterator[tuple[str, tuple[float, float]]]:
    """Leave out what only follows the price of all egress."""
    for what, both in changes.items():
        if what not in (WITHIN_PROVIDER, WITHIN_REGION) or both != changes.get(EGRESS):
            yield what, both


def _moved(told: _Told, dollars: float) -> bool:
    least = WAY_BACK if _way(told, dollars) == -told.way else CHANGE
    return abs(dollars - told.dollars) > least * max(abs(dollars), abs(told.dollars))


def _way(told: _Told, dollars: float) -> int:
    return (dollars > told.dollars) - (dollars < told.dollars)


def _described(what: str, one: float, other: float) -> str:
    relative = f" ({(other - one) / one:+.0%})" if one else ""
    return f"{what} ${one:g} to ${other:g}{relative}"
