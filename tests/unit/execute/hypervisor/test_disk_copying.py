"""What is done about disks at both hosts round a migration, on daemons that keep files in memory."""

# ruff: noqa: N802  (libvirt's names)

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast
from xml.etree import ElementTree as ET

import libvirt
import pytest

from transhume.deployment.model import NO_COMMON_FILES, CommonFiles
from transhume.errors import DiskUseUnknown, HypervisorUnreachable, MoveFailed
from transhume.execute.hypervisor.disk_copying import DiskCopying
from transhume.execute.hypervisor.disks import Copies
from transhume.execute.hypervisor.left_copies import read_record
from transhume.execute.hypervisor.options import Disks, MigrationOptions
from transhume.knowledge.model import HostName, VmName
from transhume.reach.libvirt import Connections

VM, A1, B1 = VmName("vm1"), HostName("a1"), HostName("b1")
DISK, OTHER_DISK, BASE = "/images/vm1.qcow2", "/images/vm1-data.qcow2", "/images/base.raw"
COPY = MigrationOptions(disks=Disks.COPY)
OVER_BASE = MigrationOptions(disks=Disks.COPY, common_files=CommonFiles(base_images=(BASE,)))

ONE_DISK = f"""<disk type='file' device='disk'>
<driver name='qemu' type='qcow2'/><source file='{{}}'/>
<backingStore type='file'><format type='raw'/><source file='{BASE}'/></backingStore>
<target dev='vda'/></disk>"""
DOMAIN = f"<domain><devices>{ONE_DISK.format(DISK)}</devices></domain>"


def error(code: int) -> libvirt.libvirtError:
    made = libvirt.libvirtError("so says libvirt")
    made.err = (code, 10, "so says libvirt", 2, None, None, None, -1, -1)
    return made


@dataclass
class File:
    """A volume; `changed` in seconds."""

    host: "Host"
    path: str
    changed: int
    capacity: int = 64
    format: str = "qcow2"
    allocation: int = 40

    def XMLDesc(self) -> str:
        return (
            f"<volume><capacity>{self.capacity}</capacity><allocation>{self.allocation}</allocation>"
            f"<target><format type='{self.format}'/>"
            f"<timestamps><ctime>{self.changed}.5</ctime></timestamps></target></volume>"
        )

    def delete(self, _flags: int) -> None:
        del self.host.files[self.path]


@dataclass
class Folder:
    """A transient pool."""

    host: "Host"
    path: str

    def XMLDesc(self) -> str:
        return f"<pool type='{self.host.pool_type}'/>"

    def storageVolLookupByName(self, name: str) -> File:
        try:
            return self.host.files[f"{self.path}/{name}"]
        except KeyError:
            raise error(libvirt.VIR_ERR_NO_STORAGE_VOL) from None

    def createXML(self, xml: str, _flags: int) -> None:
        if self.host.full:
            raise error(libvirt.VIR_ERR_SYSTEM_ERROR)
        volume = ET.fromstring(xml)
        path = f"{self.path}/{volume.findtext('name')}"
        assert path not in self.host.files
        self.host.files[path] = File(self.host, path, changed=900)
        self.host.backing = volume.findtext("./backingStore/path")

    def destroy(self) -> None:
        self.host.pools -= 1


@dataclass
class Domain:
    """The VM, where it is, or another."""

    record: str | None = None
    xml: str = ""
    called: str = VM
    next_xml: str = ""
    """What it will be after its next start, if that is something else."""
    goes_when_asked: bool = False
    active: bool = True

    def name(self) -> str:
        return self.called

    def XMLDesc(self, flags: int = 0) -> str:
        if self.goes_when_asked:
            raise error(libvirt.VIR_ERR_NO_DOMAIN)
        if flags == libvirt.VIR_DOMAIN_XML_INACTIVE and self.next_xml:
            return self.next_xml
        return self.xml or DOMAIN

    def isActive(self) -> bool:
        return self.active

    def isPersistent(self) -> bool:
        return True

    def blockInfo(self, _target: str) -> list[int]:
        return [640, 0, 0]

    def metadata(self, _kind: int, _uri: str) -> str:
        if self.record is None:
            raise error(libvirt.VIR_ERR_NO_DOMAIN_METADATA)
        return self.record

    def setMetadata(self, _kind: int, xml: str, *_more: object) -> None:
        self.record = xml


@dataclass
class Host:
    """A libvirt daemon."""

    domain: Domain | None = None
    files: dict[str, File] = field(default_factory=dict)
    pools: int = 0
    full: bool = False
    backing: str | None = None
    pool_type: str = "dir"
    sealed: bool = False
    """Its folders can't be looked into."""
    others: list[Domain] = field(default_factory=list)

    def listAllDomains(self) -> list[Domain]:
        return [*([self.domain] if self.domain else []), *self.others]

    def lookupByName(self, _name: str) -> Domain:
        if self.domain is None:
            raise error(libvirt.VIR_ERR_NO_DOMAIN)
        return self.domain

    def storagePoolLookupByTargetPath(self, _path: str) -> None:
        raise error(libvirt.VIR_ERR_NO_STORAGE_POOL)

    def storagePoolCreateXML(self, xml: str, _flags: int) -> Folder:
        if self.sealed:
            raise error(libvirt.VIR_ERR_SYSTEM_ERROR)
        self.pools += 1
        return Folder(self, ET.fromstring(xml).findtext("./target/path") or "")

    def has(self, path: str, changed: int, format_: str = "qcow2") -> None:
        self.files[path] = File(self, path, changed, format=format_)


class Site:
    """Two hosts, of which the first runs the VM."""

    def __init__(self) -> None:
        self.domain = Domain()
        self.source, self.destination = Host(self.domain), Host()
        self.source.has(DISK, 1000)
        self.source.has(BASE, 10, "raw")
        self._hosts = {A1: self.source, B1: self.destination}

    async def call(self, host: HostName, what: Callable[[Any], Any]) -> Any:
        return what(self._hosts[host])

    async def move(
        self, during: Callable[[Copies], None], options: MigrationOptions = COPY
    ) -> None:
        copying = DiskCopying(cast("Connections", self))
        async with copying.prepared(VM, A1, B1, options) as copies:
            during(copies)

    async def held(self, common: CommonFiles = NO_COMMON_FILES) -> int:
        return await DiskCopying(cast("Connections", self)).bytes_held(VM, A1, common)

    def arrive(self, _copies: Copies) -> None:
        assert DISK in self.destination.files
        self.source.domain, self.destination.domain = None, self.domain

    async def come_back(self) -> None:
        copying = DiskCopying(cast("Connections", self))
        async with copying.prepared(VM, B1, A1, COPY):
            self.source.domain, self.destination.domain = self.domain, None

    @property
    def left(self) -> set[tuple[str, str]]:
        return set(read_record(self.domain.record))


async def test_after_a_move_only_the_destination_has_the_disk() -> None:
    site = Site()
    await site.move(site.arrive)
    assert DISK in site.destination.files
    assert DISK not in site.source.files
    assert BASE in site.source.files
    assert (site.source.pools, site.destination.pools) == (0, 0)


async def test_the_sources_copy_stays_on_request() -> None:
    site = Site()
    await site.move(site.arrive, MigrationOptions(disks=Disks.COPY, keep_left_copies=True))
    assert DISK in site.source.files


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(MoveFailed("vm1", "a1", "b1", "broke"), id="failed"),
        pytest.param(error(libvirt.VIR_ERR_OPERATION_FAILED), id="libvirt's error"),
        pytest.param(asyncio.CancelledError(), id="cancelled"),
    ],
)
async def test_after_a_failure_only_the_source_has_the_disk(failure: BaseException) -> None:
    site = Site()

    def fail(_copies: Copies) -> None:
        assert DISK in site.destination.files
        raise failure

    with pytest.raises(type(failure)):
        await site.move(fail)
    assert DISK not in site.destination.files
    assert DISK in site.source.files


async def test_nothing_is_removed_while_it_is_unknown_where_the_vm_is() -> None:
    site = Site()

    def falls_silent(_copies: Copies) -> None:
        raise HypervisorUnreachable(A1, "qemu:///a1", "keepalive timed out")

    with pytest.raises(HypervisorUnreachable):
        await site.move(falls_silent)
    assert DISK in site.destination.files
    assert DISK in site.source.files


async def test_a_copy_that_a_vm_uses_after_all_is_not_removed() -> None:
    site = Site()

    def arrives_and_is_told_otherwise(copies: Copies) -> None:
        site.arrive(copies)
        raise MoveFailed("vm1", "a1", "b1", "lost track")

    with pytest.raises(MoveFailed):
        await site.move(arrives_and_is_told_otherwise)
    assert DISK in site.destination.files


async def test_the_copy_of_a_vm_that_has_ended_where_it_went_is_not_removed() -> None:
    """Its move may be broken off after that, while its way is closed."""
    site = Site()

    def arrives_ends_and_is_dropped(copies: Copies) -> None:
        site.arrive(copies)
        site.domain.active = False
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await site.move(arrives_ends_and_is_dropped)
    assert DISK in site.destination.files


async def test_a_vm_that_ends_at_its_source_leaves_no_copy_at_the_destination() -> None:
    site = Site()
    site.destination.domain = Domain(active=False)

    def ends(_copies: Copies) -> None:
        site.domain.active = False
        raise MoveFailed("vm1", "a1", "b1", "it ended")

    with pytest.raises(MoveFailed):
        await site.move(ends)
    assert DISK not in site.destination.files


async def test_what_a_crash_left_behind_is_replaced_the_next_time() -> None:
    site = Site()

    def dies(_copies: Copies) -> None:
        raise HypervisorUnreachable(A1, "qemu:///a1", "we are gone")

    with pytest.raises(HypervisorUnreachable):
        await site.move(dies)
    left = site.destination.files[DISK]
    await site.move(site.arrive)
    assert site.destination.files[DISK] is not left


async def test_a_file_that_has_been_removed_is_taken_out_of_the_record() -> None:
    site = Site()
    await site.move(site.arrive)
    assert site.left == {(B1, DISK)}


async def test_whoever_has_a_removed_files_path_later_keeps_it() -> None:
    site = Site()
    await site.move(site.arrive)
    site.source.has(DISK, 5000)
    theirs = site.source.files[DISK]
    with pytest.raises(MoveFailed, match="isn't overwritten"):
        await site.come_back()
    assert site.source.files[DISK] is theirs


async def test_a_vm_comes_back_to_where_its_file_was_removed() -> None:
    site = Site()
    await site.move(site.arrive)
    await site.come_back()
    assert DISK in site.source.files
    assert site.left == {(A1, DISK)}


@pytest.mark.parametrize("full", [False, True], ids=["made, and removed", "never made"])
async def test_after_a_failure_the_record_names_no_file_at_the_destination(full: bool) -> None:
    site = Site()
    site.destination.full = full

    def fail(_copies: Copies) -> None:
        raise MoveFailed("vm1", "a1", "b1", "broke")

    with pytest.raises((MoveFailed, libvirt.libvirtError)):
        await site.move(fail)
    assert site.left == {(A1, DISK)}


async def test_a_copy_that_is_kept_stays_in_the_record() -> None:
    site = Site()
    await site.move(site.arrive, MigrationOptions(disks=Disks.COPY, keep_left_copies=True))
    assert site.left == {(A1, DISK), (B1, DISK)}


OTHER = "<domain><devices/></domain>"
IN_A_POOL = f"""<domain><devices><disk type='volume'>
<source pool='images' volume='{DISK.rpartition("/")[2]}'/></disk></devices></domain>"""


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Domain(called="vm2"), id="as a disk"),
        pytest.param(Domain(called="vm2", xml=DOMAIN.replace(BASE, DISK)), id="beneath a disk"),
        pytest.param(Domain(called="vm2", xml=IN_A_POOL), id="by its name in a pool"),
        pytest.param(Domain(called="vm2", xml=OTHER, next_xml=DOMAIN), id="after its next start"),
    ],
)
async def test_a_left_copy_that_another_vm_has_by_now_is_that_vms(other: Domain) -> None:
    site = Site()
    await site.move(site.arrive, MigrationOptions(disks=Disks.COPY, keep_left_copies=True))
    theirs = site.source.files[DISK]
    site.source.others.append(other)
    with pytest.raises(MoveFailed, match="isn't overwritten"):
        await site.come_back()
    assert site.source.files[DISK] is theirs


async def test_a_file_that_another_vm_has_too_is_not_removed_after_a_move() -> None:
    site = Site()
    site.source.others.append(Domain(called="vm2"))
    await site.move(site.arrive)
    assert DISK in site.source.files
    assert site.left == {(B1, DISK)}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Domain(called="vm2", xml=OTHER), id="that has other disks"),
        pytest.param(Domain(called="vm2", goes_when_asked=True), id="that goes just then"),
    ],
)
async def test_another_vm_keeps_no_left_copy(other: Domain) -> None:
    site = Site()
    site.source.others.append(other)
    await site.move(site.arrive)
    assert DISK not in site.source.files


async def test_a_strangers_file_is_left_as_it_is() -> None:
    site = Site()
    site.destination.has(DISK, 5)
    stranger = site.destination.files[DISK]
    with pytest.raises(MoveFailed, match="isn't overwritten"):
        await site.move(site.arrive)
    assert site.destination.files == {DISK: stranger}


async def test_a_destination_that_has_no_room_gets_no_vm() -> None:
    site = Site()
    site.destination.full = True
    with pytest.raises(libvirt.libvirtError):
        await site.move(site.arrive)
    assert site.destination.files == {}


@pytest.mark.parametrize(
    ("options", "there", "shallow"),
    [
        pytest.param(OVER_BASE, "raw", True, id="named and there"),
        pytest.param(COPY, "raw", False, id="there, but nobody says that it is the same"),
        pytest.param(OVER_BASE, None, False, id="named, but not there"),
        pytest.param(OVER_BASE, "qcow2", False, id="named, but another one"),
    ],
)
async def test_only_what_is_over_a_base_image_is_copied_where_that_is_known_to_be_there(
    options: MigrationOptions, there: str | None, shallow: bool
) -> None:
    site, seen = Site(), list[Copies]()
    if there is not None:
        site.destination.has(BASE, 20, there)
    await site.move(lambda copies: (seen.append(copies), site.arrive(copies))[1], options)
    assert seen[0].shallow is shallow
    assert site.destination.backing == (BASE if shallow else None)


async def test_nothing_is_asked_of_storage_unless_disks_are_to_be_copied() -> None:
    site, seen = Site(), list[Copies]()
    await site.move(seen.append, MigrationOptions())
    assert seen == [Copies()]
    assert site.domain.record is None


@pytest.mark.parametrize(
    ("common", "held"),
    [
        pytest.param(NO_COMMON_FILES, 80, id="all of it"),
        pytest.param(CommonFiles(base_images=(BASE,)), 40, id="what is over a base image"),
        pytest.param(CommonFiles(shared_folders=("/images",)), 0, id="shared"),
    ],
)
async def test_what_disks_hold_is_what_may_have_to_be_copied(
    common: CommonFiles, held: int
) -> None:
    site = Site()
    assert await site.held(common) == held
    assert site.source.pools == 0


async def test_what_lies_in_a_pool_on_the_network_counts_for_nothing() -> None:
    site = Site()
    site.source.pool_type = "netfs"
    assert await site.held() == 0


async def test_a_host_that_cant_look_into_a_folder_says_so() -> None:
    site = Site()
    site.source.sealed = True
    with pytest.raises(DiskUseUnknown, match="a1 can't tell how much the disks of vm1 hold"):
        await site.held()


async def test_a_base_that_two_disks_are_over_is_copied_with_each() -> None:
    site = Site()
    site.source.has(OTHER_DISK, 1000)
    site.domain.xml = DOMAIN.replace("</devices>", f"{ONE_DISK.format(OTHER_DISK)}</devices>")
    assert await site.held() == 160
    assert await site.held(CommonFiles(base_images=(BASE,))) == 80


async def test_a_disk_whose_file_isnt_seen_holds_nobody_knows_how_much() -> None:
    site = Site()
    del site.source.files[DISK]
    with pytest.raises(DiskUseUnknown, match=f"it doesn't see {DISK}"):
        await site.held()
