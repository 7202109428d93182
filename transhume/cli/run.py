"""`transhume run`: the daemon."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transhume.cli.connection import config_option, deployment_in
from transhume.cli.logs import log_json_option, log_to_stderr

if TYPE_CHECKING:
    from transhume.deployment.model import Deployment


@click.command("run")
@config_option
@click.option(
    "--policies",
    "policy_paths",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    required=True,
    help="A policy file, or a folder of them; may be repeated. Watched while running.",
)
@click.option(
    "--record",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Record what is seen there, as traces for `transhume replay`.",
)
@click.option(
    "--shadow",
    "shadows",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="PATH",
    help="A policy file, or a folder of them, to compare with those in force; it decides nothing. "
    "May be repeated.",
)
@log_json_option
def command(
    config: Path,
    policy_paths: tuple[Path, ...],
    record: Path | None,
    shadows: tuple[Path, ...],
    log_json: bool,
) -> None:
    """Watch the clouds and act as the policies say, until stopped.

    A policy file that becomes invalid is refused with the line of each mistake, and what was in force stays in
    force. Ctrl-C finishes the move under way and stops; a second Ctrl-C stops at once, and the next start
    finishes or undoes what was open. Nothing in a VM or a cloud waits for the daemon.

    What policies given by --shadow would have done with what is seen is shown by `transhume shadow`, beside
    those in force; a mistake in one of them is told, and changes nothing else.

    \b
    Examples:
      transhume run --policies policies/
      transhume run --config site.yaml --policies a.yaml --policies b.yaml
      transhume run --policies policies/ --record traces/ --shadow other.yaml
    """
    import asyncio

    from transhume.daemon.composition import serve

    log_to_stderr(as_json=log_json)
    asyncio.run(serve(_with_asides(deployment_in(config), record, shadows), policy_paths))


def _with_asides(
    deployment: "Deployment", record: Path | None, shadows: tuple[Path, ...]
) -> "Deployment":
    """Return the deployment with what was asked for on the command line beside what its file asks for."""
    from transhume.deployment.model import RecordingSettings, ShadowSettings

    recording, shadow = deployment.recording, deployment.shadow
    if record is not None:
        recording = (
            replace(recording, folder=record) if recording else RecordingSettings(folder=record)
        )
    if shadows:
        shadow = (
            replace(shadow, policies=(*shadow.policies, *shadows))
            if shadow
            else ShadowSettings(policies=shadows)
        )
    return replace(deployment, recording=recording, shadow=shadow)
