"""What libvirt's XML says of a domain's interfaces, for whoever senses VMs and whoever carries their frames."""

from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element

from transhume.knowledge.model import Interface, IpAddress, MacAddress

VM_NAMESPACE = "https://transhume.dev/xmlns/vm/1"


def told_in(domain: Element) -> Mapping[str, str]:
    """Return what a domain's metadata tells Transhume, by attribute."""
    label = domain.find(f"metadata/{{{VM_NAMESPACE}}}vm")
    return label.attrib if label is not None else {}


def words(text: str) -> list[str]:
    """Return the words of an attribute, which has commas between them."""
    return [word.strip() for word in text.split(",") if word.strip()]


def interfaces_in(domain: Element) -> Iterator[tuple[Interface, str | None]]:
    """Yield a domain's interfaces, each with its bridge; the metadata's addresses are the first one's."""
    ips = tuple(IpAddress(ip) for ip in words(told_in(domain).get("ips", "")))
    for interface in domain.iterfind("devices/interface"):
        mac, source, target = map(interface.find, ("mac", "source", "target"))
        if mac is None:
            continue
        yield (
            Interface(
                mac=MacAddress(mac.attrib["address"].lower()),
                ips=ips,
                device=target.attrib.get("dev", "") if target is not None else "",
            ),
            source.get("bridge") if source is not None else None,
        )
        ips = ()
