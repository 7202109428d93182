"""One site's end of the tunnels: a VXLAN device on the site's bridge, and where it sends what.

Owns the netlink messages; the kernel carries the frames. Two tables decide: the bridge's (which port a MAC is
behind) and the VXLAN device's own (which site it is at). Nothing learns from the tunnel: under a WAN's delay,
frames that are still in flight would teach the place that a VM has just left. So a remote MAC needs an entry in
both tables, and a MAC that comes home must leave both, or a VM that says nothing stays unreachable.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from transhume.deployment.model import OverlayNetwork, OverlaySite
from transhume.errors import OverlayError
from transhume.knowledge.model import MacAddress

EVERYBODY = MacAddress("00:00:00:00:00:00")
"""The VXLAN entry for frames without one of their own: broadcast, multicast, unknown."""

_SELF, _MASTER, _EXTERNALLY_LEARNED = 0x02, 0x04, 0x10
_NOARP, _PERMANENT = 0x40, 0x80
_STATIC = _NOARP | _PERMANENT
_UP = 0x01


class TunnelEnd:
    """What one site does with frames for other sites. Blocking; for the thread that made `netlink`."""

    def __init__(self, netlink: Any, network: OverlayNetwork, site: OverlaySite) -> None:
        self._netlink = netlink
        self._network = network
        self._site = site
        self._others = tuple(other.vtep for other in network.sites if other.name != site.name)

    def join(self) -> None:
        """Make the device where it isn't as it should be, and tell it of the other sites."""
        bridge = self._need_bridge()
        self._need_underlay()
        device = self._find(self._network.device)
        if device is not None and not self._is_ours(device):
            self._netlink.link("del", index=device["index"])
            device = None
        index = device["index"] if device else self._make_device()
        self._netlink.link("set", index=index, master=bridge)
        self._netlink.brport("set", index=index, learning=0)
        self._netlink.link("set", index=index, state="up")
        known = {entry.get("dst") for entry in self._entries(index, EVERYBODY, _SELF)}
        for vtep in known - set(self._others):
            self._netlink.fdb("del", ifindex=index, lladdr=EVERYBODY, dst=vtep, flags=_SELF)
        for vtep in set(self._others) - known:
            self._netlink.fdb(
                "append", ifindex=index, lladdr=EVERYBODY, dst=vtep, flags=_SELF, state=_STATIC
            )

    def send_away(self, macs: Sequence[MacAddress], vtep: str) -> None:
        """Send frames for `macs` to another site."""
        index = self._need_device()
        for mac in macs:
            self._netlink.fdb(
                "replace", ifindex=index, lladdr=mac, dst=vtep, flags=_SELF, state=_STATIC
            )
            self._netlink.fdb(
                "replace",
                ifindex=index,
                lladdr=mac,
                flags=_MASTER | _EXTERNALLY_LEARNED,
                state=_NOARP,
            )

    def keep(self, macs: Sequence[MacAddress]) -> None:
        """Let frames for `macs` stay at this site."""
        index = self._need_device()
        for mac in macs:
            for table in (_SELF, _MASTER):
                if self._entries(index, mac, table):
                    self._netlink.fdb("del", ifindex=index, lladdr=mac, flags=table)

    def faults(self, macs: Sequence[MacAddress], owner: OverlaySite) -> Iterator[str]:
        """Say what keeps frames for `macs` from reaching `owner`."""
        device = self._find(self._network.device)
        if device is None:
            yield f"{self._site.name}: there is no {self._network.device}; join the overlay"
            return
        yield from self._device_faults(device)
        index = device["index"]
        away = () if owner.name == self._site.name else (owner.vtep,)
        for mac in macs:
            seen = tuple(entry.get("dst") for entry in self._entries(index, mac, _SELF))
            if seen != away:
                yield f"{self._site.name}: {mac} goes to {seen or 'nowhere'}, not {away or 'here'}"
            behind_tunnel = bool(self._entries(index, mac, _MASTER))
            if behind_tunnel != bool(away):
                where = "behind the tunnel" if behind_tunnel else "not behind the tunnel"
                yield f"{self._site.name}: {self._site.bridge} has {mac} {where}"

    def remove(self) -> None:
        """Remove the device, and all its entries with it."""
        device = self._find(self._network.device)
        if device is not None:
            self._netlink.link("del", index=device["index"])

    def _device_faults(self, device: Any) -> Iterator[str]:
        if not device["flags"] & _UP:
            yield f"{self._site.name}: {self._network.device} is down"
        bridge = self._find(self._site.bridge)
        if bridge is None or device.get("master") != bridge["index"]:
            yield f"{self._site.name}: {self._network.device} isn't a port of {self._site.bridge}"
        known = {entry.get("dst") for entry in self._entries(device["index"], EVERYBODY, _SELF)}
        for vtep in sorted(set(self._others) - known):
            yield f"{self._site.name}: broadcasts don't go to {vtep}"

    def _make_device(self) -> int:
        # No `link`: bound to the underlay, the device would refuse frames as long as the bridge's. As it is, a
        # frame too long for the underlay is answered with "fragmentation needed" instead of being lost.
        self._netlink.link(
            "add",
            ifname=self._network.device,
            kind="vxlan",
            vxlan_id=self._network.vni,
            vxlan_port=self._network.port,
            vxlan_local=self._site.vtep,
            vxlan_learning=0,
        )
        return int(self._find(self._network.device)["index"])

    def _is_ours(self, device: Any) -> bool:
        info = device.get(("linkinfo", "data"))
        return device.get(("linkinfo", "kind")) == "vxlan" and (
            info.get("vxlan_id"),
            info.get("vxlan_port"),
            info.get("vxlan_local"),
            info.get("vxlan_learning"),
        ) == (self._network.vni, self._network.port, self._site.vtep, 0)

    def _entries(self, index: int, mac: MacAddress, table: int) -> list[Any]:
        found = self._netlink.fdb("dump", ifindex=index, lladdr=mac)
        return [entry for entry in found if bool(entry.get("master")) == (table == _MASTER)]

    def _find(self, name: str) -> Any:
        with suppress(StopIteration):
            return next(iter(self._netlink.link("dump", ifname=name)))
        return None

    def _need_bridge(self) -> int:
        bridge = self._find(self._site.bridge)
        if bridge is None or bridge.get(("linkinfo", "kind")) != "bridge":
            raise OverlayError(
                f"site {self._site.name}: there is no bridge {self._site.bridge}{self._where()}; make it, or "
                "name the bridge of the VMs in the deployment file"
            )
        return int(bridge["index"])

    def _need_underlay(self) -> None:
        underlay = self._find(self._site.underlay)
        addresses = (
            {a.get("address") for a in self._netlink.addr("dump", index=underlay["index"])}
            if underlay
            else set()
        )
        if self._site.vtep not in addresses:
            raise OverlayError(
                f"site {self._site.name}: {self._site.underlay}{self._where()} doesn't have the address "
                f"{self._site.vtep}; give it that, or correct `underlay` and `vtep` in the deployment file"
            )

    def _need_device(self) -> int:
        device = self._find(self._network.device)
        if device is None:
            raise OverlayError(
                f"site {self._site.name}: {self._network.device} is gone; join the overlay again"
            )
        return int(device["index"])

    def _where(self) -> str:
        return f" in namespace {self._site.netns}" if self._site.netns else ""
