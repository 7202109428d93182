"""`transhume apply`: carry out what was only recommended."""

import sys
from pathlib import Path

import click

from transhume.cli.connection import knowledge_options


@click.command("apply")
@click.argument("plan", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the outcomes as JSON.")
@knowledge_options
def command(*, plan: str | None, as_json: bool, config: Path, url: str | None) -> None:
    """Carry out a plan that was only recommended, and watch it.

    Where no PLAN is named, the latest one is meant. The daemon plans once more first: a plan that is no longer
    the best is refused. Exit status 1 where it ended undone or failed.

    \b
    Examples:
      transhume apply
      transhume apply plan-4f2a
    """
    from transhume.cli.asking import carry_out
    from transhume.cli.views.plans import show_outcomes
    from transhume.knowledge.model import PlanStatus
    from transhume.knowledge.records import CommandKind

    status, outcomes = carry_out(plan, CommandKind.APPLY, config, url)
    show_outcomes(outcomes, as_json=as_json)
    if status is not PlanStatus.DONE:
        click.echo(f"transhume: the plan is {status}", err=True)
        sys.exit(1)
