"""`transhume overlay`: the virtual network's agents, and what they know."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transhume.cli.connection import config_option, deployment_in, knowledge_options, with_store

if TYPE_CHECKING:
    from transhume.deployment.model import OverlayNetwork
    from transhume.execute.overlay.tracing import OverlayView, Trace
    from transhume.knowledge.store import Store


@click.group("overlay")
def command() -> None:
    """Look after the virtual network, and at it.

    Each site has an agent: it notices VMs that have moved, and lets the kernel send their frames to where they
    are. `overlay: {vni: 66, agents: true}` in the deployment file says that there are agents.

    \b
    Examples:
      transhume overlay agent --site campus
      transhume overlay status
      transhume overlay check
      transhume overlay trace vm1 vm4
    """


@command.command()
@config_option
@click.option("--site", required=True, help="Which of the overlay's sites this is.")
@click.option("--log-json", is_flag=True, help="Write the log as JSON lines.")
def agent(config: Path, *, site: str, log_json: bool) -> None:
    """Look after a site, until stopped.

    To be run at each site, as root, where its bridge is. A second one for the same site waits until the first
    is gone. The kernel stays as it is when an agent ends: connections go on.

    \b
    Examples:
      transhume overlay agent --site campus
      transhume overlay agent --config transhume.yaml --site campus --log-json
    """
    import asyncio

    from transhume.cli.logs import log_to_stderr
    from transhume.execute.overlay.agent.process import run_agent

    log_to_stderr(as_json=log_json)
    asyncio.run(run_agent(deployment_in(config), site))


@command.command()
@knowledge_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(config: Path, url: str | None, *, as_json: bool) -> None:
    """Show each site's agent, and where each address is.

    \b
    Examples:
      transhume overlay status
      transhume overlay status --json
    """
    network = _network_in(config)
    found = with_store(config, url, lambda store: _look(store, network))
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2, default=str))
        return
    from rich.console import Console

    from transhume.cli.views import overlay as view

    console = Console()
    console.print(view.agents(found.agents, found.revision, datetime.now(UTC)))
    console.print(view.bindings(found.bindings))


@command.command()
@knowledge_options
def check(config: Path, url: str | None) -> None:
    """Say what doesn't fit together.

    A line for each fault, and the exit status 1 where there is one. It compares the deployment's sites, their
    agents' last words, the register of addresses and where hypervisors say that VMs run.

    \b
    Examples:
      transhume overlay check && echo all is well
    """
    from transhume.execute.overlay.tracing import inconsistencies

    network = _network_in(config)
    sites = [site.name for site in network.sites]

    async def compare(store: "Store") -> tuple[str, ...]:
        found = await _look(store, network)
        snapshot = await store.snapshot()
        return inconsistencies(sites, found, snapshot, datetime.now(UTC))

    faults = with_store(config, url, compare)
    for fault in faults:
        click.echo(fault)
    if faults:
        raise SystemExit(1)
    click.echo("the overlay is consistent")


@command.command()
@click.argument("source", metavar="VM")
@click.argument("destination", metavar="VM")
@knowledge_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def trace(source: str, destination: str, config: Path, url: str | None, *, as_json: bool) -> None:
    """Show which way frames go from one VM to another, and back.

    \b
    Examples:
      transhume overlay trace vm1 vm4
    """
    from transhume.execute.overlay.tracing import trace_between

    network = _network_in(config)
    vteps = {site.name: site.vtep for site in network.sites}

    async def follow(store: "Store") -> "tuple[Trace, Trace]":
        found = await _look(store, network)
        snapshot = await store.snapshot()
        ways = ((source, destination), (destination, source))
        there, back = (trace_between(*way, found, snapshot, vteps) for way in ways)
        return there, back

    traces = with_store(config, url, follow)
    if as_json:
        click.echo(json.dumps([asdict(each) for each in traces], indent=2))
        return
    for each in traces:
        click.echo(str(each))


def _network_in(config: Path) -> "OverlayNetwork":
    from transhume.errors import UsageError

    overlay = deployment_in(config).overlay
    if overlay is None or not overlay.agents:
        raise UsageError(
            f"{config} has no overlay with agents; write `overlay: {{vni: 66, agents: true}}`"
        )
    return overlay


async def _look(store: "Store", network: "OverlayNetwork") -> "OverlayView":
    from transhume.execute.overlay.tracing import OverlayView

    register = store.register(network.vni)
    whole = await register.read()
    return OverlayView(
        revision=whole.revision,
        agents=await register.statuses(),
        bindings=whole.bindings,
    )
