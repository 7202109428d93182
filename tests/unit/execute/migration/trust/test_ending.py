"""Whoever uses a certificate tells in time that it ends: a site whose certificate is over is cut off."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from tests.unit.execute.migration.trust.meeting import LIFETIME, operator, site
from transhume.daemon.senses import senses_of
from transhume.deployment.model import Deployment, GatewayPoint
from transhume.errors import GatewayUnreachable, IdentityUnusable
from transhume.execute.migration.control_client import GatewayAddress, GatewayClient
from transhume.execute.migration.relaying.configuration import load_relay
from transhume.execute.migration.relaying.relay import run_relay
from transhume.execute.migration.trust import (
    Authority,
    Identity,
    Peer,
    PeerKind,
    init_authority,
    load_identity,
)
from transhume.execute.migration.trust import ending as subject
from transhume.execute.migration.trust.ending import pause_seconds, tell_of_end
from transhume.execute.overlay.underlay import Mesh, TunnelNetwork, UnderlaySettings
from transhume.knowledge.model import CloudName, SiteName
from transhume.knowledge.store import Store
from transhume.monitor.clouds.inventory import LibvirtInventory

DAY = timedelta(days=1)
SOON, OVER = 80 * DAY, 91 * DAY
"""How long ago a certificate of 90 days was issued."""
Logs = list[Any]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return init_authority(tmp_path / "authority", now=datetime.now(UTC) - 100 * DAY)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "pause_seconds", lambda _facts: 0.01)


def identity_of(authority: Authority, peer: Peer, folder: Path, *, age: timedelta) -> Identity:
    issued = datetime.now(UTC) - age
    authority.issue(peer, folder, lifetime=LIFETIME, now=issued)
    return load_identity(folder, kind=peer.kind, now=issued)


@asynccontextmanager
async def at_work(work: Coroutine[Any, Any, None]) -> AsyncIterator[Logs]:
    """Have something at work, and what it logs."""
    with capture_logs() as logs:
        task = asyncio.create_task(work)
        try:
            yield logs
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def told(logs: Logs, event: str) -> dict[str, Any]:
    """Wait until something was told once more than it might have been at the beginning."""
    async with asyncio.timeout(20):
        while len(found := [line for line in logs if line["event"] == event]) < 2:
            await asyncio.sleep(0.01)
    return cast("dict[str, Any]", found[-1])


async def test_one_that_ends_soon_is_told_of_until_it_is_renewed(
    authority: Authority, tmp_path: Path
) -> None:
    identity = identity_of(authority, site("a"), tmp_path / "a", age=SOON)
    async with at_work(tell_of_end(identity)) as logs:
        line = await told(logs, "certificate_ends_soon")
        assert (line["holder"], line["folder"]) == ("site a", str(tmp_path / "a"))
        authority.renew(tmp_path / "a", lifetime=LIFETIME, now=datetime.now(UTC))
        await asyncio.sleep(0.05)
        logs.clear()
        await asyncio.sleep(0.1)
        assert logs == []


async def test_one_that_is_over_is_told_of(authority: Authority, tmp_path: Path) -> None:
    identity = identity_of(authority, site("a"), tmp_path / "a", age=OVER)
    async with at_work(tell_of_end(identity)) as logs:
        assert "expired at" in (await told(logs, "certificate_not_renewed"))["why"]


@pytest.mark.parametrize(
    ("lifetime", "pause"), [(90 * DAY, DAY), (DAY, timedelta(hours=4))], ids=["90 days", "a day"]
)
def test_two_looks_are_into_the_time_in_which_it_is_told_of(
    authority: Authority, tmp_path: Path, lifetime: timedelta, pause: timedelta
) -> None:
    authority.issue(site("a"), tmp_path / "a", lifetime=lifetime, now=datetime.now(UTC))
    facts = load_identity(tmp_path / "a", kind=PeerKind.SITE).facts
    assert pause_seconds(facts) == pytest.approx(pause.total_seconds(), rel=0.01)


async def test_a_relay_tells_of_its_own(authority: Authority, tmp_path: Path) -> None:
    host = Peer(kind=PeerKind.HOST, name="a2")
    identity_of(authority, host, tmp_path / "a2", age=SOON)
    config = tmp_path / "relay.yaml"
    config.write_text('{site: a, gateway: "127.0.0.1:1", identity: a2}')
    async with at_work(run_relay(load_relay(config))) as logs:
        assert (await told(logs, "certificate_ends_soon"))["holder"] == "host a2"


async def test_a_daemon_tells_of_its_operators(authority: Authority, tmp_path: Path) -> None:
    identity_of(authority, operator("anne"), tmp_path / "anne", age=SOON)
    gateway = GatewayPoint(cloud=CloudName("a"), address="127.0.0.1:1")
    deployment = Deployment(
        source="t",
        clouds=(),
        hosts=(),
        hypervisors=(),
        gateways=(gateway, replace(gateway, cloud=CloudName("b"))),
        identity=tmp_path / "anne",
    )
    found = senses_of(deployment, cast("LibvirtInventory", None), lambda: datetime.now(UTC))
    (sense,) = (each for each in found if each.name == "certificate")

    async def perceive() -> None:
        async for _ in sense.perceive(cast("Store", None)):
            pass

    async with at_work(perceive()) as logs:
        assert (await told(logs, "certificate_ends_soon"))["holder"] == "operator anne"


@asynccontextmanager
async def listening(authority: Authority, folder: Path, answer: bytes) -> AsyncIterator[int]:
    """Have site a listen, and say this to whoever comes in."""
    authority.issue(site("a"), folder / "a", lifetime=LIFETIME, now=datetime.now(UTC))

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    context = load_identity(folder / "a", kind=PeerKind.SITE).server_context()
    server = await asyncio.start_server(say, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_who_calls_with_one_that_is_over_is_told_so(
    authority: Authority, tmp_path: Path
) -> None:
    """Who refuses it in TLS 1.3 hangs up, and says nothing."""
    over = identity_of(authority, operator("anne"), tmp_path / "anne", age=OVER)
    async with listening(authority, tmp_path, b'{"ok": {}}\n') as port:
        client = GatewayClient(GatewayAddress(site="a", host="127.0.0.1", port=port), over)
        with pytest.raises(IdentityUnusable, match=r"expired at .*; renew it with"):
            await client.ask("status")
        authority.renew(tmp_path / "anne", lifetime=LIFETIME, now=datetime.now(UTC))
        assert await client.ask("status") == {}


async def test_who_is_hung_up_on_is_told_why_that_may_be(
    authority: Authority, tmp_path: Path
) -> None:
    strangers = init_authority(tmp_path / "strangers")
    strange = identity_of(strangers, operator("anne"), tmp_path / "anne", age=timedelta(0))
    (tmp_path / "anne/ca.pem").write_bytes((tmp_path / "authority/ca.pem").read_bytes())
    async with listening(authority, tmp_path, b'{"ok": {}}\n') as port:
        client = GatewayClient(GatewayAddress(site="a", host="127.0.0.1", port=port), strange)
        with pytest.raises(GatewayUnreachable, match="who refuses our certificate says no more"):
            await client.ask("status")


async def test_a_gateway_that_ends_beside_us_is_said_nothing_of_certificates(
    tmp_path: Path,
) -> None:
    """None is shown to a socket of this machine."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    path = tmp_path / "control.sock"
    server = await asyncio.start_unix_server(hang_up, path)
    async with server:
        with pytest.raises(GatewayUnreachable) as caught:
            await GatewayClient(GatewayAddress(site="a", socket=path)).ask("status")
    assert caught.value.seen == "it hung up"


async def test_a_relay_outlives_that_its_certificate_is_being_replaced(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that isn't all there yet, as its gateway is called: the relay would have ended with it."""
    monkeypatch.setattr("transhume.execute.migration.relaying.relay.AGAIN_SECONDS", 0.01)
    host = Peer(kind=PeerKind.HOST, name="a2")
    identity_of(authority, host, tmp_path / "a2", age=timedelta(0))
    config = tmp_path / "relay.yaml"
    certificate = tmp_path / "a2/certificate.pem"
    whole = certificate.read_bytes()
    async with listening(authority, tmp_path, b'{"error": "we have met"}\n') as port:
        config.write_text(f'{{site: a, gateway: "127.0.0.1:{port}", identity: a2}}')
        relay = run_relay(replace(load_relay(config), sockets=tmp_path / "sockets"))
        async with at_work(relay) as logs:
            met, torn = (whole, "we have met"), (whole[:99], "no certificate in PEM")
            for content, why in (met, torn, met):
                certificate.write_bytes(content)
                logs.clear()
                async with asyncio.timeout(20):
                    while not any(why in line.get("why", "") for line in logs):
                        await asyncio.sleep(0.01)


class Silent:
    """A knowledge in which nobody says anything."""

    async def put(self, _record: object) -> None:
        pass

    async def watch(self, _seconds: float) -> AsyncIterator[tuple[()]]:
        yield ()
        await asyncio.Event().wait()


async def test_an_agent_tells_of_its_sites(authority: Authority, tmp_path: Path) -> None:
    """The others let go of a site whose certificate has ended: its VMs lose their connections then."""
    identity_of(authority, site("a"), tmp_path / "a", age=SOON)
    settings = UnderlaySettings(
        site=SiteName("a"),
        identity=tmp_path / "a",
        key_file=tmp_path / "wireguard.key",
        tunnels=TunnelNetwork(),
    )

    def no_device(*_words: object) -> Any:
        raise OSError("there is none")

    mesh = Mesh(settings, Silent(), open_device=no_device)  # type: ignore[arg-type]
    async with at_work(mesh.run()) as logs:
        assert (await told(logs, "certificate_ends_soon"))["holder"] == "site a"
    await mesh.stop()
