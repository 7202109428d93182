"""What is moved: labs of guests, and what happens between a move away and the move back that is measured.

The guests are those of the notes' prototype, made by the lab: 256 MiB, a small Debian in the page cache,
programs started from it, 24 MiB that only this guest has (half random, half like text).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from transhume.lab.spec import DiskSpec, GuestSpec, LabSpec, plan_lab

DELAY_SECONDS = 0.02
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Some guests of which some move together, to and fro."""

    name: str
    title: str
    guests: int = 1
    guest: Mapping[str, Any] = field(default_factory=dict)
    """What they have beside what all have."""
    away_seconds: float | None = None
    """Measure the way back only, so long after the way out; None: both ways are measured alike."""
    bystanders: int = 0
    """How many of the guests, the last ones, stay where all begin."""
    returns_a_stranger: bool = False
    """On the way back the gateways don't know any more what came on the way out."""

    def lab(self, wan_bytes_per_second: float) -> LabSpec:
        """Return the lab in which it is measured."""
        spec = plan_lab(
            clouds=2,
            vms=self.guests,
            clusters=1,
            wan_bytes_per_second=wan_bytes_per_second,
            wan_delay_seconds=DELAY_SECONDS,
            memory_mib=256,
            disk=DiskSpec(writable=False),
            gateways=True,
        )
        return replace(spec, guests=tuple(self._equipped(guest) for guest in spec.guests))

    def _equipped(self, guest: GuestSpec) -> GuestSpec:
        quiet = replace(guest, sends={}, working_set_mib=0, unique_mib=24)
        return replace(quiet, **self.guest)


SCENARIOS = (
    Scenario(name="one", title="one VM"),
    Scenario(name="four", title="4 like VMs", guests=4),
    Scenario(name="eight", title="8 like VMs", guests=8),
    Scenario(
        name="distinct",
        title="4 VMs, half their memory distinct",
        guests=4,
        # As much as the image, the kernel and the programs take.
        guest={"unique_mib": 176, "memory_mib": 416},
    ),
    Scenario(
        name="writer",
        title="one VM that makes 8 MB/s dirty",
        guest={"writer_bytes_per_second": 8_000_000, "writer_mib": 32, "memory_mib": 288},
    ),
    Scenario(
        name="joins",
        title="one VM that joins 3 like it",
        guests=4,
        bystanders=3,
        away_seconds=0.0,
        returns_a_stranger=True,
    ),
    Scenario(name="back", title="back after a minute", away_seconds=60.0),
    Scenario(
        name="back-worked",
        title="back after it has worked for 3 minutes",
        away_seconds=180.0,
        # All of the working set is rewritten twice over, with what no site has seen.
        guest={"working_set_mib": 48, "dirty_bytes_per_second": 600_000, "memory_mib": 320},
    ),
)
