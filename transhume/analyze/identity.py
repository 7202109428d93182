"""Which VM an address belongs to: the MAC address decides, and the IP address where it can't.

A VM is known by its interfaces, not by where it runs, so that it stays the same VM when it changes hosts. An IP
address is a VM's because the inventory says so or, where nobody says whose it is, because one of the VM's MAC
addresses claimed it in the traffic (ARP, neighbour discovery, DHCP). Of two VMs that claimed one address, the
later claim in the whole stretch of time counts. What a stranger claims changes nothing: a router answers for
addresses that it only passes on.

Owns the look-up, for many address rows at once. Talks to nobody.
"""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from transhume.analyze.distinct import Words, distinct
from transhume.analyze.sightings import Sightings
from transhume.knowledge.model import DESTINATION_MAC, SOURCE_MAC, AddressPairs, Vm
from transhume.knowledge.model.traffic import Rows

NOBODY = -1
Side = Literal["source", "destination"]


class Identities:
    """The VMs' rows, by MAC and by IP address; an address that two VMs are said to have is the first one's.

    Args:
        vms: in the order of their rows.
        sightings: what claims of IP addresses are learned from, if from any.
    """

    def __init__(self, vms: Iterable[Vm], sightings: Sightings | None = None) -> None:
        self.vms = tuple(vms)
        by_mac: dict[bytes, int] = {}
        by_ip: dict[tuple[int, bytes], int] = {}
        for row, vm in enumerate(self.vms):
            for interface in vm.interfaces:
                mac = packed_mac(interface.mac)
                if mac is not None:
                    by_mac.setdefault(mac, row)
                for text in interface.ips:
                    ip = _packed_ip(text)
                    if ip is not None:
                        by_ip.setdefault(ip, row)
        macs = sorted((int.from_bytes(mac, "big"), row) for mac, row in by_mac.items())
        self.macs = np.array([mac for mac, _ in macs], dtype=np.int64)
        """The VMs' MAC addresses as numbers, in order."""
        self._vm_of_mac = np.array([row for _, row in macs], dtype=np.int32)
        if sightings is not None:
            by_ip = self._claimed(sightings) | by_ip
        self._by_ip = {version: _index(by_ip, version) for version in (4, 6)}

    def interfaces(self, rows: AddressPairs, side: Side) -> Rows:
        """Return the place in `macs` of the MAC address at one end of rows, -1 where it is no VM's."""
        return np.where(
            has_mac(rows, side), _find(self.macs, mac_numbers(rows[f"{side}_mac"])), NOBODY
        )

    def vm_of(self, interface: Rows) -> Rows:
        """Return whose interfaces are, given by their place in `macs`."""
        return _at(self._vm_of_mac, interface)

    def by_ip(self, rows: AddressPairs, side: Side) -> Rows:
        """Return whose the IP address at one end of rows is, whatever the MAC address."""
        found = np.full(len(rows), NOBODY, dtype=np.int32)
        for version, (known, vm_of_ip) in self._by_ip.items():
            of_version = np.flatnonzero(rows["family"] == version)
            if len(of_version) and len(known):
                wanted = _comparable(rows[f"{side}_ip"][of_version], version)
                found[of_version] = _at(vm_of_ip, _find(known, wanted))
        return found

    def _claimed(self, sightings: Sightings) -> dict[tuple[int, bytes], int]:
        """Return whose the claimed IP addresses are."""
        number, when = sightings.claims
        vm = self.vm_of(self.interfaces(sightings.addresses[number], "source"))
        rows, when, vm = (
            column[vm != NOBODY] for column in (sightings.addresses[number], when, vm)
        )
        first, which = distinct(_claim_words(rows))
        latest = np.full(len(first), np.iinfo(np.int64).min)
        np.maximum.at(latest, which, when)
        claims = sorted(
            (
                int(at),
                row["source_mac"].tobytes(),
                int(row["family"]),
                row["source_ip"].tobytes(),
                whose,
            )
            for at, row, whose in zip(latest, rows[first], vm[first].tolist(), strict=True)
        )
        return {(family, ip): whose for _, _, family, ip, whose in claims if family and any(ip)}


def has_mac(rows: AddressPairs, side: Side) -> NDArray[np.bool_]:
    """Say which rows have a MAC address at one end."""
    flag = SOURCE_MAC if side == "source" else DESTINATION_MAC
    return np.asarray(rows["flags"] & flag > 0)


def is_many(rows: AddressPairs, side: Side) -> NDArray[np.bool_]:
    """Say where an end is many: broadcast or multicast, by MAC address or, without one, by IP address."""
    family, ip = rows["family"], rows[f"{side}_ip"]
    four = (family == 4) & ((ip[:, 0] & 0xF0 == 0xE0) | (ip[:, :4] == 0xFF).all(axis=1))
    six = (family == 6) & (ip[:, 0] == 0xFF)
    return np.asarray(np.where(has_mac(rows, side), rows[f"{side}_mac"][:, 0] & 1 == 1, four | six))


def mac_numbers(packed: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return MAC addresses (rows of 6 bytes) as numbers."""
    padded = np.zeros((len(packed), 8), dtype=np.uint8)
    padded[:, 2:] = packed
    return padded.view(">u8").reshape(-1).astype(np.int64)


def packed_mac(text: str) -> bytes | None:
    """Return a MAC address as bytes; None where the text is none."""
    try:
        packed = bytes.fromhex(text.replace(":", "").replace("-", ""))
    except ValueError:
        return None
    return packed if len(packed) == 6 else None


def _packed_ip(text: str) -> tuple[int, bytes] | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address.version, address.packed.ljust(16, b"\0")


def _claim_words(rows: AddressPairs) -> Words:
    """Return who claims what, as words to compare."""
    words = np.zeros((len(rows), 4), dtype=np.uint64)
    words[:, :2] = np.ascontiguousarray(rows["source_ip"]).view("<u8")
    words[:, 2] = mac_numbers(rows["source_mac"]).astype(np.uint64)
    words[:, 3] = rows["family"]
    return words


def _index(by_ip: Mapping[tuple[int, bytes], int], version: int) -> tuple[NDArray[Any], Rows]:
    known = {packed: vm for (family, packed), vm in by_ip.items() if family == version}
    packed = np.frombuffer(b"".join(known), dtype=np.uint8).reshape(-1, 16)
    keys = _comparable(packed, version)
    order = np.argsort(keys, kind="stable")
    return keys[order], np.array(list(known.values()), dtype=np.int32)[order]


def _comparable(packed: NDArray[np.uint8], version: int) -> NDArray[Any]:
    """Return IP addresses as what NumPy can sort and find."""
    if version == 4:
        return np.ascontiguousarray(packed[:, :4]).view(">u4").reshape(-1).astype(np.int64)
    # Fixed-size text sorts like the bytes that it is; the zeros that it hides at the end make no difference.
    return np.ascontiguousarray(packed).view("S16").reshape(-1)


def _find(known: NDArray[Any], wanted: NDArray[Any]) -> Rows:
    """Return the place of each wanted value among sorted ones, -1 where it isn't there."""
    if not len(known):
        return np.full(len(wanted), NOBODY, dtype=np.int32)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, at, NOBODY).astype(np.int32)


def _at(vms: Rows, place: Rows) -> Rows:
    """Return the VM at each place, nobody at -1."""
    return np.append(vms, np.int32(NOBODY))[place]
