"""`transhume price`: tell the daemon what a cloud asks from now on."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transhume.cli.connection import knowledge_options, with_store

if TYPE_CHECKING:
    from transhume.knowledge.model import PriceTick
    from transhume.knowledge.store import Store


@click.command("price")
@click.argument("cloud")
@click.option("--vcpu", type=float, metavar="DOLLARS", help="For a virtual CPU, an hour.")
@click.option("--memory", type=float, metavar="DOLLARS", help="For a GiB of memory, an hour.")
@click.option("--egress", type=float, metavar="DOLLARS", help="For a GB that leaves the cloud.")
@click.option(
    "--egress-within-region",
    "within_region",
    type=float,
    metavar="DOLLARS",
    help="For a GB to another cloud of its provider and region.",
)
@click.option(
    "--egress-within-provider",
    "within_provider",
    type=float,
    metavar="DOLLARS",
    help="For a GB to a cloud of its provider elsewhere.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the price as JSON.")
@knowledge_options
def command(
    *,
    cloud: str,
    vcpu: float | None,
    memory: float | None,
    egress: float | None,
    within_region: float | None,
    within_provider: float | None,
    as_json: bool,
    config: Path,
    url: str | None,
) -> None:
    """Tell what CLOUD asks from now on.

    What isn't given stays as it was. Where nothing was ever said of traffic within its provider or region, that
    costs what any does. What the deployment's feed or schedule says next takes its place.

    \b
    Examples:
      transhume price rented --vcpu 0.05 --memory 0.005 --egress 0.09
      transhume price rented --vcpu 0.25
    """
    from transhume.errors import UsageError

    asked = (vcpu, memory, egress, within_region, within_provider)
    given = [price for price in asked if price is not None]
    if not given:
        raise UsageError("give at least one of --vcpu, --memory, --egress and its two kinds")
    if not all(0 <= price < math.inf for price in given):
        raise UsageError("a price is a number of dollars, 0 or more")

    async def tell(store: "Store") -> "PriceTick":
        from transhume.cli.known_names import known_cloud
        from transhume.knowledge.model import PriceTick

        snapshot = await store.snapshot()
        name = known_cloud(cloud, snapshot)
        before = snapshot.prices.get(name)
        if before is None and vcpu is None:
            raise UsageError(f"nothing is known yet of what {cloud} asks: give --vcpu too")
        old = before or PriceTick(cloud=name, at=snapshot.at, dollars_per_vcpu_hour=0.0)
        region, provider = (
            old.egress_within_region_dollars_per_gb,
            old.egress_within_provider_dollars_per_gb,
        )
        tick = PriceTick(
            cloud=name,
            at=snapshot.at,
            dollars_per_vcpu_hour=old.dollars_per_vcpu_hour if vcpu is None else vcpu,
            dollars_per_gib_hour=old.dollars_per_gib_hour if memory is None else memory,
            egress_dollars_per_gb=old.egress_dollars_per_gb if egress is None else egress,
            egress_within_region_dollars_per_gb=region if within_region is None else within_region,
            egress_within_provider_dollars_per_gb=(
                provider if within_provider is None else within_provider
            ),
        )
        await store.put_price(tick)
        return tick

    _print(with_store(config, url, tell), as_json=as_json)


def _print(tick: "PriceTick", *, as_json: bool) -> None:
    from transhume.knowledge.codec import encode

    if as_json:
        click.echo(encode(tick))
        return
    nearer = [
        f", ${dollars:g} within its {what}"
        for what, dollars in (
            ("provider", tick.egress_within_provider_dollars_per_gb),
            ("region", tick.egress_within_region_dollars_per_gb),
        )
        if dollars is not None
    ]
    click.echo(
        f"{tick.cloud}: ${tick.dollars_per_vcpu_hour:g} for a vCPU and "
        f"${tick.dollars_per_gib_hour:g} for a GiB an hour, ${tick.egress_dollars_per_gb:g} for a GB out"
        f"{''.join(nearer)}"
    )
