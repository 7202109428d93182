"""Tickets between two gateways: what is refused is told to the operator, and logged at both ends."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.unit.execute.migration.gateway.hypervisors import (
    assert_arrived,
    memory_stream,
    migrate,
    pages_of,
)
from tests.unit.execute.migration.gateway.liar import identity_of, liar
from tests.unit.execute.migration.gateway.two_sites import Site, open_way, two_sites
from transhume.errors import Refused
from transhume.execute.migration.gateway.messages import Kind
from transhume.execute.migration.trust import AdmissionRequest, Peer, PeerKind, TenantName
from transhume.knowledge.model import VmName

CONTENT = memory_stream(pages_of(1, 50))


async def granted(b: Site, **changes: object) -> str:
    """Have b admit vm1 from a; return the ticket."""
    words = {"migration": "m", "vm": "vm1", "tenant": "t", "source": "a"} | changes
    return str((await b.client.ask("admit", **words))["ticket"])


async def show(a: Site, ticket: str, vm: str = "vm1", migration: str = "m") -> None:
    words = {"migration": migration, "vm": vm, "tenant": "t", "destination": "b"}
    await a.client.ask("open", **words, ticket=ticket)


async def expired(a: Site, b: Site) -> None:
    request = AdmissionRequest(
        vm=VmName("vm1"), tenant=TenantName("t"), source="a", sockets=(), most_bytes=1
    )
    here = Peer(kind=PeerKind.OPERATOR, name="test")
    ticket = b.gateway.admissions.grant(request, operator=here, lifetime_seconds=1e-9)
    await show(a, ticket.token.hex())


async def replayed(a: Site, b: Site) -> None:
    ticket = await granted(b)
    await show(a, ticket)
    await show(a, ticket, migration="m2")


async def of_another_vm(a: Site, b: Site) -> None:
    await show(a, await granted(b, vm="vm2"))


async def of_another_site(a: Site, b: Site) -> None:
    await show(a, await granted(b, source="c"))


async def unknown(a: Site, _b: Site) -> None:
    await show(a, "00" * 32)


@pytest.mark.parametrize(
    ("attempt", "reason", "why"),
    [
        (expired, "expired", "has expired"),
        (replayed, "used", "was used before"),
        (of_another_vm, "other_vm", "for another VM"),
        (of_another_site, "other_site", "to another site"),
        (unknown, "unknown", "no such ticket"),
    ],
    ids=["expired", "replayed", "another-vms", "another-sites", "unknown"],
)
async def test_a_ticket_that_isnt_good_is_refused_and_why_is_told_at_both_ends(
    tmp_path: Path, attempt, reason: str, why: str
) -> None:
    async with two_sites(tmp_path) as (a, b):
        with capture_logs() as logs, pytest.raises(Refused, match=why) as refused:
            await attempt(a, b)
        assert refused.value.reason == reason
        told = {line["event"]: line for line in logs if line.get("reason") == reason}
        assert set(told) == {"ticket_refused", "migration_refused"}
        assert told["ticket_refused"]["peer"] == "site a"
        assert told["migration_refused"]["peer"] == "b"
        migration = await open_way(a, b, migration="good")
        assert_arrived(await migrate(a, b, migration, CONTENT), CONTENT)


async def test_a_refusal_leaves_no_socket_behind(tmp_path: Path) -> None:
    async with two_sites(tmp_path) as (a, b):
        with pytest.raises(Refused):
            await unknown(a, b)
        assert list((a.folder / "sockets").iterdir()) == []
        assert a.gateway.routes == {}


async def test_what_no_rule_admits_gets_no_ticket(tmp_path: Path) -> None:
    async with two_sites(tmp_path, admit=[{"sources": ["c"]}]) as (_a, b):
        with capture_logs() as logs, pytest.raises(Refused, match="its sources are c"):
            await granted(b)
        assert [line["event"] for line in logs] == ["admission_refused"]


async def test_a_ticket_that_was_overheard_is_no_good_to_another_site(tmp_path: Path) -> None:
    """And isn't spent by that."""
    async with two_sites(tmp_path) as (a, b):
        ticket = await granted(b)
        async with liar(tmp_path, b) as peer:
            answer = await peer.request("vm1", ticket)
            assert (answer.kind, answer.words["reason"]) == (Kind.REFUSED, "other_site")
        await show(a, ticket)
        assert_arrived(await migrate(a, b, "m", CONTENT), CONTENT)


async def test_a_site_of_another_authority_isnt_let_in(tmp_path: Path) -> None:
    """Not even by the name of a site that is."""
    other = tmp_path / "other"
    other.mkdir()
    async with two_sites(tmp_path) as (a, b), two_sites(other):
        with capture_logs() as logs:
            ticket = await granted(b)
            async with liar(other, b, "a", careful=False) as peer:
                assert await peer.ended()
        assert identity_of(other, "a").peer == Peer(kind=PeerKind.SITE, name="a")
        assert not any(line["event"] == "link_accepted" for line in logs)
        await show(a, ticket)
        assert_arrived(await migrate(a, b, "m", CONTENT), CONTENT)
