"""What a cloud asks on average over the time ahead, where the prices to come are certain."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

from transhume.knowledge.model import PriceTick


def mean_price(
    now: PriceTick, ahead: Iterable[PriceTick], *, at: datetime, seconds: float
) -> PriceTick:
    """Return the mean of a cloud's price over so many seconds from an instant on.

    Args:
        now: what the cloud asks at that instant.
        ahead: prices to come of any clouds, the earliest first; none of them means that it stays as it is.
        at: the instant.
        seconds: more than 0.
    """
    coming = [
        (begins, tick)
        for tick in ahead
        if tick.cloud == now.cloud
        for begins in [(tick.at - at).total_seconds()]
        if 0 < begins < seconds
    ]
    if not coming:
        return now
    stretches = [(0.0, now), *coming, (seconds, now)]
    shares = [((end - begin) / seconds, tick) for (begin, tick), (end, _) in pairwise(stretches)]

    def mean(part: Callable[[PriceTick], float]) -> float:
        return sum(share * part(tick) for share, tick in shares)

    def mean_if_told(
        told: Callable[[PriceTick], float | None], part: Callable[[PriceTick], float]
    ) -> float | None:
        return mean(part) if any(told(tick) is not None for _, tick in shares) else None

    return replace(
        now,
        dollars_per_vcpu_hour=mean(lambda tick: tick.dollars_per_vcpu_hour),
        dollars_per_gib_hour=mean(lambda tick: tick.dollars_per_gib_hour),
        egress_dollars_per_gb=mean(lambda tick: tick.egress_dollars_per_gb),
        egress_within_region_dollars_per_gb=mean_if_told(
            lambda tick: tick.egress_within_region_dollars_per_gb,
            lambda tick: tick.within_region_dollars_per_gb,
        ),
        egress_within_provider_dollars_per_gb=mean_if_told(
            lambda tick: tick.egress_within_provider_dollars_per_gb,
            lambda tick: tick.within_provider_dollars_per_gb,
        ),
    )
