"""A guest as libvirt is told of it. Pure.

Cluster, tags and addresses travel in the domain's metadata: so they survive migration, and the inventory reads
them wherever the VM is.
"""

from xml.etree import ElementTree as ET

from transhume.lab.disks import IMAGE, disk_path
from transhume.lab.spec import BRIDGE, GATEWAY, GATEWAY6, DiskSpec, GuestSpec
from transhume.reach.domains import VM_NAMESPACE

KERNEL, INITRAMFS = "/opt/guest/vmlinuz", "/opt/guest/initrd"
"""In the clouds' root."""


def domain_xml(guest: GuestSpec) -> str:
    """Describe a guest to libvirt."""
    ET.register_namespace("transhume", VM_NAMESPACE)
    domain = ET.Element("domain", type="qemu")
    _add(domain, "name", guest.name)
    _add(domain, "memory", str(guest.memory_mib), unit="MiB")
    if guest.shared_memory:
        backing = _add(domain, "memoryBacking")
        _add(backing, "source", type="memfd")
        _add(backing, "access", mode="shared")
    _add(domain, "vcpu", "1")
    metadata = _add(domain, "metadata")
    _add(
        metadata,
        f"{{{VM_NAMESPACE}}}vm",
        cluster=guest.cluster,
        tags=",".join(guest.tags),
        ips=",".join(ip for ip in (guest.ip, guest.ip6) if ip is not None),
    )
    system = _add(domain, "os")
    _add(system, "type", "hvm", arch="x86_64", machine="pc-q35-10.0")
    _add(system, "kernel", KERNEL)
    _add(system, "initrd", INITRAMFS)
    _add(system, "cmdline", _kernel_arguments(guest))
    _add(_add(domain, "features"), "acpi")
    _add(_add(domain, "cpu", mode="custom", match="exact"), "model", "qemu64")
    # A guest that panics or reboots is a failed test: it must be seen to be gone.
    _add(domain, "on_reboot", "destroy")
    _add(domain, "on_crash", "destroy")
    devices = _add(domain, "devices")
    _add(devices, "emulator", "/usr/bin/qemu-system-x86_64")
    if guest.disk is not None:
        _add_disk(devices, guest, guest.disk)
    interface = _add(devices, "interface", type="bridge")
    _add(interface, "mac", address=guest.mac)
    _add(interface, "source", bridge=BRIDGE)
    _add(interface, "model", type="virtio")
    serial = _add(devices, "serial", type="file")
    _add(serial, "source", path=f"/var/log/libvirt/{guest.name}.console")
    _add(serial, "target", port="0")
    _add(devices, "memballoon", model="none")
    return ET.tostring(domain, encoding="unicode")


def _add_disk(devices: ET.Element, guest: GuestSpec, disk: DiskSpec) -> None:
    added = _add(devices, "disk", type="file", device="disk")
    _add(added, "driver", name="qemu", type="qcow2" if disk.writable else "raw")
    _add(added, "source", file=disk_path(guest) if disk.writable else IMAGE)
    _add(added, "target", dev="vda", bus="virtio")
    if not disk.writable:
        _add(added, "readonly")


def _kernel_arguments(guest: GuestSpec) -> str:
    told = {
        "NAME": guest.name,
        "ADDRESS": f"{guest.ip}/24",
        "GATEWAY": GATEWAY,
        "SENDS": ",".join(f"{ip}:{rate}" for ip, rate in guest.sends.items()),
        "MEMORY": _words(guest.working_set_mib, guest.dirty_bytes_per_second),
        "UNIQUE": _words(guest.unique_mib, guest.number),
        "DISK": _disk_words(guest),
    }
    if guest.ip6 is not None:
        told |= {"ADDRESS6": f"{guest.ip6}/64", "GATEWAY6": GATEWAY6}
    if guest.writer_bytes_per_second:
        told["WRITE"] = _words(guest.writer_mib, guest.writer_bytes_per_second, guest.number)
    # The kernel hands arguments that it doesn't know to init, as its environment.
    return " ".join(
        [
            f"console=ttyS0 quiet panic=-1 ipv6.disable={int(guest.ip6 is None)} mitigations=off",
            *(f"TH_{name}={value}" for name, value in told.items()),
        ]
    )


def _disk_words(guest: GuestSpec) -> str:
    disk = guest.disk
    if disk is None:
        return ""
    if not disk.writable:
        return "ro"
    return "rw:" + _words(disk.own_mib, disk.own_bytes_per_second, guest.number)


def _words(mib: int, *others: int) -> str:
    """Write a role's numbers for init; nothing where there is nothing to keep."""
    return ":".join(map(str, (mib, *others))) if mib else ""


def _add(parent: ET.Element, tag: str, text: str | None = None, **attributes: str) -> ET.Element:
    child = ET.SubElement(parent, tag, attributes)
    child.text = text
    return child
