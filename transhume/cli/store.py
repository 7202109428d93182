"""`transhume store`: what gateways know of each other's pages, and what that has saved."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from transhume.cli.connection import config_option, deployment_in

if TYPE_CHECKING:
    from rich.console import Console


@click.command("store")
@config_option
@click.option("--cloud", "clouds", multiple=True, help="Only this cloud's; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def command(config: Path, *, clouds: tuple[str, ...], as_json: bool) -> None:
    """Show what gateways keep, and what that has saved.

    For each cloud, by the cloud at the other end and by tenant: what is kept in memory and, encrypted, on disk;
    the pages that were sent and received; and of all that hypervisors sent, why how much of it didn't cross:
    zero pages, pages of the same VM, of another VM of the tenant, in an image or store at the destination, and
    compression. Then the images that are indexed, VMs that are kept warm elsewhere, and migrations under way.

    \b
    Examples:
      transhume store
      transhume store --cloud campus --json
    """
    import asyncio
    import json

    from transhume.cli.watching import warn

    answers = asyncio.run(_ask_all(config, clouds))
    found = [answer for answer in answers if not isinstance(answer, BaseException)]
    failures = [answer for answer in answers if isinstance(answer, BaseException)]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        from rich.console import Console

        console = Console()
        for status in found:
            show_store(status, console)
    warn(map(str, failures[1:]))
    if failures:
        raise failures[0]


async def _ask_all(config: Path, clouds: tuple[str, ...]) -> "list[dict[str, Any] | BaseException]":
    """Return what each gateway answers, or why it doesn't."""
    import asyncio

    from transhume.errors import UsageError
    from transhume.execute.migration.control_client import clients_of

    clients = clients_of(deployment_in(config))
    for cloud in clouds:
        if cloud not in clients:
            known = ", ".join(clients) or "none"
            raise UsageError(
                f"{config} has no gateway of a cloud {cloud}; it has those of: {known}"
            )
    if not clients:
        raise UsageError(f"{config} has no gateways; give a cloud one with `gateway`")
    asked = [client for cloud, client in clients.items() if not clouds or cloud in clouds]
    questions = (client.ask("status") for client in asked)
    return list(await asyncio.gather(*questions, return_exceptions=True))


def show_store(status: Mapping[str, Any], console: "Console") -> None:
    """Print what one gateway tells."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from transhume.cli.views.transfers import reasons, saved, share_of
    from transhume.execute.migration.control_client import transfer_of
    from transhume.quantities import format_bytes

    title = f"gateway of {status['site']}"
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for name in ("with", "tenant"):
        table.add_column(name, overflow="fold")
    for name in ("memory", "disk", "pages", "sent", "on the wire", "saved"):
        table.add_column(name, justify="right", no_wrap=True)
    why = []
    for domain in status["domains"]:
        sent = transfer_of(domain["sent"])
        table.add_row(
            domain["peer"],
            domain["tenant"],
            format_bytes(domain["memory_bytes"]),
            format_bytes(domain["disk_bytes"]),
            f"{domain['sent_pages'] + domain['received_pages']:,}",
            format_bytes(sent.raw_bytes),
            format_bytes(sent.wire_bytes),
            share_of(sent.raw_bytes - sent.wire_bytes, sent.raw_bytes),
        )
        if sent.raw_bytes:
            why.append(
                f"  saved of what went to {domain['peer']} for {domain['tenant']}: {reasons(sent)}"
            )
    console.print(table)
    for line in why:
        console.print(line, soft_wrap=True)
    for image in status["images"]:
        tenants = ", ".join(image["tenants"])
        console.print(f"  image {image['path']}: {image['blocks']:,} blocks, for {tenants}")
    for host in status.get("hosts", ()):
        there = "connected" if host["connected"] else "not connected"
        console.print(f"  relay at {host['host']}: {there}")
    for found in status.get("residents", ()):
        of = f"{found['pages']:,} pages of {found['vms']:,} VMs here"
        full = " (no room for more)" if found["full"] else ""
        console.print(f"  {of}, for {found['tenant']}: {format_bytes(found['kept_bytes'])}{full}")
    for kept in status["warming"]:
        share = share_of(kept["known_pages"], kept["scanned_pages"])
        ended = f" ({kept['ended']})" if kept["ended"] else ""
        blocks = kept.get("image_pages")
        disks = f", and {blocks:,} blocks of its disks" if blocks else ""
        where = f"  {kept['vm']} is kept warm at {kept['destination']}"
        cost = f", by {format_bytes(kept['sent']['wire_bytes'])} on the wire"
        console.print(f"{where}: {share} known{disks}{cost}{ended}")
    for route in status["routes"]:
        told = saved(transfer_of(route["sent"]))
        console.print(f"  {route['vm']} on its way to {route['destination']}: {told}")
