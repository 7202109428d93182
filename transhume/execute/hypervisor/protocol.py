"""What the executor asks of hypervisors, whoever they are.

A `Hypervisors` knows all hosts of the federation. Its methods may be called from several tasks at once,
never twice at once for the same VM.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from transhume.execute.hypervisor.options import MigrationOptions
from transhume.knowledge.model import HostName, Measurement, Transfer, VmName


class Seen(StrEnum):
    """What a host says of a VM."""

    RUNNING = "running"
    PAUSED = "paused"
    ABSENT = "absent"
    STRANDED = "stranded in post-copy"
    """Its migration has broken when a part of its memory was at each end: neither copy is whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """A VM as seen at both ends of a move."""

    source: Seen
    destination: Seen
    migrating: bool = False
    """True while a hypervisor at either end still works on a migration of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSample:
    """A running migration, as its hypervisor tells."""

    bytes_sent: int
    bytes_remaining: int
    bytes_per_second: float
    dirty_bytes_per_second: float
    transfer: Transfer | None = None
    """What gateways made of it so far."""
    waiting_bytes: int = 0
    """Of what was sent, what they haven't come to yet."""
    rounds: int | None = None
    """For which time it goes through the memory, where it tells."""
    disk_bytes_sent: int = 0
    """Of `bytes_sent`, the disks'."""


OnSample = Callable[[JobSample], None]


class Hypervisors(Protocol):
    """The hosts of the federation.

    Every method raises `HypervisorUnreachable` when a host that it needs doesn't answer. After that, and
    after whatever else it raises but `MoveFailed`, where the VM is must be looked for.
    """

    async def whereabouts(self, vm: VmName, source: HostName, destination: HostName) -> Whereabouts:
        """Say where a VM is, asking both hosts."""
        ...

    async def obstacle(self, vm: VmName, source: HostName, destination: HostName) -> str | None:
        """Say why the VM can't move now, or None where nothing stands in the way."""
        ...

    async def migrate(
        self,
        vm: VmName,
        source: HostName,
        destination: HostName,
        on_sample: OnSample,
        options: MigrationOptions | None = None,
    ) -> Measurement:
        """Live-migrate a VM, the way that the options say, and return what it took.

        Raises `MoveFailed` when the hypervisor says that it failed, or when it was aborted because it
        took longer than the options allow. Cancellation asks the
        hypervisor to abort, and waits for its answer.
        """
        ...

    async def settle(
        self,
        vm: VmName,
        source: HostName,
        destination: HostName,
        at_most_seconds: float | None = None,
    ) -> None:
        """Wait until no migration of the VM, whoever began it, is under way at either host.

        One that has been under way for longer than it may is aborted. One that has broken in post-copy isn't
        waited for: it ends only when a person resumes it.
        """
        ...

    async def resume(self, vm: VmName, host: HostName) -> None:
        """Let a paused VM run on."""
        ...

    async def discard(self, vm: VmName, host: HostName) -> None:
        """End a paused copy of a VM that runs elsewhere. Never ends a running one."""
        ...
