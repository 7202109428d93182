"""The cut of a placement: what crosses clouds, and what that costs."""

from collections.abc import Callable, Mapping

from transhume.knowledge.model import (
    Cloud,
    CloudName,
    CommunicationMatrix,
    Cut,
    EgressTariff,
    PriceTick,
    VmName,
)

NOTHING_KNOWN: Mapping[CloudName, Cloud] = {}


def find_cut(
    matrix: CommunicationMatrix,
    cloud_of: Callable[[VmName], CloudName],
    prices: Mapping[CloudName, PriceTick],
    clouds: Mapping[CloudName, Cloud] = NOTHING_KNOWN,
) -> Cut:
    """Return what crosses clouds; the sending cloud bills it, and one whose price is unknown bills nothing.

    `clouds` says whose they are and where: without it, all are of different providers.
    """
    tariff = EgressTariff(clouds=clouds, prices=prices)
    crossing = matrix.crossing(cloud_of)
    return Cut(
        bytes_per_second=crossing,
        dollars_per_hour=sum(
            tariff.dollars_per_hour(source, destination, rate)
            for (source, destination), rate in crossing.items()
        ),
    )
