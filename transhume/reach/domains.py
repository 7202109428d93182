"""What libvirt's XML says of a domain's interfaces, for whoever senses VMs and whoever carries their frames."""

from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element

from transhume.knowledge.model import Interface
from transhume.knowledge.written_addresses import usable_ips, usable_mac

VM_NAMESPACE = "https://transhume.dev/xmlns/vm/1"


def told_in(domain: Element) -> Mapping[str, str]:
    """Return what a domain's metadata tells Transhume, by attribute."""
    label = domain.find(f"metadata/{{{VM_NAMESPACE}}}vm")
    return label.attrib if label is not None else {}


def words(text: str) -> list[str]:
    """Return the words of an attribute, which has commas between them."""
    return [word.strip() for word in text.split(",") if word.strip()]


def interfaces_in(domain: Element) -> Iterator[tuple[Interface, str | None]]:
    """Yield a domain's interfaces, each with its bridge; the metadata's addresses are the first one's.

    What is no address is left out and told; anybody may write into the metadata.
    """
    name = f"VM {domain.findtext('name', '')}"
    ips = usable_ips(words(told_in(domain).get("ips", "")), name)
    for interface in domain.iterfind("devices/interface"):
        mac, source, target = map(interface.find, ("mac", "source", "target"))
        if mac is None:
            continue
        address, own, ips = usable_mac(mac.get("address", ""), name), ips, ()
        if address is not None:
            device = target.attrib.get("dev", "") if target is not None else ""
            bridge = source.get("bridge") if source is not None else None
            yield Interface(mac=address, ips=own, device=device), bridge
