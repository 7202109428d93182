"""`transhume run`: the daemon."""

from pathlib import Path

import click

from transhume.cli.connection import config_option, deployment_in


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
@click.option("--log-json", is_flag=True, help="Write the log as JSON lines.")
def command(config: Path, policy_paths: tuple[Path, ...], log_json: bool) -> None:
    """Watch the clouds and act as the policies say, until stopped.

    A policy file that becomes invalid is refused with the line of each mistake, and what was in force stays in
    force. Ctrl-C finishes the move under way and stops; a second Ctrl-C stops at once, and the next start
    finishes or undoes what was open. Nothing in a VM or a cloud waits for the daemon.

    \b
    Examples:
      transhume run --policies policies/
      transhume run --config site.yaml --policies a.yaml --policies b.yaml
    """
    import asyncio

    from transhume.cli.logs import log_to_stderr
    from transhume.daemon.composition import serve

    log_to_stderr(as_json=log_json)
    asyncio.run(serve(deployment_in(config), policy_paths))
