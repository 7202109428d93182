"""A VM's own record of hosts that may have files of its disks: where it doesn't run, they are out of date.

The record is part of the domain's metadata: so it goes wherever the VM goes, and outlives whoever wrote it. It
is written before a file is made, so that a file that a crash leaves behind is known to be the VM's. What has
been removed is taken out: a file that has its path later is another's. Pure.
"""

from collections.abc import Iterable
from xml.etree import ElementTree as ET

NAMESPACE = "https://transhume.dev/xmlns/copies/1"
PREFIX = "copies"

Left = frozenset[tuple[str, str]]
"""Hosts and paths."""


def read_record(xml: str | None) -> Left:
    """Read a record; None is an empty one."""
    if xml is None:
        return frozenset()
    found = [one for one in ET.fromstring(xml).iter() if one.tag.rpartition("}")[2] == "copy"]
    return frozenset((one.get("host", ""), one.get("path", "")) for one in found)


def write_record(left: Iterable[tuple[str, str]]) -> str:
    """Write a record as libvirt takes it."""
    record = ET.Element("disks")
    for host, path in sorted(left):
        ET.SubElement(record, "copy", host=host, path=path)
    return ET.tostring(record, encoding="unicode")
