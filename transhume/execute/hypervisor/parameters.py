"""A migration's options, route and copied disks in libvirt's flags and parameters. Talks to nobody."""

from transhume.execute.hypervisor.disks import Copies
from transhume.execute.hypervisor.options import AutoConverge, Compression, MigrationOptions
from transhume.execute.migration.transport import Route

MIB = 1 << 20
TAKES_SWITCHOVER_BANDWIDTH = 11_003_000
"""The oldest libvirt that was seen to take the rate to reckon with at the end (it is libvirt 11.3's)."""
SWITCHOVER_BANDWIDTH = "bandwidth.avail.switchover"
"""VIR_MIGRATE_PARAM_BANDWIDTH_AVAIL_SWITCHOVER, which older bindings don't name; in MiB/s, as seen."""

Parameters = dict[str, str | int | list[str]]


def flags_of(options: MigrationOptions, copies: Copies, *, persistent: bool) -> int:
    """Return libvirt's flags for a migration."""
    import libvirt

    wanted = {
        libvirt.VIR_MIGRATE_LIVE: True,
        libvirt.VIR_MIGRATE_PEER2PEER: True,
        libvirt.VIR_MIGRATE_ABORT_ON_ERROR: True,
        libvirt.VIR_MIGRATE_PERSIST_DEST: persistent,
        libvirt.VIR_MIGRATE_UNDEFINE_SOURCE: persistent,
        libvirt.VIR_MIGRATE_AUTO_CONVERGE: options.auto_converge is not None,
        libvirt.VIR_MIGRATE_PARALLEL: options.channels > 0,
        libvirt.VIR_MIGRATE_COMPRESSED: options.compression is not Compression.NONE,
        libvirt.VIR_MIGRATE_POSTCOPY: options.post_copy_after_seconds is not None,
        libvirt.VIR_MIGRATE_NON_SHARED_INC: bool(copies.disks) and copies.shallow,
        libvirt.VIR_MIGRATE_NON_SHARED_DISK: bool(copies.disks) and not copies.shallow,
    }
    return sum(flag for flag, is_wanted in wanted.items() if is_wanted)


def parameters_of(
    options: MigrationOptions, route: Route, copies: Copies, *, libvirt_version: int
) -> Parameters:
    """Return libvirt's parameters for a migration; `libvirt_version` is the older of the two daemons'."""
    import libvirt

    rates = [r for r in (route.bytes_per_second, options.bytes_per_second) if r is not None]
    switchover = options.switchover_bytes_per_second
    if libvirt_version < TAKES_SWITCHOVER_BANDWIDTH or switchover is None:
        switchover_mib = None
    else:
        switchover_mib = max(1, int(switchover / MIB))
    slowing = options.auto_converge or AutoConverge()
    wanted: dict[str, str | int | list[str] | None] = {
        libvirt.VIR_MIGRATE_PARAM_URI: route.migrate_uri,
        libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: max(1, int(min(rates) / MIB)) if rates else None,
        SWITCHOVER_BANDWIDTH: switchover_mib,
        libvirt.VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS: options.channels or None,
        libvirt.VIR_MIGRATE_PARAM_COMPRESSION: _method(options.compression),
        libvirt.VIR_MIGRATE_PARAM_AUTO_CONVERGE_INITIAL: slowing.initial_percent,
        libvirt.VIR_MIGRATE_PARAM_AUTO_CONVERGE_INCREMENT: slowing.increment_percent,
        libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS: [d.target for d in copies.disks] or None,
        libvirt.VIR_MIGRATE_PARAM_DISKS_URI: route.disks_uri if copies.disks else None,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _method(compression: Compression) -> str | None:
    return None if compression is Compression.NONE else compression.value
