"""Windows or sightings of traffic between addresses, as matrices between VMs.

The plain way in, for whoever wants one thing; who wants several of them makes one `Accounts` and asks that.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from transhume.analyze.accounts import Accounts
from transhume.analyze.networks import NO_NETWORKS, Networks
from transhume.analyze.sightings import Sightings, sightings_of
from transhume.knowledge.model import (
    CommunicationMatrix,
    MacAddress,
    MatrixSeries,
    TrafficWindow,
    Vm,
)


def build_matrix(
    seen: Sightings | Iterable[TrafficWindow],
    vms: Iterable[Vm],
    *,
    start: datetime | None = None,
    seconds: float | None = None,
    networks: Networks = NO_NETWORKS,
    taps: Mapping[str, MacAddress] | None = None,
) -> CommunicationMatrix:
    """Add up what was seen to a matrix whose rows are the VMs, in their order.

    `start` and `seconds` say which stretch of time it covers, where the windows alone don't tell; all that was
    seen is counted. For `networks` and `taps`, see `Accounts`.
    """
    accounts = Accounts(_as_sightings(seen), vms, networks=networks, taps=taps)
    return accounts.matrix(start=start, seconds=seconds)


def build_series(
    seen: Sightings | Iterable[TrafficWindow],
    vms: Iterable[Vm],
    *,
    networks: Networks = NO_NETWORKS,
    taps: Mapping[str, MacAddress] | None = None,
) -> MatrixSeries:
    """Return the same, a matrix for each slice of time."""
    return Accounts(_as_sightings(seen), vms, networks=networks, taps=taps).series()


def _as_sightings(seen: Sightings | Iterable[TrafficWindow]) -> Sightings:
    return seen if isinstance(seen, Sightings) else sightings_of(seen)
