"""The underlay of one site at work: reads what sites say, plans, programs the device, says what it sees.

Owns the tasks, the one thread that the device belongs to, and the times. What to do is decided by `plan`; whom
to believe by `statements`. A round that fails is told once and tried again: the device goes on by itself.
"""

import asyncio
import base64
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

import structlog

from transhume.errors import Error, KnowledgeUnreachable, OverlayError
from transhume.execute.migration.trust.ending import tell_of_end
from transhume.execute.migration.trust.identity import load_identity
from transhume.execute.migration.trust.peers import PeerKind
from transhume.execute.overlay.refusals import explained
from transhume.execute.overlay.underlay import interface
from transhume.execute.overlay.underlay.device import (
    Device,
    DeviceSetting,
    PeerReport,
    PeerSetting,
)
from transhume.execute.overlay.underlay.kernel_device import KernelDevice
from transhume.execute.overlay.underlay.keys import private_key, public_key
from transhume.execute.overlay.underlay.plan import PeerState, Plan, Planner, View, changes
from transhume.execute.overlay.underlay.probes import (
    Heard,
    ProbeKeys,
    ProbeKind,
    ProbeSocket,
    new_nonce,
)
from transhume.execute.overlay.underlay.settings import UnderlaySettings
from transhume.execute.overlay.underlay.statements import Statements, sign
from transhume.execute.overlay.underlay.userspace_device import UserspaceDevice
from transhume.knowledge.model import IpAddress, SignedEndpoint, SiteEndpoint, SiteName
from transhume.knowledge.underlay import UnderlayDirectory
from transhume.reach.netns import socket_in

ROUND_SECONDS, SHORT_ROUND_SECONDS = 1.0, 0.25
SAY_SECONDS, STALE_SECONDS, RESYNC_SECONDS = 10.0, 35.0, 30.0
RETRY_SECONDS = 1.0
SET_UP_SECONDS = 30.0
"""How often addresses, routes and the guard are made right, whoever changed them."""
NEWS_SECONDS = 0.2
"""How far apart two statements are at least."""
DISCARD_PORT = 9
"""Where nudges go: the guard at the other end drops them, but WireGuard has to answer first."""

T = TypeVar("T")
log = structlog.get_logger(__name__)


def open_device(name: str, netns: str | None) -> Device:
    """Return the kernel's device where it has WireGuard, wireguard-go's otherwise. Blocking."""
    if KernelDevice.supported(name, netns):
        return KernelDevice(name, netns)
    return UserspaceDevice(name, netns)


class Mesh:
    """One site's end of the underlay: `start`, then `run` until it is cancelled, then `stop`."""

    def __init__(
        self,
        settings: UnderlaySettings,
        directory: UnderlayDirectory,
        *,
        open_device: Callable[[str, str | None], Device] = open_device,
    ) -> None:
        self.settings = settings
        self._directory = directory
        self._open_device = open_device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="underlay")
        self._identity = load_identity(settings.identity, kind=PeerKind.SITE)
        if self._identity.peer.name != settings.site:
            raise OverlayError(
                f"{settings.identity} has the certificate of {self._identity.peer}, not of site "
                f"{settings.site}; use that site's folder"
            )
        self._private_key = private_key(settings.key_file)
        self._statements = Statements(self._identity, settings.tunnels)
        self._planner = Planner(settings.tunnels, settings.keepalive_seconds)
        self._probe_keys = ProbeKeys(self._private_key)
        self._nonce = new_nonce()
        self._generation = secrets.token_hex(8)
        self._device: Device | None = None
        self._probes: ProbeSocket | None = None
        self._nudger: socket.socket | None = None
        self._ear: socket.socket | None = None
        self._applied: dict[str, PeerSetting] = {}
        self._heard_at: dict[SiteName, float] = {}
        self._has_read = False
        """Whether what all sites say was read once: until then peers that nobody has told of stay."""
        self._plan = Plan(peers=())
        self._said: SiteEndpoint | None = None
        self._troubles: dict[str, str] = {}
        self._set_up_at = float("-inf")
        self._news = asyncio.Event()
        self._wake = asyncio.Event()

    @property
    def address(self) -> IpAddress:
        """Our tunnel address: where the site's VXLAN devices end."""
        return self.settings.address

    @property
    def addresses(self) -> Mapping[SiteName, IpAddress]:
        """The tunnel addresses of the other sites that are known and believed."""
        return {site: each.address for site, each in self._statements.current().items()}

    @property
    def device_kind(self) -> str:
        """Who encrypts: "kernel" or "wireguard-go"."""
        return self._device.kind if self._device is not None else "none"

    def status(self) -> tuple[PeerState, ...]:
        """Return how each other site was reached in the last round."""
        return self._plan.states

    @property
    def unbelieved(self) -> tuple[SiteName, ...]:
        """The overlay's sites of which no record is believed: nothing goes there, or comes from there."""
        if not self._has_read:
            return ()
        expected = self.settings.tunnels.fixed.keys() - {self.settings.site}
        return tuple(sorted(expected - self._statements.current().keys()))

    async def start(self) -> None:
        """Have the device, with its addresses and its guard.

        Raises:
            OverlayError: a program is missing, or something is in the way; says what.
        """
        settings = self.settings
        refused = f"refused {settings.device} with port {settings.listen_port}"
        with explained(settings.site, refused):
            await self._in_thread(self._ensure_device)
            self._probes = ProbeSocket(settings.netns, settings.listen_port)
            self._nudger = socket_in(settings.netns, kind=socket.SOCK_DGRAM)
            self._nudger.setblocking(False)

    async def run(self) -> None:
        """Keep the device as it should be until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(), name="underlay-listen")
                tasks.create_task(self._rounds(), name="underlay-rounds")
                tasks.create_task(self._talk(), name="underlay-talk")
                tasks.create_task(tell_of_end(self._identity), name="underlay-certificate")
        finally:
            self._hear_probes(False)

    async def stop(self) -> None:
        """Remove the device, and let go of everything; also after a `start` that failed.

        The guard stays: the site's VXLAN devices do too, and would send by any route that there is.
        """
        self._hear_probes(False)
        for each in (self._probes, self._nudger):
            if each is not None:
                each.close()
        self._probes = self._nudger = None
        if self._device is not None:
            await self._in_thread(self._device.remove)
        self._thread.shutdown()

    async def round(self) -> None:
        """Look at everything once, and do what is to be done about it."""
        reports = await self._in_thread(self._look)
        others = self._others()
        self._plan = self._planner.plan(self._view(reports, others))
        told, gone = changes(self._plan, reports, self._applied)
        gone = gone if self._has_read else ()
        if told or gone:
            await self._in_thread(self._change, told, gone)
        self._applied = {peer.public_key: peer for peer in self._plan.peers}
        self._send(self._plan)
        said = (self._said.seen, self._said.generation) if self._said else None
        if said != (self._plan.seen, self._generation):
            self._news.set()

    async def _listen(self) -> None:
        while True:
            watching = self._directory.watch(RESYNC_SECONDS)
            with suppress(KnowledgeUnreachable):
                async with aclosing(watching):
                    async for records in watching:
                        self._take_in(records)
                        self._has_read = True
            await asyncio.sleep(RETRY_SECONDS)

    def _take_in(self, records: Iterable[SignedEndpoint]) -> None:
        for record in records:
            if record.site == self.settings.site:
                continue
            before = self._statements.current().get(record.site)
            if self._statements.hear(record):
                self._heard_at[record.site] = time.monotonic()
                after = self._statements.current()[record.site]
                if before is None or replace(before, at=after.at) != after:
                    self._wake.set()

    async def _rounds(self) -> None:
        while True:
            self._wake.clear()
            with self._telling("round"):
                await self.round()
            seconds = SHORT_ROUND_SECONDS if self._plan.hurried else ROUND_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()

    async def _talk(self) -> None:
        while True:
            self._news.clear()
            with self._telling("statement"):
                await self._say()
            with suppress(TimeoutError):
                async with asyncio.timeout(SAY_SECONDS):
                    await self._news.wait()
            await asyncio.sleep(NEWS_SECONDS)

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Log what goes wrong once, and once that it goes well again."""
        before = self._troubles.pop(what, None)
        try:
            yield
        except (OSError, Error) as error:
            self._troubles[what] = str(error)
            if str(error) != before:
                log.warning(f"underlay_{what}_failed", site=self.settings.site, why=str(error))
        else:
            if before is not None:
                log.info(f"underlay_{what}_works_again", site=self.settings.site)

    def _ensure_device(self) -> bool:
        if self._device is None:
            self._device = self._open_device(self.settings.device, self.settings.netns)
        made = self._device.ensure()
        if made:
            self._generation = secrets.token_hex(8)
        if made or time.monotonic() - self._set_up_at >= SET_UP_SECONDS:
            self._set_up_at = float("-inf")
            setting = DeviceSetting(
                private_key=self._private_key, listen_port=self.settings.listen_port
            )
            self._device.configure(setting)
            interface.set_up(self.settings)
            self._generation = interface.generation(self.settings, self._generation)
            self._set_up_at = time.monotonic()
        return made

    def _look(self) -> dict[str, PeerReport]:
        if self._ensure_device():
            log.warning("underlay_device_restarted", device=self.settings.device)
        assert self._device is not None
        return {report.public_key: report for report in self._device.peers()}

    def _change(self, told: tuple[PeerSetting, ...], gone: tuple[str, ...]) -> None:
        assert self._device is not None
        self._device.change(told, gone)

    def _others(self) -> dict[SiteName, SiteEndpoint]:
        believed = self._statements.current()
        believed.pop(self.settings.site, None)
        self._probe_keys.know({site: each.public_key for site, each in believed.items()})
        return dict(sorted(believed.items()))

    def _view(
        self, reports: Mapping[str, PeerReport], others: Mapping[SiteName, SiteEndpoint]
    ) -> View:
        now = time.monotonic()
        fresh = {site for site, at in self._heard_at.items() if now - at < STALE_SECONDS}
        return View(
            now=now,
            unix=time.time(),
            ours=self._statement(),
            others=others,
            fresh=frozenset(fresh),
            reports=reports,
        )

    def _statement(self) -> SiteEndpoint:
        settings = self.settings
        return SiteEndpoint(
            site=settings.site,
            public_key=base64.b64encode(public_key(self._private_key)).decode(),
            address=settings.address,
            port=settings.listen_port,
            generation=self._generation,
            at=datetime.now(UTC),
            endpoints=settings.endpoints,
            relays=interface.relays(settings),
            seen=self._plan.seen,
        )

    async def _say(self) -> None:
        statement = self._statement()
        await self._directory.put(sign(statement, self._identity))
        self._said = statement

    def _send(self, plan: Plan) -> None:
        for address in plan.nudges:
            with suppress(OSError):
                assert self._nudger is not None
                self._nudger.sendto(b"\0", (address, DISCARD_PORT))
        for probing in plan.probes:
            datagram = self._probe_keys.write(ProbeKind.ASK, self._nonce, probing.site)
            for endpoint in probing.endpoints:
                assert self._probes is not None
                self._probes.send(datagram, endpoint, probing.hops)
        self._hear_probes(plan.attempting)

    def _hear_probes(self, on: bool) -> None:
        if self._probes is None or on == (self._ear is not None):
            return
        loop = asyncio.get_running_loop()
        if self._ear is not None:
            loop.remove_reader(self._ear)
        self._ear = self._probes.listen(on)
        if self._ear is not None:
            loop.add_reader(self._ear, self._hear)

    def _hear(self) -> None:
        assert self._probes is not None
        for datagram, endpoint in self._probes.hear():
            heard = self._probe_keys.read(datagram, endpoint)
            if heard is not None:
                self._answer(self._probes, heard)

    def _answer(self, probes: ProbeSocket, heard: Heard) -> None:
        if heard.kind is ProbeKind.ASK:
            answer = self._probe_keys.write(ProbeKind.ANSWER, heard.nonce, heard.site)
            probes.send(answer, heard.endpoint, 64)
        elif heard.nonce == self._nonce:
            self._planner.proved(heard.site, heard.endpoint)
            self._wake.set()

    async def _in_thread(self, act: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, act, *arguments)
