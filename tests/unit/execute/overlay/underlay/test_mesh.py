"""A site's end of the underlay, with a device of the kernel's, which outlives agents."""

import asyncio
import errno
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.execute.migration.trust.meeting import site as peer
from tests.unit.execute.overlay.underlay.sites import TUNNELS, site
from transhume.errors import KnowledgeUnreachable, OverlayError
from transhume.execute.migration.trust import (
    PeerKind,
    init_authority,
    load_authority,
    load_identity,
)
from transhume.execute.overlay.underlay import Mesh, UnderlaySettings, interface
from transhume.execute.overlay.underlay.device import DeviceSetting, PeerReport, PeerSetting
from transhume.execute.overlay.underlay.statements import sign
from transhume.knowledge.model import SignedEndpoint, SiteName

B = site("b", "192.0.2.2:51820")
SET_UP = interface.set_up


class Lasting:
    """A device that an earlier agent has left, with its peers."""

    kind = "kernel"

    def __init__(self, *keys: str) -> None:
        self.keys = set(keys)

    def ensure(self) -> bool:
        return False

    def configure(self, setting: DeviceSetting) -> None:
        pass

    def change(self, peers: Sequence[PeerSetting], gone: Sequence[str] = ()) -> None:
        self.keys = self.keys - {*gone} | {each.public_key for each in peers}

    def peers(self) -> tuple[PeerReport, ...]:
        return tuple(PeerReport(public_key=key) for key in sorted(self.keys))

    def remove(self) -> None:
        pass


class Directory:
    """A knowledge that can't be reached at first, and has these records then."""

    def __init__(self, *records: SignedEndpoint) -> None:
        self.reached = asyncio.Event()
        self.records = records

    async def put(self, record: SignedEndpoint) -> None:
        pass

    async def watch(
        self, resync_seconds: float
    ) -> AsyncGenerator[tuple[SignedEndpoint, ...], None]:
        if not self.reached.is_set():
            raise KnowledgeUnreachable("it is away")
        yield self.records
        await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interface, "set_up", lambda _: None)
    monkeypatch.setattr(interface, "generation", lambda _, ours: ours)
    monkeypatch.setattr("transhume.execute.overlay.underlay.mesh.ROUND_SECONDS", 0.05)
    monkeypatch.setattr("transhume.execute.overlay.underlay.mesh.RETRY_SECONDS", 0.05)


def settings_of(name: str, folder: Path, authority: str = "authority") -> UnderlaySettings:
    """What a site's operator says, with a certificate for it of this authority."""
    there = folder / authority
    issuer = load_authority(there) if there.exists() else init_authority(there)
    issuer.issue(peer(name), folder / name, lifetime=timedelta(days=1), now=datetime.now(UTC))
    return UnderlaySettings(
        site=SiteName(name),
        identity=folder / name,
        key_file=folder / f"{name}.key",
        tunnels=TUNNELS,
    )


@asynccontextmanager
async def running(mesh: Mesh) -> AsyncIterator[Mesh]:
    task = asyncio.create_task(mesh.run())
    try:
        yield mesh
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await mesh.stop()


async def test_peers_that_an_earlier_agent_has_left_stay_until_the_records_were_read(
    tmp_path: Path,
) -> None:
    """An agent that begins while the knowledge is away would else cut its site off."""
    settings = settings_of("a", tmp_path)
    device, directory = Lasting(B.public_key), Directory()
    async with running(Mesh(settings, directory, open_device=lambda *_: device)) as mesh:  # type: ignore[arg-type]
        await mesh.round()
        assert device.keys == {B.public_key}

        directory.reached.set()
        async with asyncio.timeout(20):
            while device.keys:
                await asyncio.sleep(0.05)


async def test_a_site_that_isnt_believed_is_told_of(tmp_path: Path) -> None:
    """Of two authorities' sites neither believes the other: nobody else would say that they don't meet."""
    believed, other = (settings_of(name, tmp_path) for name in "bc")
    settings = settings_of("a", tmp_path, authority="another")
    now = datetime.now(UTC)
    records = [
        sign(replace(site(each.site), at=now), load_identity(each.identity, kind=PeerKind.SITE))
        for each in (believed, other)
    ]
    tunnels = replace(TUNNELS, fixed={name: TUNNELS.address(name) for name in map(SiteName, "abc")})
    directory = Directory(*records)
    for each, unbelieved in ((settings, ("b", "c")), (believed, ("a",))):
        directory.reached.clear()
        mesh = Mesh(
            replace(each, tunnels=tunnels),
            directory,  # type: ignore[arg-type]
            open_device=lambda *_: Lasting(),
        )
        async with running(mesh):
            assert not mesh.unbelieved, "nothing was read yet"
            directory.reached.set()
            async with asyncio.timeout(20):
                while mesh.unbelieved != unbelieved:
                    await asyncio.sleep(0.05)


async def test_a_device_that_lasts_is_the_same_to_others_when_its_agent_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To them it has begun anew otherwise, and they give up the sessions that it has kept."""
    noted: list[str] = []

    def generation(_settings: UnderlaySettings, ours: str) -> str:
        noted.append(ours)
        return noted[0]

    monkeypatch.setattr(interface, "generation", generation)
    device, directory, settings = Lasting(), Directory(), settings_of("a", tmp_path)
    said = []
    for made in (True, False, True):
        if made:
            noted.clear()
        monkeypatch.setattr(device, "ensure", iter([made, False, False]).__next__)
        mesh = Mesh(settings, directory, open_device=lambda *_: device)  # type: ignore[arg-type]
        await mesh.round()
        said.append(mesh._statement().generation)
        await mesh.stop()
    assert said[0] == said[1] != said[2]


async def test_a_port_that_another_device_has_is_told_of(tmp_path: Path) -> None:
    """Whoever has a WireGuard of their own has it there."""
    device = Lasting()

    def refuse(setting: DeviceSetting) -> None:
        raise OSError(errno.EADDRINUSE, "no words for people")

    device.configure = refuse  # type: ignore[method-assign]
    mesh = Mesh(settings_of("a", tmp_path), Directory(), open_device=lambda *_: device)  # type: ignore[arg-type]
    with pytest.raises(
        OverlayError,
        match="site a: the kernel refused thwg0 with port 51820: Address already in use",
    ):
        await mesh.start()
    await mesh.stop()


def test_a_device_that_has_just_gone_is_told_of_as_what_the_kernel_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next round makes it again; another kind of error would end the agent."""
    no_devices = SimpleNamespace(link_lookup=lambda **_: [])
    monkeypatch.setattr(interface, "netlink_in", lambda _: nullcontext(no_devices))
    monkeypatch.setattr("transhume.execute.overlay.nftables.run", lambda *_: "")
    with pytest.raises(OSError, match="No such device: 'thwg0'"):
        SET_UP(settings_of("a", tmp_path))
