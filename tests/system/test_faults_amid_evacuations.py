"""Who evacuates a group is struck at random while it does, again and again: daemon, agents, gateways, the WAN.

Afterwards all of the group run once, elsewhere, with nothing lost, and the overlay is consistent. A few rounds
each time; `TEST_EFFORT=10` for half an hour.
"""

import asyncio
import os
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from tests.effort import examples
from tests.system.agents import agents_of, config_of, is_consistent, knowledge_of
from tests.system.gateways import kill_gateway, restart_gateway
from tests.system.running import RunningDaemon, assert_nothing_was_lost, until, where
from transhume.knowledge.model import CloudName, RevocationNotice
from transhume.knowledge.store import Store, utc_now
from transhume.lab.agents import start_agent
from transhume.lab.lab import Lab
from transhume.lab.spec import UNDERLAY, plan_lab
from transhume.reach.netns import netlink_in

FAULTS = ("daemon", "gateway", "agent", "WAN", "daemon and gateway")
ROUNDS = examples(len(FAULTS))

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: the lab needs root"),
    pytest.mark.timeout(600 + 300 * ROUNDS),
]

LAB = plan_lab(
    clouds=2,
    vms=3,
    clusters=1,
    wan_bytes_per_second=6_000_000,
    wan_delay_seconds=0.01,
    gateways=True,
    agents=True,
)
POLICY = "policy: flee\nmode: auto\navailability: {evacuate_on_notice: true}\n"
LATEST_SECONDS = 5.0
"""After a notice."""


class Daemons:
    """A daemon, and its successors."""

    def __init__(self, config: Path, policy: Path, log: Path) -> None:
        self._words = config, policy, log
        self.running = RunningDaemon(*self._words)

    def kill(self) -> None:
        self.running.__exit__()

    def begin_again(self) -> None:
        self.running = RunningDaemon(*self._words)


@pytest.fixture
def daemons(lab: Lab, tmp_path: Path) -> Iterator[Daemons]:
    policy = tmp_path / "flee.yaml"
    policy.write_text(POLICY)
    found = Daemons(config_of(lab, tmp_path), policy, tmp_path / "log")
    try:
        yield found
    finally:
        found.kill()


async def strike(lab: Lab, fault: str, cloud: str, daemons: Daemons, random: Random) -> None:
    """Have something happen, and be mended a moment later."""
    match fault:
        case "daemon":
            daemons.kill()
        case "gateway":
            kill_gateway(lab, cloud)
        case "agent":
            (agent,) = agents_of(cloud, lab.state)
            os.kill(agent, signal.SIGKILL)
        case "WAN":
            await asyncio.to_thread(switch, lab, cloud, "down")
        case _:
            daemons.kill()
            kill_gateway(lab, cloud)
    await asyncio.sleep(random.uniform(0.2, 5.0))
    match fault:
        case "daemon":
            daemons.begin_again()
        case "gateway":
            await asyncio.to_thread(restart_gateway, lab, cloud)
        case "agent":
            start_agent(cloud, lab.state)
        case "WAN":
            await asyncio.to_thread(switch, lab, cloud, "up")
        case _:
            await asyncio.to_thread(restart_gateway, lab, cloud)
            daemons.begin_again()


def switch(lab: Lab, cloud: str, state: str) -> None:
    with netlink_in(lab.cloud(cloud).spec.netns) as netlink:
        (wan,) = netlink.link_lookup(ifname=UNDERLAY)
        netlink.link("set", index=wan, state=state)


def notice_of(cloud: str, at: datetime, *, withdrawn: bool = False) -> RevocationNotice:
    deadline = at + timedelta(minutes=15)
    return RevocationNotice(cloud=CloudName(cloud), at=at, deadline=deadline, withdrawn=withdrawn)


async def evacuate(lab: Lab, store: Store, fault: str, daemons: Daemons, random: Random) -> None:
    """Give notice of the cloud that the VMs are in, and have something happen while they leave it."""
    (left,) = {c for clouds in (await asyncio.to_thread(where, lab)).values() for c in clouds}
    everybody = {str(guest.name) for guest in lab.spec.guests}

    async def all_are_away() -> bool | None:
        found = await asyncio.to_thread(where, lab)
        away = all(len(clouds) == 1 and left not in clouds for clouds in found.values())
        return (away and found.keys() == everybody and not await store.open_steps()) or None

    await store.put_notice(notice_of(left, utc_now()))
    await asyncio.sleep(random.uniform(0.2, LATEST_SECONDS))
    await strike(lab, fault, random.choice("ab"), daemons, random)
    what = f"the VMs to leave {left} after {fault}\n{daemons.running.log}"
    await until(all_are_away, what)
    await store.put_notice(notice_of(left, utc_now(), withdrawn=True))


async def test_a_group_is_evacuated_whoever_dies_meanwhile(
    lab: Lab, daemons: Daemons, tmp_path: Path
) -> None:
    random = Random()
    async with Store.connect(knowledge_of(lab)) as store:
        for number in range(ROUNDS):
            await evacuate(lab, store, FAULTS[number % len(FAULTS)], daemons, random)
    await until(lambda: is_consistent(tmp_path / "transhume.yaml"), "a consistent overlay")
    await asyncio.to_thread(assert_nothing_was_lost, lab)
    assert await asyncio.to_thread(daemons.running.stop) == 0, daemons.running.log
