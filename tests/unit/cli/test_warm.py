"""`transhume warm` with real gateways, and what `transhume store` tells of it."""

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.unit.execute.migration.gateway.test_warming_rate import ended, sites_with_guests
from transhume.cli import group
from transhume.errors import UsageError


def deployment(folder: Path) -> Path:
    path = folder / "transhume.yaml"
    gateways = ", ".join(
        f"{site}: {{gateway: {{socket: {site}/control.sock}}}}" for site in ("a", "b")
    )
    path.write_text(f"clouds: {{{gateways}}}\ntransport: {{tenants: {{t: ['vm*']}}}}\n")
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(group, arguments, catch_exceptions=False)


async def test_a_vm_is_warmed_at_a_rate_and_store_tells_what_that_took(tmp_path: Path) -> None:
    async with sites_with_guests(tmp_path) as (a, _):
        ways = ("vm1", "a", "b", "--config", str(deployment(tmp_path)))
        begun = await asyncio.to_thread(run, "warm", *ways, "--once", "--rate", "1Gbit/s")
        assert a.gateway.gangs._warming["b"].bucket.bytes_per_second == 125e6
        await ended(a)
        told = await asyncio.to_thread(run, "store", "--config", ways[-1])
        stopped = await asyncio.to_thread(run, "warm", *ways, "--stop")
    assert "vm1 is being kept warm at b" in begun.output
    text = " ".join(told.output.split())
    assert "vm1 is kept warm at b: 100% known, by 16.8 MB on the wire (done)" in text
    assert "vm1 isn't kept warm at b any more" in stopped.output


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("--rate", "20MB", "--rate: 20MB is an amount, not a rate; write 20MB/s"),
        ("--rate", "0MB/s", "--rate: 0 is too little; write more"),
        ("--at-most", "20MB/s", "--at-most: 20MB/s is not an amount of memory"),
        ("--at-most", "0B", "--at-most: 0 is too little; write more"),
    ],
)
def test_what_is_no_amount_is_refused_with_the_options_name(
    tmp_path: Path, option: str, text: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        run("warm", "vm1", "a", "b", "--config", str(deployment(tmp_path)), option, text)
