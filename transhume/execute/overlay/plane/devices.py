"""The tunnels' ends at a site: two VXLAN devices, ports of the site's bridge.

Owns their making and their checking, by pyroute2: it happens once, and may take its milliseconds. Nothing
learns from a tunnel: under a WAN's delay, frames that are still in flight would teach the place that a VM has
just left. Nothing is flooded into one but broadcasts and multicasts, and into the detour not even these. ARP
and neighbour discovery for what is known are answered by the bridge instead of asking the other sites.
"""

from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import structlog

from transhume.deployment.model import OverlayNetwork, OverlaySite
from transhume.errors import OverlayError
from transhume.execute.overlay.plane.names import tunnel_devices
from transhume.reach import sysfs
from transhume.reach.netns import inside

log = structlog.get_logger()

_UP = 0x01
_GATHERING_NANOSECONDS = 50_000
"""How long a segment that came by a program's tun device waits for the next ones of its connection, to be one
with them on its way to the VM. They come one at a time by such a device, and each would cost bridge, tap and VM
as much as all of them; other devices bring several at once."""
_QUIET = {"learning": 0, "unicast_flood": 0, "neigh_suppress": 1}
_SILENT = _QUIET | {"mcast_flood": 0, "bcast_flood": 0}
"""How the bridge treats a tunnel's port, and the detour's."""


class Devices:
    """A site's two tunnel devices. Blocking; for the thread that made `netlink`."""

    def __init__(
        self, netlink: Any, network: OverlayNetwork, site: OverlaySite, *, floods_unknown: bool
    ) -> None:
        self._netlink = netlink
        self._network = network
        self._site = site
        self._ports = (_QUIET | {"unicast_flood": int(floods_unknown)}, _SILENT)

    def make(self) -> None:
        """Make what isn't as it should be; what is stays, with its entries.

        Raises:
            OverlayError: the site lacks its bridge or its underlay, or the bridge is another network's.
        """
        bridge = self._need_bridge()
        gathers = _is_tun(self._need_underlay())
        self._refuse_strangers(bridge["index"])
        self._pin_address(bridge)
        for detour in (False, True):
            index = self._have_device(detour=detour, mtu=bridge.get("mtu"), gathers=gathers)
            self._netlink.link("set", index=index, master=bridge["index"])
            self._netlink.brport("set", index=index, **self._ports[detour])
            self._netlink.link("set", index=index, state="up")

    def faults(self) -> Iterator[str]:
        """Say what isn't as `make` makes it."""
        bridge = self._find(self._site.bridge)
        for detour, name in enumerate(tunnel_devices(self._network)):
            device = self._find(name)
            if device is None:
                yield f"{self._site.name}: there is no {name}; join the overlay"
                continue
            if not self._is_ours(device, detour=bool(detour)):
                yield f"{self._site.name}: {name} has another number, port or address; join the overlay"
            if not device["flags"] & _UP:
                yield f"{self._site.name}: {name} is down"
            if bridge is None or device.get("master") != bridge["index"]:
                yield f"{self._site.name}: {name} isn't a port of {self._site.bridge}"
            elif wrong := self._wrong_settings(device["index"], detour=bool(detour)):
                yield f"{self._site.name}: {name} as a port of {self._site.bridge} has {wrong}"

    def remove(self) -> None:
        """Remove the devices, and all their entries with them."""
        for name in tunnel_devices(self._network):
            device = self._find(name)
            if device is not None:
                self._netlink.link("del", index=device["index"])

    def underlay_mtu(self) -> int:
        """Return how long a packet of the tunnels may be."""
        return int(self._need_underlay().get("mtu"))

    def _pin_address(self, bridge: Any) -> None:
        """Let the bridge keep its address, before it gets the first port of ours.

        One that was never given an address takes the lowest of its ports', and forgets all neighbours whenever
        that changes: by a tap that comes or goes. It forgets them now too, so this isn't done again.
        """
        device = self._find(self._network.device)
        if device is None or device.get("master") != bridge["index"]:
            self._netlink.link("set", index=bridge["index"], address=bridge.get("address"))

    def _have_device(self, *, detour: bool, mtu: int, gathers: bool) -> int:
        name = tunnel_devices(self._network)[detour]
        device = self._find(name)
        if device is not None and not self._is_ours(device, detour=detour):
            self._netlink.link("del", index=device["index"])
            device = None
        if device is None:
            # No `link`: bound to the underlay, the device would refuse frames as long as the bridge's. As it
            # is, a frame too long for the underlay is answered with "fragmentation needed", not lost.
            settings = self._settings(detour=detour)
            self._netlink.link("add", ifname=name, kind="vxlan", mtu=mtu, **settings)
            if gathers:
                self._gather(name)
            device = self._find(name)
        return int(device["index"])

    def _gather(self, name: str) -> None:
        try:
            with inside(self._site.netns):
                sysfs.write(name, "gro_flush_timeout", str(_GATHERING_NANOSECONDS))
        except OSError as error:  # TCP is slower, and everything works
            log.info("segments_not_gathered", site=self._site.name, device=name, why=str(error))

    def _settings(self, *, detour: bool) -> dict[str, Any]:
        local = "vxlan_local" if ip_address(self._site.vtep).version == 4 else "vxlan_local6"
        return {
            "vxlan_id": self._network.detour_vni if detour else self._network.vni,
            "vxlan_port": self._network.port,
            local: self._site.vtep,
            "vxlan_learning": 0,
        }

    def _is_ours(self, device: Any, *, detour: bool) -> bool:
        if device.get(("linkinfo", "kind")) != "vxlan":
            return False
        info = device.get(("linkinfo", "data"))
        wanted = self._settings(detour=detour)
        return {name: info.get(name) for name in wanted} == wanted

    def _wrong_settings(self, index: int, *, detour: bool) -> str:
        for port in self._netlink.brport("dump"):
            if port["index"] == index:
                found = {name: port.get(("protinfo", name)) for name in self._ports[detour]}
                wrong = (
                    f"{name} {found[name]}"
                    for name, wanted in self._ports[detour].items()
                    if found[name] != wanted
                )
                return ", ".join(wrong)
        return ""

    def _find(self, name: str) -> Any:
        with suppress(StopIteration):
            return next(iter(self._netlink.link("dump", ifname=name)))
        return None

    def _need_bridge(self) -> Any:
        bridge = self._find(self._site.bridge)
        if bridge is None or bridge.get(("linkinfo", "kind")) != "bridge":
            raise OverlayError(
                f"site {self._site.name}: there is no bridge {self._site.bridge}{self._where()}; make it, or "
                "name the bridge of the VMs in the deployment file"
            )
        return bridge

    def _need_underlay(self) -> Any:
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
        return underlay

    def _refuse_strangers(self, bridge: int) -> None:
        for port in self._netlink.link("dump", master=bridge):
            name = port.get("ifname")
            if name.startswith(("thvx", "thvr")) and name not in tunnel_devices(self._network):
                raise OverlayError(
                    f"site {self._site.name}: {self._site.bridge}{self._where()} is a part of another network "
                    f"already ({name}); give each network a bridge of its own"
                )

    def _where(self) -> str:
        return f" in namespace {self._site.netns}" if self._site.netns else ""


def _is_tun(device: Any) -> bool:
    return bool(device.get(("linkinfo", "kind")) == "tun")
