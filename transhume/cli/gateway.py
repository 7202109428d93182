"""`transhume gateway`: a site's gateway, which carries migrations to and from other sites."""

from pathlib import Path

import click

from transhume.cli.logs import log_json_option, log_to_stderr


@click.command("gateway")
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default="gateway.yaml",
    show_default=True,
    help="The gateway's configuration.",
)
@log_json_option
def command(config: Path, *, log_json: bool) -> None:
    """Carry migrations to and from other sites, until stopped.

    To be run at each site that takes part, where its hypervisors' sockets are. Each page crosses only once,
    whichever VM it belongs to; nothing is let in without a ticket, which the daemon asks for. Ctrl-C breaks off
    what is under way: those VMs go on where they are.

    \b
    Examples:
      transhume gateway
      transhume gateway --config /etc/transhume/gateway.yaml --log-json
    """
    import asyncio

    from transhume.execute.migration.gateway.configuration import load_gateway
    from transhume.execute.migration.gateway.service import serve_gateway

    log_to_stderr(as_json=log_json)
    asyncio.run(serve_gateway(load_gateway(config)))
