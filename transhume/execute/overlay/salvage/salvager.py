"""Holds the taps of VMs that are about to leave a site, and sends on what waits in them when they have stopped.

A VM that doesn't run doesn't read its tap. So what is in the tap's queue once the VM has stopped is just what
the VM hasn't seen, but for one frame of each queue that QEMU takes and keeps (10.0: it stops reading at the
first that the guest can't take). It comes from the time between the stop and our word to the kernel, and would
be lost when the hypervisor ends. Sent on by the detour, it waits in the VM's new tap.

Without it a move is none the worse than that. So nothing here fails: what doesn't work is said once.
"""

import asyncio
from collections.abc import Iterable, Mapping

import structlog

from transhume.deployment.model import OverlayNetwork, OverlaySite
from transhume.errors import Error
from transhume.execute.overlay.plane import tunnel_devices
from transhume.execute.overlay.salvage.taps import HeldTap, held
from transhume.knowledge.model import MacAddress

log = structlog.get_logger()


class Salvager:
    """The taps of one site, for one virtual network. For the thread of an event loop."""

    def __init__(self, network: OverlayNetwork, site: OverlaySite) -> None:
        self._site = site
        self._out = tunnel_devices(network)[1]
        self._wanted: Mapping[MacAddress, str] = {}
        self._held: dict[MacAddress, HeldTap] = {}
        self._finding: set[asyncio.Task[None]] = set()
        self._said = False

    @property
    def at_hand(self) -> frozenset[MacAddress]:
        """The addresses of the VMs whose taps are at hand."""
        return frozenset(self._held)

    def hold(self, devices: Mapping[MacAddress, str]) -> None:
        """Have the taps with these names at hand soon, each by the address of its VM; let go of all others."""
        self._wanted = devices
        for mac in [mac for mac, tap in self._held.items() if devices.get(mac) != tap.device]:
            self._let_go(mac)
        missing = {mac: device for mac, device in devices.items() if mac not in self._held}
        if missing:
            finding = asyncio.create_task(self._find(missing), name=f"{self._site.name}: taps")
            self._finding.add(finding)
            finding.add_done_callback(self._finding.discard)

    def send_on(self, macs: Iterable[MacAddress]) -> None:
        """Send on what waits for VMs that have stopped, and let go of their taps."""
        gone = frozenset(macs)
        self._wanted = {mac: self._wanted[mac] for mac in self._wanted if mac not in gone}
        for mac in gone:
            tap = self._held.get(mac)
            if tap is None:
                self._say(f"{mac} stopped before its tap was found")
                continue
            try:
                sent, refused = tap.send_on(mac)
            finally:
                self._let_go(mac)
            log.info("frames_sent_on", site=self._site.name, mac=mac, sent=sent, refused=refused)

    def close(self) -> None:
        """Let go of everything."""
        self.hold({})

    async def _find(self, devices: Mapping[MacAddress, str]) -> None:
        site = self._site
        looking = asyncio.ensure_future(asyncio.to_thread(held, devices, site.netns, self._out))
        try:
            found = await asyncio.shield(looking)
        except asyncio.CancelledError:
            looking.add_done_callback(_close_all)
            raise
        except (OSError, Error) as error:
            self._say(str(error))
            return
        for mac, tap in found.items():
            self._take(mac, tap)
        unfound = devices.keys() - found.keys()
        if unfound:
            self._say(f"no process has {', '.join(sorted(devices[mac] for mac in unfound))} open")

    def _take(self, mac: MacAddress, tap: HeldTap) -> None:
        if self._wanted.get(mac) != tap.device or mac in self._held:
            tap.close()
            return
        self._held[mac] = tap
        # The tap would outlive its owner for as long as we have it.
        asyncio.get_running_loop().add_reader(tap.process, self._let_go, mac)

    def _let_go(self, mac: MacAddress) -> None:
        tap = self._held.pop(mac)
        asyncio.get_running_loop().remove_reader(tap.process)
        tap.close()

    def _say(self, why: str) -> None:
        if not self._said:
            log.warning("taps_out_of_reach", site=self._site.name, why=why)
        self._said = True


def _close_all(looking: "asyncio.Future[dict[MacAddress, HeldTap]]") -> None:
    if not looking.cancelled() and looking.exception() is None:
        for tap in looking.result().values():
            tap.close()
