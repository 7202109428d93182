"""A gateway's beginning and end, and what it sees to meanwhile."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.unit.execute.migration.gateway.two_sites import (
    free_port,
    open_way,
    site,
    two_sites,
    write_site,
)
from transhume.errors import UsageError
from transhume.execute.migration.gateway import gateway
from transhume.execute.migration.trust import (
    CertificateFacts,
    Identity,
    PeerKind,
    load_authority,
    load_identity,
)


async def test_a_certificate_that_was_renewed_is_shown_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "RENEWAL_SECONDS", 0.02)
    shown: list[datetime] = []
    equip = Identity.equip

    def seen(identity: Identity, context: object) -> None:
        shown.append(identity.facts.ends)
        equip(identity, context)

    async with two_sites(tmp_path) as (a, b):
        monkeypatch.setattr(Identity, "equip", seen)
        folder = b.folder / "identity"
        before = (folder / "certificate.pem").read_text()
        (folder / "certificate.pem").write_text(before[:100])
        with capture_logs() as logs:
            async with asyncio.timeout(60):
                while "certificate_not_renewed" not in {line["event"] for line in logs}:
                    await asyncio.sleep(0.01)
        (folder / "certificate.pem").write_text(before)
        authority = load_authority(tmp_path / "ca")
        authority.renew(folder, lifetime=timedelta(days=90), now=datetime.now(UTC))
        renewed = load_identity(folder, kind=PeerKind.SITE).facts.ends
        async with asyncio.timeout(60):
            while renewed not in shown:
                await asyncio.sleep(0.02)
        await open_way(a, b)


async def test_a_certificate_that_lasts_for_a_day_is_looked_at_more_than_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It's told of in its last third; whoever looked each day only would tell of it when it's over."""
    monkeypatch.setattr(gateway, "RENEWAL_SECONDS", 0.02)
    day = timedelta(days=1)
    asked: list[timedelta] = []

    def pause_seconds(facts: CertificateFacts) -> float:
        asked.append(facts.ends - facts.begins)
        return 0.0

    monkeypatch.setattr(gateway, "pause_seconds", pause_seconds)
    with capture_logs() as logs:
        async with site(write_site(tmp_path, "a", {"a": free_port()})), asyncio.timeout(20):
            while [line["event"] for line in logs].count("certificate_shown") < 2:
                await asyncio.sleep(0.02)
    assert all(day <= lasts < 1.1 * day for lasts in asked)


async def test_a_gateway_that_finds_its_place_taken_leaves_it_and_its_port(tmp_path: Path) -> None:
    ports = {"a": free_port(), "b": free_port()}
    control = tmp_path / "a/control.sock"
    config = write_site(tmp_path, "b", ports, control=str(control))
    async with site(write_site(tmp_path, "a", ports)) as first:
        for _ in range(2):  # the first of which mustn't keep the port
            with pytest.raises(UsageError, match="another gateway listens there"):
                async with site(config):
                    raise AssertionError("it began")
        assert (await first.client.ask("status"))["routes"] == []
    assert not control.exists()


async def test_a_control_socket_takes_no_files_place(tmp_path: Path) -> None:
    kept = tmp_path / "policy.yaml"
    kept.write_text("policy: mine\n")
    config = write_site(tmp_path, "a", {"a": free_port()}, control=str(kept))
    with pytest.raises(UsageError, match=r"policy\.yaml can't be had"):
        async with site(config):
            raise AssertionError("it began")
    assert kept.read_text() == "policy: mine\n"
