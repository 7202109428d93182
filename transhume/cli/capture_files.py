"""What goes into `transhume analyze`: capture files, and the YAML that says which VM is which and where.

Owns reading several captures with one progress bar, and the two small files that stand in for an inventory.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel

from transhume.analyze import build_matrix, find_groups, vms_from_windows
from transhume.errors import UnreadableCapture, UsageError
from transhume.knowledge.model import (
    NOTHING,
    CloudName,
    ClusterName,
    CommunicationMatrix,
    Group,
    Interface,
    IpAddress,
    MacAddress,
    TrafficWindow,
    Vm,
    VmName,
)
from transhume.located_yaml import read_file, validate
from transhume.monitor.capture.files import CaptureReading, CaptureSummary

Tell = Callable[[int], None]
"""Told how many bytes of all files were read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What captures hold."""

    summaries: tuple[CaptureSummary, ...]
    windows: tuple[TrafficWindow, ...]
    vms: tuple[Vm, ...]
    matrix: CommunicationMatrix
    groups: tuple[Group, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What keeps the analysis from being the whole truth, for a person."""
        found = []
        for summary in self.summaries:
            if summary.stopped is not None:
                found.append(
                    f"{summary.path}: reading stopped at {summary.stopped};"
                    f" the {summary.frames} frames before that are counted"
                )
            if summary.unreadable_frames:
                found.append(
                    f"{summary.path}: {summary.unreadable_frames} of {summary.frames} frames have no"
                    " addresses that we can read; they count as nobody's"
                )
        return tuple(found)


def analyze_captures(
    paths: Sequence[Path],
    window_seconds: float,
    vms: Sequence[Vm] | None = None,
    tell: Tell = lambda _: None,
) -> Analysis:
    """Read captures and find out who talks to whom; without VMs given, guess them from the addresses.

    Each file is a capture point of its own: a frame that two files hold counts once.

    Raises:
        UnreadableCapture: a file is no capture, or no file holds a frame.
        UsageError: the window's length makes no sense.
    """
    windows: list[TrafficWindow] = []
    summaries = []
    read_before = 0
    for path in paths:
        reading = CaptureReading(path, window_seconds)
        for window in reading:
            windows.append(window)
            tell(read_before + reading.position)
        read_before += reading.position
        tell(read_before)
        summaries.append(reading.summary)
    start, seconds = _stretch(summaries, window_seconds)
    found = tuple(vms) if vms is not None else vms_from_windows(windows)
    matrix = build_matrix(windows, found, start=start, seconds=seconds)
    return Analysis(
        summaries=tuple(summaries),
        windows=tuple(windows),
        vms=found,
        matrix=matrix,
        groups=find_groups(matrix),
    )


def _stretch(summaries: Sequence[CaptureSummary], window_seconds: float) -> tuple[datetime, float]:
    """Return the time from the first frame to the last, and at least one window."""
    firsts = [summary.first for summary in summaries if summary.first is not None]
    lasts = [summary.last for summary in summaries if summary.last is not None]
    if not firsts:
        names = ", ".join(summary.path for summary in summaries)
        stops = [
            f" (reading stopped at {summary.stopped})" for summary in summaries if summary.stopped
        ]
        raise UnreadableCapture(
            names, f"no frame was captured{''.join(stops)}; capture where the VMs' traffic passes"
        )
    lasted: timedelta = max(lasts) - min(firsts)
    return min(firsts), max(lasted.total_seconds(), window_seconds)


# --- files that say who is who, and where ------------------------------------------------------------


def _ip_address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError(f"{text!r} is no IP address; write it as in 10.0.0.1 or fd00::1") from None


def _mac_address(text: str) -> str:
    if re.fullmatch("([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", text) is None:
        raise ValueError(f"{text!r} is no MAC address; write it as in 52:54:00:12:34:56")
    return text.lower()


class VmSchema(BaseModel):
    """A VM's addresses."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, title="VM")

    mac: Annotated[str, AfterValidator(_mac_address)] | None = Field(
        default=None, description="its MAC address"
    )
    ips: list[Annotated[str, AfterValidator(_ip_address)]] = Field(
        default=[], description="its IP addresses"
    )
    cluster: str | None = Field(default=None, description="the virtual cluster that it is part of")


class VmsSchema(RootModel[dict[str, VmSchema]]):
    """VMs by name."""


class PlacementSchema(RootModel[dict[str, str]]):
    """The cloud that each VM is in."""


def load_vms(path: Path) -> tuple[Vm, ...]:
    """Return the VMs that a file names.

    Raises:
        InvalidFile: with every mistake in the file.
    """
    return tuple(
        Vm(
            name=VmName(name),
            uuid=name,
            needs=NOTHING,
            interfaces=(
                Interface(mac=MacAddress(vm.mac or ""), ips=tuple(map(IpAddress, vm.ips))),
            ),
            cluster=ClusterName(vm.cluster) if vm.cluster else None,
        )
        for name, vm in validate(VmsSchema, read_file(path)).root.items()
    )


def load_placement(path: Path, vms: Sequence[Vm]) -> Mapping[VmName, CloudName]:
    """Return the cloud of each of the VMs.

    Raises:
        InvalidFile: with every mistake in the file.
        UsageError: the file says nothing about a VM.
    """
    placed = validate(PlacementSchema, read_file(path)).root
    missing = [vm.name for vm in vms if vm.name not in placed]
    if missing:
        raise UsageError(
            f"{path}: says nothing about {', '.join(missing)}; add `NAME: CLOUD` for each"
        )
    return {vm.name: CloudName(placed[vm.name]) for vm in vms}
