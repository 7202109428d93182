"""`transhume status`: what a running daemon sees and does, once or as it changes."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from transhume.cli.connection import knowledge_options, knowledge_url, with_store

if TYPE_CHECKING:
    from transhume.cli.sight import Sight
    from transhume.knowledge.store import Store

REFRESH_SECONDS = 1.0
NOT_RUNNING = 3
"""What init scripts exit with for a service that doesn't run."""


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--watch", is_flag=True, help="Go on showing it, until Ctrl-C.")
@knowledge_options
def command(*, as_json: bool, watch: bool, config: Path, url: str | None) -> None:
    """Show what the daemon sees and does.

    Policies, clouds and their VMs, groups and their cut, the latest decision, moves under way. Exits with 0
    where a daemon runs, and with 3 where none does; what the last one knew is shown where it can be read. A
    daemon that was killed is taken to run for 10 seconds longer.

    \b
    Examples:
      transhume status
      transhume status --watch
      transhume status --json | jq '.clouds[] | {name, vms}'
    """
    from transhume.errors import UsageError

    if watch and as_json:
        raise UsageError("--watch is for people; for a program, ask again with --json")
    if watch:
        if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
            raise UsageError("--watch needs a terminal; in a script, ask again with --json")
        _watch(config, url)
    sight = _look_once(config, url)
    _print(sight, as_json=as_json)
    if not sight.running:
        sys.exit(NOT_RUNNING)


def _look_once(config: Path, url: str | None) -> "Sight":
    from transhume.cli.sight import look, nothing
    from transhume.errors import KnowledgeUnreachable

    try:
        found = knowledge_url(config, url)
    except KnowledgeUnreachable as error:
        click.echo(f"transhume: {error}", err=True)
        return nothing()
    return with_store(config, found, look)


def _print(sight: "Sight", *, as_json: bool) -> None:
    from rich.console import Console

    from transhume.cli.views.status import status
    from transhume.knowledge.codec import encode

    if as_json:
        click.echo(encode(sight))
    else:
        Console(highlight=False).print(status(sight))


def _watch(config: Path, url: str | None) -> NoReturn:
    """Show it anew each second, also across restarts of the daemon; ends by Ctrl-C only."""
    import asyncio
    import time

    from rich.live import Live

    from transhume.cli.sight import look, nothing
    from transhume.cli.views.status import status
    from transhume.errors import KnowledgeUnreachable

    with Live(screen=True, auto_refresh=False) as live:

        async def follow(store: "Store") -> None:
            while True:
                live.update(status(await look(store)), refresh=True)
                await asyncio.sleep(REFRESH_SECONDS)

        while True:
            try:
                with_store(config, url, follow)
            except KnowledgeUnreachable:
                live.update(status(nothing()), refresh=True)
                time.sleep(REFRESH_SECONDS)
