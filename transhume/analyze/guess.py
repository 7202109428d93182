"""VMs guessed from traffic alone, where there is no inventory: a capture file and nothing else.

One VM for each MAC address that isn't a router's. A MAC address speaks for a router's far side when it sends
from many IP addresses, or from private and public ones alike, unless it claimed each of them itself (by ARP,
neighbour discovery or DHCP): a router passes on what it never claims, and a machine claims what it has. Owns
the guess and the names; whose an address is after that is in `identity`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from transhume.analyze.distinct import Words, distinct, run_starts
from transhume.analyze.identity import Side, has_mac, is_many, mac_numbers
from transhume.analyze.sightings import Sightings, sightings_of
from transhume.knowledge.model import (
    CLAIM,
    NOTHING,
    UNKNOWN_MAC,
    AddressPairs,
    Interface,
    IpAddress,
    MacAddress,
    TrafficWindow,
    Vm,
    VmName,
    ip_text,
    mac_text,
)

ROUTER_ADDRESSES = 4
"""A MAC address that sends from this many IP addresses of one family, unclaimed, is a router's."""
_MAC_KNOWN = np.uint64(1 << 48)
_MAC = np.uint64((1 << 48) - 1)
_MAC_COLUMN, _FAMILY_COLUMN = 0, 3


@dataclass(frozen=True, slots=True)
class _Ends:
    """Distinct ends of frames, in order: MAC address and whether it is known, IP address, family.

    The family is 0 where there is no IP address, or one that is no machine's own.
    """

    words: Words
    claimed: NDArray[np.bool_]

    def only(self, kept: NDArray[np.bool_]) -> "_Ends":
        return _Ends(self.words[kept], self.claimed[kept])

    @property
    def ips(self) -> list[IpAddress]:
        """The IP addresses: of IPv4 first."""
        texts = (ip_text(words[1:3].tobytes(), int(words[_FAMILY_COLUMN])) for words in self.words)
        return [text for text in texts if text is not None]

    @property
    def is_router(self) -> bool:
        """Say whether the one MAC address of these ends speaks for others."""
        if self.claimed[self.words[:, _FAMILY_COLUMN] > 0].all():
            return False
        for family in (4, 6):
            of_family = self.only(self.words[:, _FAMILY_COLUMN] == family)
            if len(of_family.words) >= ROUTER_ADDRESSES:
                return True
            public = sum(ip_address(ip).is_global for ip in of_family.ips)
            if 0 < public < len(of_family.words):
                return True
        return False


def vms_from_windows(windows: Iterable[TrafficWindow]) -> tuple[Vm, ...]:
    """Guess the VMs from windows of traffic; see `vms_from_sightings`."""
    return vms_from_sightings(sightings_of(windows))


def vms_from_sightings(sightings: Sightings) -> tuple[Vm, ...]:
    """Guess the VMs from traffic alone: one for each MAC address, in the order of their names.

    A VM is called by its IP address where it has exactly one, else by its MAC address. What lies beyond a
    router is outside. Where the capture has no MAC addresses, each IP address is a VM.
    """
    ends = _ends(sightings.addresses)
    with_mac = ends.words[:, _MAC_COLUMN] >= _MAC_KNOWN
    machines = {mac: each.ips for mac, each in _by_mac(ends.only(with_mac)) if not each.is_router}
    found = [_vm(name, mac, machines[mac]) for mac, name in _names(machines).items()]
    found += [_vm(VmName(ip), UNKNOWN_MAC, [ip]) for ip in _bare(ends, with_mac)]
    return tuple(sorted(found, key=lambda vm: _natural(vm.name)))


def _by_mac(ends: _Ends) -> Iterator[tuple[MacAddress, _Ends]]:
    """Yield the ends of each MAC address."""
    starts = np.flatnonzero(run_starts(ends.words[:, _MAC_COLUMN])).tolist()
    for first, after in pairwise([*starts, len(ends.words)]):
        mac = int(ends.words[first, _MAC_COLUMN] & _MAC).to_bytes(6, "big")
        yield mac_text(mac), _Ends(ends.words[first:after], ends.claimed[first:after])


def _bare(ends: _Ends, with_mac: NDArray[np.bool_]) -> list[IpAddress]:
    """Return the IP addresses that were never seen with a MAC address."""
    if with_mac.all():
        return []
    known = {words[1:].tobytes() for words in ends.words[with_mac]}
    fresh = [
        not has_mac and words[1:].tobytes() not in known
        for words, has_mac in zip(ends.words, with_mac.tolist(), strict=True)
    ]
    return ends.only(np.array(fresh, dtype=bool)).ips


def _ends(rows: AddressPairs) -> _Ends:
    """Return the distinct ends of address rows, by MAC address, family and IP address."""
    source, destination = _side(rows, "source"), _side(rows, "destination")
    claims = np.concatenate([rows["flags"] & CLAIM > 0, np.zeros(len(rows), dtype=bool)])
    machine = ~np.concatenate([is_many(rows, "source"), is_many(rows, "destination")])
    words, claims = np.concatenate([source, destination])[machine], claims[machine]
    first, which = distinct(words)
    claimed = np.zeros(len(first), dtype=bool)
    claimed[which[claims]] = True
    words = words[first]
    order = np.lexsort((words[:, 2], words[:, 1], words[:, _FAMILY_COLUMN], words[:, _MAC_COLUMN]))
    return _Ends(words[order], claimed[order])


def _side(rows: AddressPairs, side: Side) -> Words:
    """Return one end of each row as words; an IP address that is no machine's own is left out."""
    words = np.zeros((len(rows), 4), dtype=np.uint64)
    known = has_mac(rows, side)
    words[known, _MAC_COLUMN] = (
        mac_numbers(rows[f"{side}_mac"][known]).astype(np.uint64) | _MAC_KNOWN
    )
    own = _is_own(rows["family"], rows[f"{side}_ip"])
    words[own, 1:3] = np.ascontiguousarray(rows[f"{side}_ip"][own]).view("<u8")
    words[own, _FAMILY_COLUMN] = rows["family"][own]
    return words


def _is_own(family: NDArray[np.uint8], ip: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Say which IP addresses are one machine's: neither unspecified nor link-local nor many's."""
    four = (family == 4) & (ip[:, 0] & 0xF0 != 0xE0) & ~(ip[:, :4] == 0xFF).all(axis=1)
    four &= ~((ip[:, 0] == 169) & (ip[:, 1] == 254))
    six = (family == 6) & (ip[:, 0] != 0xFF) & ~((ip[:, 0] == 0xFE) & (ip[:, 1] & 0xC0 == 0x80))
    return np.asarray((four | six) & ip.any(axis=1))


def _names(machines: Mapping[MacAddress, Sequence[IpAddress]]) -> dict[MacAddress, VmName]:
    """Name each machine; an IP address that two of them have names neither."""
    preferred = {mac: _only_address(ips) for mac, ips in machines.items()}
    taken = Counter(preferred.values())
    return {
        mac: VmName(ip if ip is not None and taken[ip] == 1 else mac)
        for mac, ip in preferred.items()
    }


def _only_address(ips: Sequence[IpAddress]) -> IpAddress | None:
    """Return the one IPv4 address or, without any, the one IPv6 address."""
    of_four = [ip for ip in ips if ":" not in ip]
    of_family = of_four or ips
    return of_family[0] if len(of_family) == 1 else None


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
