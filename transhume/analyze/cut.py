"""The cut of a placement: what crosses clouds, and what that costs."""

from collections.abc import Callable, Mapping

from transhume.knowledge.model import CloudName, CommunicationMatrix, Cut, PriceTick, VmName


def find_cut(
    matrix: CommunicationMatrix,
    cloud_of: Callable[[VmName], CloudName],
    prices: Mapping[CloudName, PriceTick],
) -> Cut:
    """Return what crosses clouds; the sending cloud bills it, and one whose price is unknown bills nothing."""
    crossing = matrix.crossing(cloud_of)
    return Cut(
        bytes_per_second=crossing,
        dollars_per_hour=sum(
            prices[source].egress_dollars_per_hour(rate)
            for (source, _), rate in crossing.items()
            if source in prices
        ),
    )
