"""`transhume plan`: what the planner would do now; a dry run on what the daemon knows."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from transhume.cli.connection import deployment_in, knowledge_options, with_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transhume.knowledge.model import Snapshot
    from transhume.knowledge.store import Store
    from transhume.policies.model import Policy


@click.command("plan")
@click.option(
    "--policies",
    "policy_paths",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="Policy files or folders to plan by, instead of those in force; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@knowledge_options
def command(
    *, policy_paths: tuple[Path, ...], as_json: bool, config: Path, url: str | None
) -> None:
    """Plan from what is known now, show it, and do nothing.

    With --policies it answers "what if": the same clouds, prices and traffic under other policies. Holds aren't
    waited for.

    \b
    Examples:
      transhume plan
      transhume plan --policies trial/cheaper.yaml
      transhume plan --json | jq '.steps[] | {vm, destination_cloud}'
    """
    from rich.console import Console

    from transhume.cli.views.plans import decision
    from transhume.knowledge.codec import encode
    from transhume.plan import PlannerSettings, make_plan
    from transhume.plan.deadline.keeping import DeadlineKeeper
    from transhume.policies.loader import load_policies
    from transhume.policies.model import moves_reach

    async def read(store: "Store") -> "tuple[Snapshot, Sequence[Policy]]":
        policies = load_policies(policy_paths or await _in_force(store))
        return await store.snapshot(moves_reach(policies)), policies

    snapshot, policies = with_store(config, url, read)
    settings = PlannerSettings()
    if config.exists():
        settings = PlannerSettings(moves_per_link=deployment_in(config).moves_per_link)
    policies = DeadlineKeeper(settings).heed(snapshot, policies)
    result = make_plan(snapshot, policies, trigger="asked by hand", settings=settings)
    if as_json:
        click.echo(encode(result))
    else:
        Console().print(decision(result))


async def _in_force(store: "Store") -> tuple[Path, ...]:
    from transhume.errors import UsageError

    status = await store.policies()
    if status is None or not status.in_force:
        raise UsageError("no policy is in force: name files with --policies")
    return tuple(Path(policy.source) for policy in status.in_force)
