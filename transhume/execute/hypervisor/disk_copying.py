"""What has to be done about a VM's disks before and after a migration that copies them.

Before: look at both hosts which disks need copying, write into the VM's record where files of it will be, make
empty files at the destination. After: remove what is out of date, which is the source's files after a move and
the destination's after a failure, and forget where it was. The copying itself is the migration's.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from transhume.deployment.model import CommonFiles
from transhume.errors import DiskUseUnknown, HypervisorUnreachable, MoveFailed
from transhume.execute.hypervisor import left_copies, storage
from transhume.execute.hypervisor.disks import (
    CannotCopyError,
    Copies,
    Disk,
    DiskCopy,
    Looks,
    Sight,
    copied_files,
    copy_of,
    disks_of,
    has_as_disk,
    have_same_base,
    may_be_local,
)
from transhume.execute.hypervisor.left_copies import Left
from transhume.execute.hypervisor.options import Disks, MigrationOptions
from transhume.knowledge.model import HostName, VmName
from transhume.reach.libvirt import Connections

if TYPE_CHECKING:
    import libvirt

T = TypeVar("T")


class DiskCopying:
    """The disks of all VMs of a federation."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._storage: defaultdict[HostName, asyncio.Lock] = defaultdict(asyncio.Lock)

    @asynccontextmanager
    async def prepared(
        self, vm: VmName, source: HostName, destination: HostName, options: MigrationOptions
    ) -> AsyncIterator[Copies]:
        """Prepare a migration, which happens within the context, and clear up after it.

        Raises:
            MoveFailed: a disk can neither be copied nor left alone.
        """
        import libvirt

        copies = await self.needed(vm, source, destination, options)
        if not copies.disks:
            yield copies
            return
        made: list[DiskCopy] = []
        try:
            await self._connections.call(
                source, lambda c: _record(c, vm, copies, (source, destination))
            )
            for copy in copies.disks:
                await self._make(destination, copy)
                made.append(copy)
            yield copies
        except (MoveFailed, libvirt.libvirtError, asyncio.CancelledError) as failure:
            # What a cancelled call is about to make may not be seen yet.
            maybe = made if isinstance(failure, asyncio.CancelledError) else copies.disks
            with suppress(HypervisorUnreachable, libvirt.libvirtError):
                await self._clear(vm, destination, maybe, made, at=source)
            raise
        if not options.keep_left_copies:
            # What can't be removed now is known from the VM's record when it comes back.
            with suppress(HypervisorUnreachable, libvirt.libvirtError):
                await self._clear(vm, source, copies.disks, copies.disks, at=destination)

    async def needed(
        self, vm: VmName, source: HostName, destination: HostName, options: MigrationOptions
    ) -> Copies:
        """Say which of a VM's disks have to be copied.

        Raises:
            MoveFailed: a disk can neither be copied nor left alone.
        """
        if options.disks is not Disks.COPY:
            return Copies()
        disks, left = await self._connections.call(source, lambda c: _described(c, vm))
        candidates = [disk for disk in disks if may_be_local(disk, options.common_files)]
        try:
            found = [await self._copy(vm, source, destination, disk, left) for disk in candidates]
        except CannotCopyError as reason:
            raise MoveFailed(vm, source, destination, str(reason)) from reason
        copies = tuple(copy for copy in found if copy is not None)
        backed = [copy for copy in copies if copy.backing is not None]
        shallow = bool(backed) and all(
            [await self._has_base(source, destination, copy, options) for copy in backed]
        )
        if not shallow:
            copies = tuple(replace(copy, backing=None) for copy in copies)
        return Copies(disks=copies, shallow=shallow)

    async def bytes_held(self, vm: VmName, host: HostName, common: CommonFiles) -> int:
        """Say how much those of a VM's disks hold that may have to be copied, as far as its host can tell.

        Raises:
            DiskUseUnknown: it can't tell.
        """
        import libvirt

        try:
            disks, _ = await self._connections.call(host, lambda c: _described(c, vm))
            files = [d for d in disks if d.kind == "file" and may_be_local(d, common)]
            own = [(disk, await self._look(host, disk.path)) for disk in files if disk.path]
            seen = {disk.path: sight for disk, sight in own if disk.path}
            paths = copied_files((d for d, s in own if s is None or not s.is_on_network), common)
            seen |= {path: await self._look(host, path) for path in set(paths) - seen.keys()}
        except libvirt.libvirtError as error:
            raise DiskUseUnknown(vm, host, str(error)) from error
        held = [sight.allocation_bytes for path in paths if (sight := seen[path]) is not None]
        if len(held) < len(paths):
            missing = sorted({path for path in paths if seen[path] is None})
            raise DiskUseUnknown(vm, host, f"it doesn't see {', '.join(missing)}")
        return sum(held)

    async def _copy(
        self, vm: VmName, source: HostName, destination: HostName, disk: Disk, left: Left
    ) -> DiskCopy | None:
        assert disk.path is not None
        looks = await self._looks(source, destination, disk.path)
        target = disk.target
        capacity = await self._connections.call(
            source, lambda c: int(c.lookupByName(vm).blockInfo(target)[0])
        )
        stale = (destination, disk.path) in left and not await self._connections.call(
            destination, partial(_is_anothers, vm=vm, path=disk.path)
        )
        return copy_of(disk, looks, capacity, stale=stale)

    async def _has_base(
        self, source: HostName, destination: HostName, copy: DiskCopy, options: MigrationOptions
    ) -> bool:
        backing = copy.backing
        if backing is None or not options.common_files.has_base(backing.path):
            return False
        return have_same_base(await self._looks(source, destination, backing.path))

    async def _looks(self, source: HostName, destination: HostName, path: str) -> Looks:
        return Looks(
            before=await self._look(source, path),
            there=await self._look(destination, path),
            after=await self._look(source, path),
        )

    async def _look(self, host: HostName, path: str) -> Sight | None:
        async with self._storage[host]:
            return await self._connections.call(host, lambda c: storage.look(c, path))

    async def _make(self, host: HostName, copy: DiskCopy) -> None:
        async with self._storage[host]:
            await self._connections.call(host, lambda c: storage.make(c, copy))

    async def _clear(
        self,
        vm: VmName,
        host: HostName,
        copies: Sequence[DiskCopy],
        made: Sequence[DiskCopy],
        *,
        at: HostName,
    ) -> None:
        """Remove files of copied disks at a host, unless the VM is there, or has ended there.

        Paths where nothing of the VM is left are taken out of its record: whatever is there later is
        somebody else's.

        Args:
            vm: the VM.
            host: where it isn't.
            copies: its disks that files may be of there.
            made: those among them that files were made for.
            at: where it is.
        """
        if await self._is_there(vm, host, elsewhere=at):
            return
        gone: list[tuple[str, str]] = []
        try:
            for copy in copies:
                if copy in made:
                    await self._remove(vm, host, copy.path)
                elif await self._look(host, copy.path) is not None:
                    continue
                gone.append((host, copy.path))
        finally:
            await self._connections.call(at, lambda c: _forget(c, vm, gone))

    async def _is_there(self, vm: VmName, host: HostName, *, elsewhere: HostName) -> bool:
        is_active = await self._connections.call(host, lambda c: _is_active(c, vm))
        if is_active is None:
            return False
        if is_active:
            return True
        return await self._connections.call(elsewhere, lambda c: _is_active(c, vm)) is None

    async def _remove(self, vm: VmName, host: HostName, path: str) -> None:
        """Remove a file, unless another VM has it as a disk."""

        def remove(connection: "libvirt.virConnect") -> None:
            if not _is_anothers(connection, vm, path):
                storage.remove(connection, path)

        async with self._storage[host]:
            await self._connections.call(host, remove)


def _is_anothers(connection: "libvirt.virConnect", vm: VmName, path: str) -> bool:
    """Say whether another VM at a host, running or not, has a file as a disk, now or after its next start."""
    others = (domain for domain in connection.listAllDomains() if domain.name() != vm)
    return any(has_as_disk(xml, path) for domain in others for xml in _descriptions(domain))


def _descriptions(domain: "libvirt.virDomain") -> Iterator[str]:
    import libvirt

    try:
        yield domain.XMLDesc()
        yield domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise


def _is_active(connection: "libvirt.virConnect", vm: VmName) -> bool | None:
    """Say whether a VM is active at a host; None where it isn't even defined."""
    import libvirt

    try:
        return bool(connection.lookupByName(vm).isActive())
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _described(connection: "libvirt.virConnect", vm: VmName) -> tuple[list[Disk], Left]:
    """Return a VM's disks and its record of files."""
    domain = connection.lookupByName(vm)
    return list(disks_of(domain.XMLDesc())), _read_record(domain)


def _read_record(domain: "libvirt.virDomain") -> Left:
    import libvirt

    try:
        xml = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, left_copies.NAMESPACE)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            raise
        xml = None
    return left_copies.read_record(xml)


def _record(
    connection: "libvirt.virConnect", vm: VmName, copies: Copies, hosts: tuple[HostName, ...]
) -> None:
    """Note that files of the VM's disks may be at these hosts."""
    domain = connection.lookupByName(vm)
    paths = [copy.path for copy in copies.disks]
    left = _read_record(domain) | {(host, path) for host in hosts for path in paths}
    _write_record(domain, left)


def _forget(
    connection: "libvirt.virConnect", vm: VmName, gone: Collection[tuple[str, str]]
) -> None:
    """Take hosts and paths out of the VM's record."""
    domain = connection.lookupByName(vm)
    _write_record(domain, _read_record(domain).difference(gone))


def _write_record(domain: "libvirt.virDomain", left: Left) -> None:
    import libvirt

    flags = libvirt.VIR_DOMAIN_AFFECT_LIVE
    if domain.isPersistent():
        flags |= libvirt.VIR_DOMAIN_AFFECT_CONFIG
    domain.setMetadata(
        libvirt.VIR_DOMAIN_METADATA_ELEMENT,
        left_copies.write_record(left),
        left_copies.PREFIX,
        left_copies.NAMESPACE,
        flags,
    )
