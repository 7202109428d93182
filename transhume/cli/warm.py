"""`transhume warm`: send a running VM's memory to where it may go, before a move is decided."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from transhume.cli.connection import config_option, deployment_in

if TYPE_CHECKING:
    from transhume.execute.migration.gateways import Gateways

Amount = TypeVar("Amount", int, float)


@click.command("warm")
@click.argument("vm")
@click.argument("source")
@click.argument("destination")
@click.option("--at-most", metavar="BYTES", help="End when so much was sent, such as 2GiB.")
@click.option(
    "--rate",
    metavar="RATE",
    help="Keep all that goes ahead from SOURCE to DESTINATION to so much, such as 20MB/s.",
)
@click.option("--once", is_flag=True, help="End after one look at the memory.")
@click.option("--disks", is_flag=True, help="Send its own disk images, too, after its memory.")
@click.option("--stop", is_flag=True, help="Stop instead; what was sent stays known.")
@config_option
def command(
    *,
    vm: str,
    source: str,
    destination: str,
    at_most: str | None,
    rate: str | None,
    once: bool,
    disks: bool,
    stop: bool,
    config: Path,
) -> None:
    """Send a VM's memory ahead of a move.

    VM runs in cloud SOURCE, and may go to cloud DESTINATION. What the gateway there doesn't know yet is sent at
    low priority, again and again as memory changes, until it's stopped. A migration after that sends references
    almost only, and takes seconds. `transhume store` shows how much is known. Disk images that move with the VM
    can follow its memory, once, and in at most half of the bytes that may be sent. A rate is for all VMs that
    are kept warm there by the same gateway; where several are given, the lowest counts.

    \b
    Examples:
      transhume warm db-1 campus rented
      transhume warm db-1 campus rented --at-most 4GiB --once --disks
      transhume warm db-1 campus rented --rate 20MB/s
      transhume warm db-1 campus rented --stop
    """
    import asyncio

    from transhume.knowledge.model import CloudName, VmName
    from transhume.quantities import parse_bytes, parse_rate

    gateways = _gateways(config, source, destination)
    budget = _quantity("--at-most", at_most, parse_bytes)
    bytes_per_second = _quantity("--rate", rate, parse_rate)
    name, ends = VmName(vm), (CloudName(source), CloudName(destination))
    if stop:
        asyncio.run(gateways.cool(name, *ends))
        click.echo(f"{vm} isn't kept warm at {destination} any more")
        return
    passes = 1 if once else None
    asyncio.run(
        gateways.warm(
            name,
            *ends,
            most_wire_bytes=budget,
            bytes_per_second=bytes_per_second,
            passes=passes,
            disks=disks,
        )
    )
    click.echo(f"{vm} is being kept warm at {destination}; `transhume store` shows how far it is")


def _quantity(option: str, text: str | None, parse: Callable[[str], Amount]) -> Amount | None:
    from transhume.deployment.fields import more_than_nothing
    from transhume.errors import UsageError

    if text is None:
        return None
    try:
        return more_than_nothing(parse(text))
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error


def _gateways(config: Path, *clouds: str) -> "Gateways":
    from transhume.daemon.composition import transport_of
    from transhume.errors import UsageError
    from transhume.execute.migration.gateways import Gateways

    transport = transport_of(deployment_in(config))
    known = list(transport.clients) if isinstance(transport, Gateways) else []
    for cloud in clouds:
        if cloud not in known:
            names = ", ".join(known) or "none"
            raise UsageError(
                f"{config} has no gateway of a cloud {cloud}; it has those of: {names}"
            )
    assert isinstance(transport, Gateways)
    return transport
