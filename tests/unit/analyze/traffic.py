"""Builds windows, VMs and matrices for the tests of the analysis."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transhume.analyze import Sightings
from transhume.knowledge.model import (
    CLAIM,
    NOTHING,
    CommunicationMatrix,
    Endpoint,
    Interface,
    IpAddress,
    MacAddress,
    PairTraffic,
    TrafficWindow,
    Vm,
    VmName,
)

START = datetime(2030, 1, 1, tzinfo=UTC)


def mac(number: int) -> MacAddress:
    return MacAddress(f"52:54:00:00:00:{number:02x}")


def ip(number: int) -> IpAddress:
    return IpAddress(f"10.0.0.{number}")


def end(number: int) -> Endpoint:
    """Return machine `number` as an end of a frame."""
    return Endpoint(mac=mac(number), ip=ip(number))


def outside(number: int) -> Endpoint:
    """Return a machine beyond the router, which is machine 99."""
    return Endpoint(mac=mac(99), ip=IpAddress(f"192.0.2.{number}"))


def vm(number: int) -> Vm:
    return Vm(
        name=VmName(f"vm{number}"),
        uuid=str(number),
        needs=NOTHING,
        interfaces=(Interface(mac=mac(number), ips=(ip(number),)),),
    )


def sent(source: Endpoint, destination: Endpoint, count: int, frames: int = 1) -> PairTraffic:
    return PairTraffic(source=source, destination=destination, bytes=count, frames=frames)


def window(
    *pairs: PairTraffic, at: float = 0.0, point: str = "h/vnet0", dropped: int = 0
) -> TrafficWindow:
    return TrafficWindow.of_pairs(
        pairs,
        start=START + timedelta(seconds=at),
        seconds=1.0,
        capture_point=point,
        dropped_frames=dropped,
    )


def matrix_of(
    weights: NDArray[np.float64] | Sequence[Sequence[float]], seconds: float = 1.0
) -> CommunicationMatrix:
    """Return a matrix over VMs called vm0, vm1 and so on."""
    names = tuple(VmName(f"vm{i}") for i in range(len(weights)))
    return CommunicationMatrix.of_dense(weights, start=START, seconds=seconds, vms=names)


def packed(sightings: Sightings) -> Any:
    """Return all that sightings hold as plain values that compare; what is pickled is packed."""
    return _plain(sightings.__getstate__())


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.tobytes()
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def with_flags(seen: TrafficWindow, flags: int, *rows: int) -> TrafficWindow:
    """Return a window of which some rows have other flags as well."""
    addresses = seen.addresses.copy()
    addresses["flags"][list(rows)] |= flags
    return replace(seen, addresses=addresses)


def claim(number: int, address: IpAddress | None = None, *, at: float = 0.0) -> TrafficWindow:
    """Return a window of nothing but a machine's claim of an IP address, its own unless given."""
    who = Endpoint(mac=mac(number), ip=ip(number) if address is None else address)
    nobody = Endpoint(mac=MacAddress(""), ip=None)
    return with_flags(window(sent(who, nobody, 0, 0), at=at, point="h/tap"), CLAIM, 0)
