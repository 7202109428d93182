"""`transhume policy`: what policy files say, or what is wrong with them."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from transhume.errors import Mistake
    from transhume.policies.loader import PolicyFile


@click.group()
def command() -> None:
    """Check policy files, or print the schema that editors use.

    \b
    Examples:
      transhume policy check policies/
      transhume policy schema > policy.schema.json
    """


@command.command()
@click.argument(
    "paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A deployment file: a cloud that isn't in it is a mistake.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(paths: tuple[Path, ...], config: Path | None, as_json: bool) -> None:
    """Say what each policy will do, or every mistake in it.

    A directory stands for its *.yaml. Mistakes are told as file:line:column, and the exit status is 65 then.
    With --config, the names of clouds are checked too.

    \b
    Examples:
      transhume policy check policies/cheap-but-on-time.yaml
      transhume policy check policies/ --config site.yaml
      transhume policy check policies/ --json
    """
    from transhume.cli.connection import deployment_in
    from transhume.errors import InvalidFile
    from transhume.policies.known_clouds import unknown_clouds
    from transhume.policies.loader import check_policies

    files, mistakes = check_policies(paths)
    if config is not None:
        clouds = {cloud.name for cloud in deployment_in(config).clouds}
        unknown = (each for found in files for each in unknown_clouds(found.located, clouds))
        mistakes = (*mistakes, *unknown)
    if as_json:
        _print_json(files, mistakes)
    else:
        _print_text(files, mistakes)
    if mistakes:
        sys.exit(InvalidFile.exit_status)


@command.command()
def schema() -> None:
    """Print the JSON Schema of policy files.

    \b
    Examples:
      transhume policy schema > policy.schema.json
    """
    from transhume.located_yaml import json_schema
    from transhume.policies.schema import PolicySchema

    click.echo(json.dumps(json_schema(PolicySchema), indent=2))


def _print_text(files: "Sequence[PolicyFile]", mistakes: "Sequence[Mistake]") -> None:
    from transhume.policies.summary import summarize

    for mistake in mistakes:
        click.echo(str(mistake))
    for found in files:
        for warning in found.warnings(datetime.now(UTC)):
            click.echo(str(replace(warning, message=f"warning: {warning.message}")))
        click.echo(f"{found.policy.source}: {summarize(found.policy)}")


def _print_json(files: "Sequence[PolicyFile]", mistakes: "Sequence[Mistake]") -> None:
    from transhume.policies.summary import summarize

    now = datetime.now(UTC)
    policies = [
        {
            "file": found.policy.source,
            "policy": found.policy.name,
            "mode": found.policy.mode,
            "summary": summarize(found.policy),
            "warnings": [asdict(warning) for warning in found.warnings(now)],
        }
        for found in files
    ]
    written = {"policies": policies, "mistakes": [asdict(mistake) for mistake in mistakes]}
    click.echo(json.dumps(written, indent=2))
