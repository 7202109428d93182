"""How fast a running VM writes to its memory, as its hypervisor samples it."""

import time
from typing import TYPE_CHECKING

from transhume.errors import DirtyRateUnknown
from transhume.knowledge.model import HostName, VmName

if TYPE_CHECKING:
    import libvirt

MIB = 1 << 20
PATIENCE_SECONDS = 10.0
"""How long past the sampling its result may take."""
POLL_SECONDS = 0.1
_LONGEST_SECONDS = 60


def measure(connection: "libvirt.virConnect", vm: VmName, host: HostName, seconds: int) -> float:
    """Sample a VM's memory for some seconds and return bytes per second; blocks for as long.

    QEMU hashes pages at random places before and after, so a rate below 1 MiB/s may be told as none.

    Raises:
        DirtyRateUnknown: the hypervisor can't measure it, or the VM isn't running.
    """
    import libvirt

    duration = min(max(1, seconds), _LONGEST_SECONDS)
    try:
        domain = connection.lookupByName(vm)
        domain.startDirtyRateCalc(duration, 0)
        deadline = time.monotonic() + duration + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            told = connection.domainListGetStats([domain], libvirt.VIR_DOMAIN_STATS_DIRTYRATE)
            if not told:
                raise DirtyRateUnknown(vm, host, "it has left while it was sampled")
            ((_, stats),) = told
            if stats.get("dirtyrate.calc_status") == libvirt.VIR_DOMAIN_DIRTYRATE_MEASURED:
                return float(stats["dirtyrate.megabytes_per_second"] * MIB)
            time.sleep(POLL_SECONDS)
    except libvirt.libvirtError as error:
        raise DirtyRateUnknown(vm, host, str(error)) from error
    raise DirtyRateUnknown(vm, host, f"no result {PATIENCE_SECONDS:.0f} s after the sampling's end")
