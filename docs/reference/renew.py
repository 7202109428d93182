"""Renew the generated parts of the reference pages: `python docs/reference/renew.py`.

Tables come from the schemas, the commands from their own help. With `--check` nothing is written: the names of
the pages that are out of date are printed, and the exit status is 1 where there is one.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click

from transhume.cli import group
from transhume.deployment.schema import DeploymentSchema
from transhume.execute.migration.gateway.configuration import GatewaySchema
from transhume.execute.migration.relaying.configuration import RelaySchema
from transhume.located_yaml import renewed
from transhume.monitor.clouds.prices import ScheduleSchema
from transhume.policies.schema import PolicySchema

BEGIN = "<!-- generated from --help: begin -->\n"
END = "<!-- generated from --help: end -->\n"
WIDTH = 78
"""What click makes of a terminal of 80 columns."""


def renewed_commands(page: str) -> str:
    """Return a page with each command's help between its two marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page lacks the marks {BEGIN.strip()} and {END.strip()}")
    root = click.Context(
        group, info_name="transhume", terminal_width=WIDTH, **group.context_settings
    )
    sections = "\n".join(line for context in _commands(root) for line in _section(context))
    return f"{before}{begin}\n{sections}\n{end}{after}"


def _commands(context: click.Context) -> Iterator[click.Context]:
    """Yield a command and all below it, each in the context that its help is made in."""
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None
            yield from _commands(click.Context(command, info_name=name, parent=context))


def _section(context: click.Context) -> Iterator[str]:
    yield f"### {context.command_path}"
    yield ""
    yield "```text"
    yield context.get_help()
    yield "```"
    yield ""


PAGES: dict[str, Callable[[str], str]] = {
    "policies": partial(renewed, model=PolicySchema),
    "deployment": partial(renewed, model=DeploymentSchema),
    "gateway": partial(renewed, model=GatewaySchema),
    "relay": partial(renewed, model=RelaySchema),
    "prices": partial(renewed, model=ScheduleSchema),
    "commands": renewed_commands,
}


def stale_pages() -> Iterator[tuple[Path, str]]:
    """Yield each page that is not as it should be, and what should be in it."""
    for name, renew in PAGES.items():
        page = Path(__file__).with_name(f"{name}.md")
        old = page.read_text("utf-8")
        new = renew(old)
        if new != old:
            yield page, new


def main() -> None:
    """Rewrite the pages, or say which would change."""
    stale = list(stale_pages())
    for page, text in stale:
        print(page.name)
        if "--check" not in sys.argv:
            page.write_text(text, "utf-8")
    if "--check" in sys.argv and stale:
        sys.exit(1)


if __name__ == "__main__":
    main()
