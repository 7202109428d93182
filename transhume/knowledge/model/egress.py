"""What a byte costs that goes from one cloud to another: everybody asks here.

Providers bill less for traffic that stays with them, and least for traffic that stays in one of their regions.
Clouds are of one provider where both name it, and of one region where they are of one provider and both name
that too. What nobody has said is billed like traffic to anywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from transhume.knowledge.model.market import BYTES_PER_GB, SECONDS_PER_HOUR, PriceTick
from transhume.knowledge.model.names import CloudName
from transhume.knowledge.model.topology import Cloud


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressTariff:
    """Prices of traffic between clouds, by who sends and who receives."""

    clouds: Mapping[CloudName, Cloud]
    prices: Mapping[CloudName, PriceTick]

    def dollars_per_gb(self, source: CloudName, destination: CloudName | None) -> float:
        """Return what 10^9 bytes cost from one cloud to another, or (None) to outside.

        Within a cloud, and from one whose price is unknown, they cost nothing.
        """
        tick = self.prices.get(source)
        if tick is None or source == destination:
            return 0.0
        here = self.clouds.get(source)
        there = self.clouds.get(destination) if destination is not None else None
        if here is None or there is None or not here.shares_provider_with(there):
            return tick.egress_dollars_per_gb
        if here.shares_region_with(there):
            return tick.within_region_dollars_per_gb
        return tick.within_provider_dollars_per_gb

    def dollars_per_hour(
        self, source: CloudName, destination: CloudName | None, bytes_per_second: float
    ) -> float:
        """Return what a steady stream costs an hour."""
        by_volume = self.dollars_per_gb(source, destination)
        return bytes_per_second * SECONDS_PER_HOUR / BYTES_PER_GB * by_volume
