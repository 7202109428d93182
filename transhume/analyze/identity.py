"""Which VM an address belongs to: the MAC address decides, and the IP address where it can't.

Owns the mapping from endpoints to VMs, and the guess at VMs where there is no inventory (a capture file and
nothing else). Talks to nobody.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from transhume.knowledge.model import (
    NOTHING,
    Endpoint,
    Interface,
    IpAddress,
    MacAddress,
    TrafficWindow,
    Vm,
    VmName,
)

ROUTER_ADDRESSES = 4
"""A MAC address that speaks for this many IP addresses of one family is a router's."""
_BROADCAST = IpAddress("255.255.255.255")


class Identities:
    """The VMs' rows, by MAC and by IP address."""

    def __init__(self, vms: Iterable[Vm]) -> None:
        self.vms = tuple(vms)
        self._by_mac: dict[MacAddress, int] = {}
        self._by_ip: dict[IpAddress, int] = {}
        for row, vm in enumerate(self.vms):
            for interface in vm.interfaces:
                if interface.mac:
                    self._by_mac.setdefault(MacAddress(interface.mac.lower()), row)
                for ip in interface.ips:
                    self._by_ip.setdefault(ip, row)

    def row(self, endpoint: Endpoint) -> int | None:
        """Return the row of the VM at an end, or None where it is none's."""
        found = self._by_mac.get(endpoint.mac)
        if found is None and endpoint.ip is not None:
            return self._by_ip.get(endpoint.ip)
        return found


def is_multicast(endpoint: Endpoint) -> bool:
    """Say whether an end is many: broadcast or multicast, by MAC address or, without one, by IP address."""
    if endpoint.mac:
        return bool(int(endpoint.mac[1], 16) & 1)
    if endpoint.ip is None:
        return False
    return endpoint.ip == _BROADCAST or ip_address(endpoint.ip).is_multicast


def vms_from_windows(windows: Iterable[TrafficWindow]) -> tuple[Vm, ...]:
    """Guess the VMs from traffic alone: one for each MAC address, in the order of their names.

    A VM is called by its IP address where it has exactly one, else by its MAC address. A MAC address behind
    which there are many IP addresses is a router's: what lies beyond it is outside. Where the capture has no
    MAC addresses, each IP address is a VM.
    """
    ips_of: dict[MacAddress, set[IpAddress]] = defaultdict(set)
    bare: set[IpAddress] = set()
    for window in windows:
        for pair in window.pairs:
            for end in (pair.source, pair.destination):
                if is_multicast(end):
                    continue
                if end.mac:
                    ips_of[end.mac].update(_host_address(end))
                else:
                    bare.update(_host_address(end))
    machines = {mac: ips for mac, ips in ips_of.items() if not _is_router(ips)}
    known = {ip for ips in ips_of.values() for ip in ips}
    found = [_vm(name, mac, machines[mac]) for mac, name in _names(machines).items()]
    found += [_vm(VmName(ip), MacAddress(""), {ip}) for ip in bare - known]
    return tuple(sorted(found, key=lambda vm: _natural(vm.name)))


def _host_address(end: Endpoint) -> Iterable[IpAddress]:
    if end.ip is None:
        return ()
    address = ip_address(end.ip)
    odd = address.is_unspecified or address.is_link_local or address.is_multicast
    return () if odd or end.ip == _BROADCAST else (end.ip,)


def _is_router(ips: Iterable[IpAddress]) -> bool:
    """Say whether a MAC address speaks for others: for many, or for private and public addresses alike."""
    for of_family in _families(ips):
        public = sum(ip_address(ip).is_global for ip in of_family)
        if len(of_family) >= ROUTER_ADDRESSES or 0 < public < len(of_family):
            return True
    return False


def _names(machines: Mapping[MacAddress, set[IpAddress]]) -> dict[MacAddress, VmName]:
    """Name each machine; an IP address that two of them have names neither."""
    preferred = {mac: _only_address(ips) for mac, ips in machines.items()}
    taken = Counter(preferred.values())
    return {
        mac: VmName(ip if ip is not None and taken[ip] == 1 else mac)
        for mac, ip in preferred.items()
    }


def _only_address(ips: Iterable[IpAddress]) -> IpAddress | None:
    """Return the one IPv4 address or, without any, the one IPv6 address."""
    for of_family in _families(ips):
        if of_family:
            return of_family[0] if len(of_family) == 1 else None
    return None


def _families(ips: Iterable[IpAddress]) -> tuple[list[IpAddress], list[IpAddress]]:
    return [ip for ip in ips if ":" not in ip], [ip for ip in ips if ":" in ip]


def _vm(name: VmName, mac: MacAddress, ips: Iterable[IpAddress]) -> Vm:
    return Vm(
        name=name,
        uuid=mac or name,
        needs=NOTHING,
        interfaces=(Interface(mac=mac, ips=tuple(sorted(ips))),),
    )


def _natural(name: VmName) -> tuple[int, bytes | str]:
    """Sort IP addresses by their value, before the names that aren't any."""
    try:
        return 0, ip_address(name).packed.rjust(16, b"\0")
    except ValueError:
        return 1, name
