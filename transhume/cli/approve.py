"""`transhume approve`: the daemon's plans that await a person's word."""

from pathlib import Path

import click

from transhume.cli.connection import knowledge_options


@click.command("approve")
@click.argument("plan", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the outcomes as JSON.")
@knowledge_options
def command(*, plan: str | None, as_json: bool, config: Path, url: str | None) -> None:
    """Approve a plan, and watch it being carried out.

    Where no PLAN is named, the one that awaits approval is meant. The daemon plans once more first: a plan that
    is no longer the best is refused. Exit status 1 where it ended undone or failed. Ctrl-C
    ends the watching, not the plan.

    \b
    Examples:
      transhume approve
      transhume approve plan-4f2a
    """
    from transhume.cli.asking import carry_out
    from transhume.knowledge.records import CommandKind

    carry_out(plan, CommandKind.APPROVE, config, url, as_json=as_json)
