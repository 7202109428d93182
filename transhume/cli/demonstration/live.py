"""A stage of real machines: a lab of QEMU guests, and the daemon as `transhume run` composes it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from importlib.resources import as_file, files
from pathlib import Path

from rich.console import Console

from transhume.cli.demonstration.scene import at_work
from transhume.daemon.composition import now, serving
from transhume.deployment.loader import load_deployment
from transhume.knowledge.model import CloudName, PriceTick
from transhume.knowledge.store import Store
from transhume.lab.lab import Lab
from transhume.lab.spec import plan_lab

RISE = 0.20


@asynccontextmanager
async def stage(folder: Path, console: Console) -> AsyncIterator[Store]:
    """Have a lab, and a daemon on it, for as long as the context lasts; yield the knowledge."""
    lab = Lab(folder / "lab")
    lab.refuse_another()  # which `down` would take for ours
    building: asyncio.Task[None] | None = None
    try:
        with console.status("building the lab") as shown:

            def tell(stage: str, detail: str = "") -> None:
                shown.update(f"building the lab: {stage} {detail}")

            spec = plan_lab(clouds=2, vms=6)
            building = asyncio.create_task(asyncio.to_thread(lab.up, spec, tell), name="building")
            await asyncio.shield(building)
        with as_file(files("transhume.cli.demonstration") / "policy-live.yaml") as policy:
            deployment = load_deployment(lab.deployment)
            async with serving(deployment, [policy]) as (daemon, store), at_work(daemon):
                yield store
        _tell_connections(lab, console)
    finally:
        with ExitStack() as telling:
            with suppress(OSError):  # the terminal is closed
                telling.enter_context(console.status("taking the lab down"))
            if building is not None:  # which nothing breaks off: a thread does it
                await asyncio.wait({building})
            await asyncio.to_thread(lab.down)


def _tell_connections(lab: Lab, console: Console) -> None:
    """Say how the guests' TCP connections have fared, by the guests' own counters."""
    found = [counter for guest in lab.spec.guests for counter in lab.counters(guest.name)]
    broken = sum(counter.errors for counter in found)
    received = sum(counter.bytes for counter in found if counter.role == "receive")
    again = sum(counter.connections - 1 for counter in found if counter.role == "send")
    console.print(
        f"the guests checked {received / 1e6:.1f} MB of each other's bytes: {broken} wrong, "
        f"{again} connections broken"
    )


def rise() -> PriceTick:
    """Return the price that the story turns on."""
    return PriceTick(
        cloud=CloudName("a"),
        at=now(),
        dollars_per_vcpu_hour=RISE,
        dollars_per_gib_hour=0.005,
        egress_dollars_per_gb=0.09,
    )
