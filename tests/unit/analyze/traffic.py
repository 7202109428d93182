"""Builds windows, VMs and matrices for the tests of the analysis."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model import (
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
    return TrafficWindow(
        start=START + timedelta(seconds=at),
        seconds=1.0,
        capture_point=point,
        pairs=pairs,
        dropped_frames=dropped,
    )


def matrix_of(
    weights: NDArray[np.float64] | Sequence[Sequence[float]], seconds: float = 1.0
) -> CommunicationMatrix:
    """Return a matrix over VMs called vm0, vm1 and so on."""
    count = len(weights)
    names = tuple(VmName(f"vm{i}") for i in range(count))
    matrix = CommunicationMatrix.empty(start=START, seconds=seconds, vms=names)
    matrix.bytes[:] = np.asarray(weights).astype(np.int64).reshape(count, count)
    return matrix
