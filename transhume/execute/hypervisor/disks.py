"""Which of a VM's disks are copied when it moves. Pure: a domain's XML and what hosts see in, copies out.

Left alone is what is read-only, `<shareable/>` or on the network, what a caller names as shared, what lies in a
storage pool on the network, and a file that both hosts see: one whose last change, to the nanosecond, the
destination sees between two looks of the source. No copy of a file has its original's change time, and nobody
can set it. Whatever errs here errs towards refusal: a file that the destination has already is never written to
unless the VM's own record says that it is a copy left there earlier, and libvirt itself refuses to move a VM
whose disks it finds to be neither shared (by the kind of their file system) nor copied.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from xml.etree import ElementTree as ET

from transhume.deployment.model import NO_COMMON_FILES, CommonFiles

NETWORK_POOLS = frozenset({"netfs", "gluster", "rbd", "sheepdog", "iscsi", "iscsi-direct", "scsi"})
"""Types of libvirt's storage pools that several hosts see."""
COPIED_FORMATS = frozenset({"raw", "qcow2"})


class CannotCopyError(Exception):
    """A disk can neither be copied nor left alone; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backing:
    """The image that a disk's own is over."""

    path: str
    format: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk, as a running domain's XML has it."""

    target: str
    """`vda`: what libvirt knows it by."""
    kind: str
    """The type of its source: file, block, network..."""
    path: str | None
    format: str
    read_only: bool = False
    shareable: bool = False
    chain: tuple[Backing, ...] = ()
    """The images that it is over, the nearest first."""

    @property
    def backing(self) -> Backing | None:
        """The image that it is over, if any."""
        return self.chain[0] if self.chain else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A file as a host's storage driver sees it."""

    pool_type: str
    changed_ns: int
    """When anything of it last changed, in nanoseconds since 1970, by the file system's own clock."""
    capacity_bytes: int
    format: str
    allocation_bytes: int = 0
    """What it takes of its file system; holes take nothing."""

    @property
    def is_on_network(self) -> bool:
        """Whether it lies in a pool that several hosts see."""
        return self.pool_type in NETWORK_POOLS


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """A file as both hosts see it: the source before and after the destination."""

    before: Sight | None
    there: Sight | None
    after: Sight | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskCopy:
    """A disk to be copied to a file that is made at the destination, at the path that it has at the source."""

    target: str
    path: str
    format: str
    capacity_bytes: int
    backing: Backing | None = None
    """Only where the destination has it, too: then only what is over it is copied."""
    replaces_stale: bool = False
    """The destination has a copy from an earlier visit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """What of a VM's disks is copied."""

    disks: tuple[DiskCopy, ...] = ()
    shallow: bool = False
    """Only what is over the backing images."""


def disks_of(domain_xml: str) -> tuple[Disk, ...]:
    """Read the disks in a running domain's XML."""
    return tuple(map(_disk, ET.fromstring(domain_xml).iterfind("./devices/disk")))


def may_be_local(disk: Disk, common: CommonFiles = NO_COMMON_FILES) -> bool:
    """Say whether a disk may be the source's own, as far as its description tells."""
    if disk.read_only or disk.shareable or disk.path is None or disk.kind not in ("file", "block"):
        return False
    return not common.shares(disk.path)


def copied_files(disks: Iterable[Disk], common: CommonFiles = NO_COMMON_FILES) -> tuple[str, ...]:
    """Return the files whose content is copied with a VM's local disks, where hosts have what they are to have.

    That is what is over base images, for all of its disks or none.
    """
    disks = tuple(disks)
    shallow = all(d.backing is None or common.has_base(d.backing.path) for d in disks)
    own = (disk.path for disk in disks if disk.path is not None)
    beneath = (each.path for disk in disks for each in disk.chain)
    return (*own, *(() if shallow else beneath))


def has_as_disk(domain_xml: str, path: str) -> bool:
    """Say whether a file is one of a domain's disks, lies beneath one, or may do so by its name in a pool."""
    disks = ET.fromstring(domain_xml).iterfind("./devices/disk")
    sources = [source for disk in disks for source in disk.iter("source")]
    return any(
        path in (source.get("file"), source.get("dev"))
        or source.get("volume") == PurePosixPath(path).name
        for source in sources
    )


def is_shared(looks: Looks) -> bool:
    """Say whether both hosts see one and the same file, or a pool that several hosts see."""
    before, there, after = looks.before, looks.there, looks.after
    if before is not None and before.is_on_network:
        return True
    if before is None or there is None or after is None:
        return False
    return before.changed_ns <= there.changed_ns <= after.changed_ns


def copy_of(disk: Disk, looks: Looks, capacity_bytes: int, *, stale: bool) -> DiskCopy | None:
    """Say how a disk that may be local is copied; None where it is shared after all.

    Args:
        disk: the disk.
        looks: its file at both hosts.
        capacity_bytes: its virtual size.
        stale: whether the VM's record says that the destination's file is a copy left there.

    Raises:
        CannotCopyError: it isn't shared, and can't be copied.
    """
    if is_shared(looks):
        return None
    named = f"disk {disk.target} ({disk.path})"
    if disk.kind == "block":
        raise CannotCopyError(
            f"{named} is a block device: whether the destination's is the same one can't be told; "
            f"name its folder as shared if it is"
        )
    if disk.format not in COPIED_FORMATS:
        raise CannotCopyError(f"{named} has the format {disk.format}; raw and qcow2 are copied")
    if looks.there is not None and not stale:
        raise CannotCopyError(
            f"{named}: the destination has a file of that name, which isn't overwritten: name its folder "
            f"as shared if it is the same file, or remove it there"
        )
    assert disk.path is not None
    return DiskCopy(
        target=disk.target,
        path=disk.path,
        format=disk.format,
        capacity_bytes=capacity_bytes,
        backing=disk.backing,
        replaces_stale=looks.there is not None,
    )


def have_same_base(looks: Looks) -> bool:
    """Say whether a backing image at both hosts may be the same, as far as its shape tells."""
    ours, theirs = looks.before, looks.there
    return (
        ours is not None
        and theirs is not None
        and (ours.capacity_bytes, ours.format) == (theirs.capacity_bytes, theirs.format)
    )


def volume_xml(copy: DiskCopy) -> str:
    """Describe the file to be made at the destination to libvirt's storage driver."""
    volume = ET.Element("volume")
    ET.SubElement(volume, "name").text = PurePosixPath(copy.path).name
    ET.SubElement(volume, "capacity", unit="bytes").text = str(copy.capacity_bytes)
    ET.SubElement(volume, "allocation", unit="bytes").text = "0"
    target = ET.SubElement(volume, "target")
    ET.SubElement(target, "format", type=copy.format)
    if copy.backing is not None:
        backing = ET.SubElement(volume, "backingStore")
        ET.SubElement(backing, "path").text = copy.backing.path
        ET.SubElement(backing, "format", type=copy.backing.format)
    return ET.tostring(volume, encoding="unicode")


def sight_of(volume_xml: str, pool_type: str) -> Sight:
    """Read what libvirt's storage driver says of a file."""
    volume = ET.fromstring(volume_xml)
    seconds, _, fraction = volume.findtext("./target/timestamps/ctime", "0").partition(".")
    form = volume.find("./target/format")
    return Sight(
        pool_type=pool_type,
        changed_ns=int(seconds) * 10**9 + int(fraction.ljust(9, "0")[:9] or 0),
        capacity_bytes=int(volume.findtext("./capacity", "0")),
        allocation_bytes=int(volume.findtext("./allocation", "0")),
        format="raw" if form is None else form.get("type", "raw"),
    )


def _disk(element: ET.Element) -> Disk:
    source, driver, target = (element.find(tag) for tag in ("source", "driver", "target"))
    path = None if source is None else source.get("file") or source.get("dev")
    return Disk(
        target="" if target is None else target.get("dev", ""),
        kind=element.get("type", ""),
        path=path,
        format="raw" if driver is None else driver.get("type", "raw"),
        read_only=element.find("readonly") is not None
        or element.get("device") in ("cdrom", "floppy"),
        shareable=element.find("shareable") is not None,
        chain=tuple(_chain(element)),
    )


def _chain(element: ET.Element) -> Iterator[Backing]:
    store = element.find("./backingStore")
    while store is not None:
        source, form = store.find("source"), store.find("format")
        path = None if source is None else source.get("file")
        if path is None:
            return
        yield Backing(path=path, format="raw" if form is None else form.get("type", "raw"))
        store = store.find("./backingStore")
