"""A guest as libvirt is told of it. Pure.

Cluster, tags and addresses travel in the domain's metadata: so they survive migration, and the inventory reads
them wherever the VM is.
"""

from xml.etree import ElementTree as ET

from transhume.lab.spec import BRIDGE, GATEWAY, GuestSpec

VM_NAMESPACE = "https://transhume.dev/xmlns/vm/1"
KERNEL, INITRAMFS = "/opt/guest/vmlinuz", "/opt/guest/initrd"
"""In the clouds' root."""


def domain_xml(guest: GuestSpec) -> str:
    """Describe a guest to libvirt."""
    ET.register_namespace("transhume", VM_NAMESPACE)
    domain = ET.Element("domain", type="qemu")
    _add(domain, "name", guest.name)
    _add(domain, "memory", str(guest.memory_mib), unit="MiB")
    _add(domain, "vcpu", "1")
    metadata = _add(domain, "metadata")
    _add(
        metadata,
        f"{{{VM_NAMESPACE}}}vm",
        cluster=guest.cluster,
        tags=",".join(guest.tags),
        ips=guest.ip,
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
    interface = _add(devices, "interface", type="bridge")
    _add(interface, "mac", address=guest.mac)
    _add(interface, "source", bridge=BRIDGE)
    _add(interface, "model", type="virtio")
    serial = _add(devices, "serial", type="file")
    _add(serial, "source", path=f"/var/log/libvirt/{guest.name}.console")
    _add(serial, "target", port="0")
    _add(devices, "memballoon", model="none")
    return ET.tostring(domain, encoding="unicode")


def _kernel_arguments(guest: GuestSpec) -> str:
    sends = ",".join(f"{ip}:{rate}" for ip, rate in guest.sends.items())
    # The kernel hands arguments that it doesn't know to init, as its environment.
    return (
        "console=ttyS0 quiet panic=-1 ipv6.disable=1 mitigations=off "
        f"TH_NAME={guest.name} TH_ADDRESS={guest.ip}/24 TH_GATEWAY={GATEWAY} TH_SENDS={sends} "
        f"TH_MEMORY={guest.working_set_mib}:{guest.dirty_bytes_per_second}"
    )


def _add(parent: ET.Element, tag: str, text: str | None = None, **attributes: str) -> ET.Element:
    child = ET.SubElement(parent, tag, attributes)
    child.text = text
    return child
