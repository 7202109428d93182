"""A site's end of the underlay, with a device of the kernel's, which outlives agents."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.unit.execute.migration.trust.meeting import site as peer
from tests.unit.execute.overlay.underlay.sites import TUNNELS, site
from transhume.errors import KnowledgeUnreachable
from transhume.execute.migration.trust import init_authority
from transhume.execute.overlay.underlay import Mesh, UnderlaySettings, interface
from transhume.execute.overlay.underlay.device import DeviceSetting, PeerReport, PeerSetting
from transhume.knowledge.model import SignedEndpoint, SiteName

B = site("b", "192.0.2.2:51820")


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
    """A knowledge that can't be reached at first, and has no records then."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def put(self, record: SignedEndpoint) -> None:
        pass

    async def watch(
        self, resync_seconds: float
    ) -> AsyncGenerator[tuple[SignedEndpoint, ...], None]:
        if not self.reached.is_set():
            raise KnowledgeUnreachable("it is away")
        yield ()
        await asyncio.Event().wait()


async def test_peers_that_an_earlier_agent_has_left_stay_until_the_records_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that begins while the knowledge is away would else cut its site off."""
    monkeypatch.setattr(interface, "set_up", lambda _: None)
    monkeypatch.setattr("transhume.execute.overlay.underlay.mesh.ROUND_SECONDS", 0.05)
    authority = init_authority(tmp_path / "authority")
    authority.issue(peer("a"), tmp_path / "a", lifetime=timedelta(days=1), now=datetime.now(UTC))
    settings = UnderlaySettings(
        site=SiteName("a"), identity=tmp_path / "a", key_file=tmp_path / "key", tunnels=TUNNELS
    )
    device, directory = Lasting(B.public_key), Directory()
    mesh = Mesh(settings, directory, open_device=lambda *_: device)  # type: ignore[arg-type]
    running = asyncio.create_task(mesh.run())

    await mesh.round()
    assert device.keys == {B.public_key}

    directory.reached.set()
    async with asyncio.timeout(20):
        while device.keys:
            await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await mesh.stop()
