"""Which disks are copied, from a domain's XML and what two hosts see."""

from dataclasses import replace

import pytest

from transhume.deployment.model import CommonFiles
from transhume.execute.hypervisor.disks import (
    Backing,
    CannotCopyError,
    Disk,
    DiskCopy,
    Looks,
    Sight,
    copied_files,
    copy_of,
    disks_of,
    have_same_base,
    is_shared,
    may_be_local,
    sight_of,
    volume_xml,
)
from transhume.execute.hypervisor.left_copies import read_record, write_record

# As libvirt 11.3 describes a running domain.
XML = """<domain type='qemu' id='3'><name>g</name><devices>
<emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'>
  <driver name='qemu' type='qcow2'/>
  <source file='/images/over.qcow2' index='1'/>
  <backingStore type='file' index='2'>
    <format type='raw'/>
    <source file='/images/base.raw'/>
    <backingStore/>
  </backingStore>
  <target dev='vda' bus='virtio'/>
</disk>
<disk type='file' device='disk'>
  <driver name='qemu' type='raw'/>
  <source file='/images/own.raw' index='3'/>
  <backingStore/>
  <target dev='vdb' bus='virtio'/>
</disk>
<disk type='file' device='cdrom'>
  <source file='/images/cd.iso'/>
  <target dev='sda' bus='sata'/>
</disk>
<disk type='file' device='cdrom'><target dev='sdb' bus='sata'/></disk>
<disk type='file' device='disk'>
  <source file='/images/read.raw'/><target dev='vdc'/><readonly/>
</disk>
<disk type='file' device='disk'>
  <source file='/images/common.raw'/><target dev='vdd'/><shareable/>
</disk>
<disk type='network' device='disk'>
  <driver name='qemu' type='raw'/>
  <source protocol='rbd' name='pool/image'><host name='mon'/></source>
  <target dev='vde'/>
</disk>
<disk type='block' device='disk'>
  <driver name='qemu' type='raw'/>
  <source dev='/dev/vg/g' index='1'/><target dev='vdf'/>
</disk>
<disk type='file' device='disk'>
  <driver name='qemu' type='qcow2'/>
  <source file='/nfs/g.qcow2'/><target dev='vdg'/>
</disk>
</devices></domain>"""

VOLUME = """<volume type='file'><name>over.qcow2</name>
<key>/images/over.qcow2</key>
<capacity unit='bytes'>67108864</capacity>
<target><path>/images/over.qcow2</path><format type='qcow2'/>
<timestamps><atime>1795783464.143893063</atime><mtime>1795783352.455889685</mtime>
<ctime>1795783452.955892725</ctime></timestamps></target></volume>"""

DISK = Disk(target="vda", kind="file", path="/images/g.qcow2", format="qcow2")
SIGHT = Sight(pool_type="dir", changed_ns=1000, capacity_bytes=64, format="qcow2")


def looks(there: int | None, *, before: int = 1000, after: int = 1010) -> Looks:
    return Looks(
        before=replace(SIGHT, changed_ns=before),
        there=None if there is None else replace(SIGHT, changed_ns=there),
        after=replace(SIGHT, changed_ns=after),
    )


def test_only_writable_files_and_devices_that_nobody_calls_shared_may_be_local() -> None:
    found = [d.target for d in disks_of(XML) if may_be_local(d)]
    assert found == ["vda", "vdb", "vdf", "vdg"]
    assert [d.target for d in disks_of(XML) if may_be_local(d, folders("/nfs", "/dev/vg"))] == [
        "vda",
        "vdb",
    ]


def folders(*paths: str) -> CommonFiles:
    return CommonFiles(shared_folders=paths)


def test_a_folder_that_is_shared_is_not_one_whose_name_begins_alike() -> None:
    assert may_be_local(DISK, folders("/image", "/images/g"))
    assert not may_be_local(DISK, folders("/images"))


def test_a_roundabout_path_is_where_it_leads_to() -> None:
    roundabout = replace(DISK, path="/nfs/../images/g.qcow2")
    assert may_be_local(roundabout, folders("/nfs"))
    assert not may_be_local(roundabout, folders("/images"))


def test_formats_and_backing_images_are_read() -> None:
    first, second, *_ = disks_of(XML)
    assert (first.format, first.backing) == (
        "qcow2",
        Backing(path="/images/base.raw", format="raw"),
    )
    assert (second.format, second.backing) == ("raw", None)


OWN, SNAPSHOT, BASE = (f"/images/{name}.qcow2" for name in ("own", "snapshot", "base"))


def over(*paths: str) -> Disk:
    chain = tuple(Backing(path=path, format="qcow2") for path in paths)
    return replace(DISK, path=OWN, chain=chain)


@pytest.mark.parametrize(
    ("disks", "base_images", "copied"),
    [
        pytest.param([over(SNAPSHOT, BASE)], [], {OWN, SNAPSHOT, BASE}, id="all of it"),
        pytest.param([over(BASE)], [BASE], {OWN}, id="what is over a base image"),
        pytest.param([over(SNAPSHOT, BASE)], [BASE], {OWN, SNAPSHOT, BASE}, id="not right under"),
        pytest.param([over(BASE), over(SNAPSHOT)], [BASE], {OWN, SNAPSHOT, BASE}, id="one of two"),
        pytest.param([over(BASE), over()], [BASE], {OWN}, id="the other over nothing"),
        pytest.param([over("/images/../images/base.qcow2")], [BASE], {OWN}, id="a relative base"),
    ],
)
def test_only_what_is_over_base_images_is_copied_if_that_holds_for_all_disks(
    disks: list[Disk], base_images: list[str], copied: set[str]
) -> None:
    assert set(copied_files(disks, CommonFiles(base_images=tuple(base_images)))) == copied


def test_all_of_a_chain_is_read() -> None:
    nested = XML.replace(
        "<backingStore/>\n  </backingStore>",
        "<backingStore type='file'><format type='qcow2'/><source file='/images/deep.qcow2'/>"
        "<backingStore/></backingStore></backingStore>",
        1,
    )
    assert [each.path for each in next(iter(disks_of(nested))).chain] == [
        "/images/base.raw",
        "/images/deep.qcow2",
    ]


def test_a_domain_without_disks_has_none() -> None:
    assert disks_of("<domain><devices/></domain>") == ()


@pytest.mark.parametrize(
    ("there", "shared"),
    [
        pytest.param(1000, True, id="the same file at rest"),
        pytest.param(1005, True, id="the same file, being written to"),
        pytest.param(999, False, id="an older file"),
        pytest.param(1011, False, id="a newer file"),
        pytest.param(None, False, id="no file"),
    ],
)
def test_a_file_is_shared_if_both_hosts_see_its_last_change(
    there: int | None, shared: bool
) -> None:
    assert is_shared(looks(there)) is shared


def test_a_file_in_a_pool_on_the_network_is_shared() -> None:
    seen = Looks(before=replace(SIGHT, pool_type="netfs"), there=None, after=SIGHT)
    assert copy_of(DISK, seen, 64, stale=False) is None


def test_a_file_of_the_sources_own_is_copied_to_a_new_one() -> None:
    assert copy_of(DISK, looks(None), 640, stale=False) == DiskCopy(
        target="vda", path="/images/g.qcow2", format="qcow2", capacity_bytes=640
    )


def test_a_file_that_the_destination_has_already_is_not_overwritten() -> None:
    with pytest.raises(CannotCopyError, match="isn't overwritten"):
        copy_of(DISK, looks(5), 64, stale=False)


def test_a_copy_that_was_left_there_earlier_is_replaced() -> None:
    made = copy_of(DISK, looks(5), 64, stale=True)
    assert made is not None
    assert made.replaces_stale


def test_a_shared_file_is_left_alone_even_if_a_record_calls_it_stale() -> None:
    assert copy_of(DISK, looks(1000), 64, stale=True) is None


@pytest.mark.parametrize(
    ("disk", "why"),
    [
        pytest.param(replace(DISK, kind="block"), "block device", id="block device"),
        pytest.param(replace(DISK, format="vmdk"), "format vmdk", id="another format"),
    ],
)
def test_what_cannot_be_copied_is_refused_with_the_reason(disk: Disk, why: str) -> None:
    with pytest.raises(CannotCopyError, match=why):
        copy_of(disk, looks(None), 64, stale=False)


def test_a_base_image_of_another_size_or_format_is_another_one() -> None:
    assert have_same_base(looks(5))
    assert not have_same_base(looks(None))
    other = replace(SIGHT, capacity_bytes=65)
    assert not have_same_base(Looks(before=SIGHT, there=other, after=SIGHT))


def test_what_the_storage_driver_says_of_a_file_is_read_to_the_nanosecond() -> None:
    assert sight_of(VOLUME, "dir") == Sight(
        pool_type="dir",
        changed_ns=1_795_783_452_955_892_725,
        capacity_bytes=67_108_864,
        format="qcow2",
    )


def test_a_file_to_be_made_has_the_disks_name_size_format_and_backing() -> None:
    copy = DiskCopy(
        target="vda",
        path="/images/g.qcow2",
        format="qcow2",
        capacity_bytes=640,
        backing=Backing(path="/images/base.raw", format="raw"),
    )
    assert volume_xml(copy) == (
        '<volume><name>g.qcow2</name><capacity unit="bytes">640</capacity>'
        '<allocation unit="bytes">0</allocation><target><format type="qcow2" /></target>'
        "<backingStore><path>/images/base.raw</path>"
        '<format type="raw" /></backingStore></volume>'
    )


def test_a_record_is_read_as_it_was_written() -> None:
    left = {("a1", "/images/g <1>.qcow2"), ("b1", "/images/g.qcow2")}
    assert read_record(write_record(left)) == left
    assert read_record(None) == frozenset()
