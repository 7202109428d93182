"""`transhume overlay`: the virtual networks' agents, and what they know."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transhume.cli.connection import config_option, deployment_in, knowledge_options, with_store
from transhume.cli.logs import log_json_option, log_to_stderr

if TYPE_CHECKING:
    from transhume.deployment.model import OverlayNetwork
    from transhume.errors import UsageError
    from transhume.execute.overlay.tracing import OverlayView, Trace
    from transhume.knowledge.model import Snapshot
    from transhume.knowledge.store import Store

    Networks = tuple[OverlayNetwork, ...]


def _network_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--network", "only", metavar="NAME", help="One of the networks; without it, all."
    )(command)


@click.group("overlay")
def command() -> None:
    """Look after the virtual networks, and at them.

    Each site has an agent: it notices VMs that have moved, and lets the kernel send their frames to where they
    are. `overlay: {vni: 66, agents: true}` in the deployment file says that there are agents; each looks after
    all networks of its site.

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
@log_json_option
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

    from transhume.execute.overlay.agent.process import run_agent

    log_to_stderr(as_json=log_json)
    asyncio.run(run_agent(deployment_in(config), site))


@command.command()
@knowledge_options
@_network_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(config: Path, url: str | None, *, only: str | None, as_json: bool) -> None:
    """Show each site's agent, and where addresses are, by network.

    \b
    Examples:
      transhume overlay status
      transhume overlay status --network blue --json
    """
    networks = _networks_in(config)
    chosen = _chosen(networks, only)

    async def look(store: "Store") -> "dict[str, OverlayView]":
        return {network.name: await _look(store, network) for network in chosen}

    found = with_store(config, url, look)
    if as_json:
        shown = {name: asdict(view) for name, view in found.items()}
        click.echo(json.dumps(shown, indent=2, default=str))
        return
    from rich.console import Console

    from transhume.cli.views import overlay as view

    console = Console()
    for name, seen in found.items():
        of = f" of network {name}" if len(networks) > 1 else ""
        console.print(view.agents(seen.agents, seen.revision, datetime.now(UTC), of=of))
        console.print(view.bindings(seen.bindings, of=of))


@command.command()
@knowledge_options
@_network_option
def check(config: Path, url: str | None, *, only: str | None) -> None:
    """Say what doesn't fit together.

    A line for each fault, and the exit status 1 where there is one. It compares the deployment's sites, their
    agents' last words, the register of addresses and where hypervisors say that VMs run.

    \b
    Examples:
      transhume overlay check && echo all is well
    """
    networks = _networks_in(config)
    chosen = _chosen(networks, only)

    async def compare(store: "Store") -> list[str]:
        snapshot = await store.snapshot()
        found = [(each, await _faults(store, each, networks, snapshot)) for each in chosen]
        return [
            f"network {network.name}: {fault}" if len(networks) > 1 else fault
            for network, faults in found
            for fault in faults
        ]

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
@_network_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def trace(
    source: str,
    destination: str,
    config: Path,
    url: str | None,
    *,
    only: str | None,
    as_json: bool,
) -> None:
    """Show which way frames go from one VM to another, and back.

    In each network that both are on.

    \b
    Examples:
      transhume overlay trace vm1 vm4
      transhume overlay trace vm1 vm4 --network blue
    """
    networks = _networks_in(config)
    chosen = _chosen(networks, only)

    async def follow(store: "Store") -> "dict[str, list[Trace]]":
        return await _traces(store, (source, destination), chosen, networks)

    traces = with_store(config, url, follow)
    if as_json:
        shown = {name: [asdict(each) for each in ways] for name, ways in traces.items()}
        click.echo(json.dumps(shown, indent=2))
        return
    for name, ways in traces.items():
        for each in ways:
            click.echo(f"network {name}: {each}" if len(networks) > 1 else str(each))


async def _traces(
    store: "Store",
    ends: tuple[str, str],
    chosen: "Networks",
    networks: "Networks",
) -> "dict[str, list[Trace]]":
    """Return the ways there and back, by network; if it's none, say why it isn't the first."""
    from transhume.errors import UsageError
    from transhume.execute.overlay.networks import seen_on
    from transhume.execute.overlay.tracing import trace_between

    snapshot = await store.snapshot()
    traces, refused = {}, []
    for network in chosen:
        found = await _look(store, network)
        theirs = seen_on(snapshot, network.name, alone=len(networks) == 1)
        vteps = {site.name: site.vtep for site in network.sites}
        try:
            traces[str(network.name)] = [
                trace_between(*way, found, theirs, vteps) for way in (ends, ends[::-1])
            ]
        except UsageError as error:
            refused.append(error)
    if not traces:
        raise refused[0] if len(chosen) == 1 else _nowhere_together(ends, refused)
    return traces


def _nowhere_together(ends: tuple[str, str], refused: "list[UsageError]") -> "UsageError":
    from transhume.errors import UsageError

    why = "; ".join(dict.fromkeys(map(str, refused)))
    return UsageError(f"{' and '.join(ends)} aren't on one network: {why}")


async def _faults(
    store: "Store", network: "OverlayNetwork", networks: "Networks", snapshot: "Snapshot"
) -> tuple[str, ...]:
    from transhume.execute.overlay.networks import seen_on
    from transhume.execute.overlay.tracing import inconsistencies

    found = await _look(store, network)
    theirs = seen_on(snapshot, network.name, alone=len(networks) == 1)
    sites = [site.name for site in network.sites]
    return inconsistencies(sites, found, theirs, datetime.now(UTC), network.terms)


def _networks_in(config: Path) -> "Networks":
    from transhume.errors import UsageError

    networks = deployment_in(config).networks
    if not networks or not networks[0].agents:
        raise UsageError(
            f"{config} has no overlay with agents; write `overlay: {{vni: 66, agents: true}}`"
        )
    return networks


def _chosen(networks: "Networks", only: str | None) -> "Networks":
    from transhume.errors import UsageError

    chosen = tuple(each for each in networks if only in (each.name, None))
    if not chosen:
        names = ", ".join(each.name for each in networks)
        raise UsageError(f"the overlay has no network {only}; it has {names}")
    return chosen


async def _look(store: "Store", network: "OverlayNetwork") -> "OverlayView":
    from transhume.execute.overlay.tracing import OverlayView
    from transhume.knowledge.model import BindingState

    register = store.register(network.vni)
    whole = await register.read()
    return OverlayView(
        revision=whole.revision,
        agents=await register.statuses(),
        bindings={
            mac: binding
            for mac, binding in whole.bindings.items()
            if binding.state is not BindingState.GONE
        },
    )
