"""The calls to libvirt that begin a migration, watch it and end it. Each blocks, and knows of one daemon."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from transhume.execute.hypervisor.disks import Copies
from transhume.execute.hypervisor.options import MigrationOptions
from transhume.execute.hypervisor.parameters import Parameters, flags_of
from transhume.execute.hypervisor.protocol import JobSample
from transhume.execute.hypervisor.switchover import DEFAULT_LIMIT_MS, HELD_OFF_MS
from transhume.knowledge.model import VmName

if TYPE_CHECKING:
    import libvirt


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A migration, ready to be asked for."""

    vm: VmName
    peer: str
    """The destination's daemon, as the source's reaches it."""
    parameters: Parameters
    options: MigrationOptions
    copies: Copies
    downtime_limit_ms: int | None = None
    """The limit to begin with; None: the hypervisor's."""


def migrate(connection: "libvirt.virConnect", order: Order) -> None:
    """Migrate; return when it is done."""
    domain = connection.lookupByName(order.vm)
    flags = flags_of(order.options, order.copies, persistent=bool(domain.isPersistent()))
    with _downtime_limit(domain, order.downtime_limit_ms):
        domain.migrateToURI3(order.peer, order.parameters, flags)


@contextmanager
def _downtime_limit(domain: "libvirt.virDomain", limit_ms: int | None) -> Iterator[None]:
    """Set a limit before the job, which takes it over; a domain that stays gets back the limit it had.

    Where somebody has been held off, and nobody was left to end that, the limit that it had is nobody's wish.
    That libvirt takes it then is documented nowhere; seen with 11.3, where QEMU has it in force at once.
    """
    import libvirt

    before = domain.migrateGetMaxDowntime()
    if before <= HELD_OFF_MS:
        before, limit_ms = DEFAULT_LIMIT_MS, limit_ms or DEFAULT_LIMIT_MS
    if limit_ms is None:
        yield
        return
    domain.migrateSetMaxDowntime(limit_ms)
    try:
        yield
    except BaseException:
        with suppress(libvirt.libvirtError):
            domain.migrateSetMaxDowntime(before)
        raise


def set_downtime_limit(connection: "libvirt.virConnect", vm: VmName, limit_ms: int) -> bool:
    """Let the hypervisor plan to stop a guest for so long, from now on; say whether it was taken."""
    import libvirt

    try:
        connection.lookupByName(vm).migrateSetMaxDowntime(limit_ms)
    except libvirt.libvirtError:
        return False  # the migration is over, or the connection is
    return True


def hold_off_no_more(connection: "libvirt.virConnect", vm: VmName) -> None:
    """Give a migration that nobody steers any more the hypervisor's own limit, where it is held off."""
    import libvirt

    with suppress(libvirt.libvirtError):
        domain = connection.lookupByName(vm)
        if domain.migrateGetMaxDowntime() <= HELD_OFF_MS:
            domain.migrateSetMaxDowntime(DEFAULT_LIMIT_MS)


def version(connection: "libvirt.virConnect") -> int:
    """Return the version of a daemon's libvirt."""
    version: int = connection.getLibVersion()
    return version


def post_copy(connection: "libvirt.virConnect", vm: VmName) -> bool:
    """Order the switch to post-copy; say whether it was taken."""
    import libvirt

    try:
        connection.lookupByName(vm).migrateStartPostCopy(0)
    except libvirt.libvirtError:
        return False  # no memory flows yet, or all has arrived
    return True


def abort(connection: "libvirt.virConnect", vm: VmName) -> None:
    """Ask for the abortion of a VM's migration, if there is one."""
    import libvirt

    with suppress(libvirt.libvirtError):  # not begun, or over
        connection.lookupByName(vm).abortJob()


def abort_overdue(connection: "libvirt.virConnect", vm: VmName, at_most_seconds: float) -> None:
    """Ask for the abortion of a VM's migration from here that has lasted for so long; of nothing else."""
    import libvirt

    with suppress(libvirt.libvirtError):  # it comes in, or is over
        domain = connection.lookupByName(vm)
        stats = domain.jobStats()
        leaves = stats.get("operation") == libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
        if leaves and stats.get("time_elapsed", 0) >= at_most_seconds * 1e3:
            domain.abortJob()


def sample(connection: "libvirt.virConnect", vm: VmName) -> JobSample | None:
    """Return what libvirt tells of a VM's migration; None where it tells nothing."""
    import libvirt

    try:
        stats = connection.lookupByName(vm).jobStats()
    except libvirt.libvirtError:
        # The VM has just gone, or its job has: the migration's own call says how it ended.
        return None
    if stats.get("type") == libvirt.VIR_DOMAIN_JOB_NONE:
        return None
    page_bytes = int(stats.get("memory_page_size", 4096))
    return JobSample(
        bytes_sent=int(stats.get("data_processed", 0)),
        bytes_remaining=int(stats.get("data_remaining", 0)),
        bytes_per_second=float(stats.get("memory_bps", 0)),
        dirty_bytes_per_second=float(stats.get("memory_dirty_rate", 0)) * page_bytes,
        rounds=int(stats.get("memory_iteration", 0)) or None,
        disk_bytes_sent=int(stats.get("disk_processed", 0)),
    )


class Told(NamedTuple):
    """What libvirt says in the end that a migration took; 0 where it doesn't say."""

    sent_bytes: int = 0
    rounds: int = 0
    disk_bytes: int = 0

    def at_least(self, other: "Told") -> "Told":
        """Return the larger of each: neither end, nor the last sample, always knows all."""
        return Told(*map(max, self, other))


def completed(connection: "libvirt.virConnect", vm: VmName) -> Told:
    """Return what the migration took that brought a VM here."""
    import libvirt

    try:
        stats = connection.lookupByName(vm).jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    except libvirt.libvirtError:
        return Told()
    told = ("data_processed", "memory_iteration", "disk_processed")
    return Told(*(int(stats.get(name, 0)) for name in told))
