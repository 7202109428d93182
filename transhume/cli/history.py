"""`transhume history`: how moves went, predicted beside measured."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from transhume.cli.connection import knowledge_options, with_store

if TYPE_CHECKING:
    from transhume.knowledge.model import Outcome
    from transhume.knowledge.store import Store


@click.command("history")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="How many moves at most.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@knowledge_options
def command(*, limit: int, as_json: bool, config: Path, url: str | None) -> None:
    """Show the latest moves, predicted beside measured.

    That is bytes, seconds and pause. The pause is the guest's own, from the source's stop to the destination's
    start as this machine saw them.

    \b
    Examples:
      transhume history
      transhume history --limit 100 --json
    """
    from transhume.cli.views.plans import show_outcomes

    async def read(store: "Store") -> "tuple[Outcome, ...]":
        return await store.outcomes(limit=limit)

    show_outcomes(with_store(config, url, read), as_json=as_json)
