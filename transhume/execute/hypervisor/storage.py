"""Files of disks through libvirt's storage driver: looked at, made and removed at a host.

Owns the pools that this takes: a folder that is no pool becomes one for as long as a question lasts. Each
function is one blocking call; whoever calls sees to it that there is never more than one at a host.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from transhume.execute.hypervisor.disks import DiskCopy, Sight, sight_of, volume_xml

if TYPE_CHECKING:
    import libvirt


def look(connection: "libvirt.virConnect", path: str) -> Sight | None:
    """Return a file as a host sees it; None where it has none.

    Raises:
        libvirtError: its folder can't be looked into.
    """
    import libvirt

    try:
        with _pool(connection, path) as pool:
            kind = ET.fromstring(pool.XMLDesc()).get("type", "")
            return sight_of(pool.storageVolLookupByName(_name(path)).XMLDesc(), kind)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_VOL:
            return None
        raise


def make(connection: "libvirt.virConnect", copy: DiskCopy) -> None:
    """Make the empty file that a disk is copied to; one that is there is replaced only if it is stale."""
    if copy.replaces_stale:
        remove(connection, copy.path)
    with _pool(connection, copy.path) as pool:
        pool.createXML(volume_xml(copy), 0)


def remove(connection: "libvirt.virConnect", path: str) -> None:
    """Remove a file; one that isn't there is no mistake."""
    import libvirt

    try:
        with _pool(connection, path) as pool:
            pool.storageVolLookupByName(_name(path)).delete(0)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
            raise


def _name(path: str) -> str:
    return PurePosixPath(path).name


@contextmanager
def _pool(connection: "libvirt.virConnect", path: str) -> "Iterator[libvirt.virStoragePool]":
    """Yield the pool whose files are those of a path's folder, as they are now."""
    import libvirt

    folder = str(PurePosixPath(path).parent)
    try:
        pool = connection.storagePoolLookupByTargetPath(folder)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
            raise
        pool, ours = connection.storagePoolCreateXML(_pool_xml(folder), 0), True
    else:
        ours = not pool.isActive()
        if ours:
            pool.create(0)
        else:
            pool.refresh(0)
    try:
        yield pool
    finally:
        if ours:
            with suppress(libvirt.libvirtError):
                pool.destroy()


def _pool_xml(folder: str) -> str:
    pool = ET.Element("pool", type="dir")
    digest = hashlib.sha256(folder.encode()).hexdigest()[:12]
    ET.SubElement(pool, "name").text = f"transhume-{digest}"
    ET.SubElement(ET.SubElement(pool, "target"), "path").text = folder
    return ET.tostring(pool, encoding="unicode")
