"""`transhume relay`: what lets a site's gateway serve the hypervisors of another host of the site."""

from pathlib import Path

import click

from transhume.cli.logs import log_json_option, log_to_stderr


@click.command("relay")
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default="relay.yaml",
    show_default=True,
    help="The relay's configuration.",
)
@log_json_option
def command(config: Path, *, log_json: bool) -> None:
    """Connect a host's hypervisors with its site's gateway.

    To be run at each host of a site but the one that the gateway runs at. It calls the gateway, and again
    whenever that is gone; nothing listens here on the network. Ctrl-C breaks off what is under way: those
    VMs go on where they are.

    \b
    Examples:
      transhume relay
      transhume relay --config /etc/transhume/relay.yaml --log-json
    """
    import asyncio

    from transhume.execute.migration.relaying.configuration import load_relay
    from transhume.execute.migration.relaying.relay import serve_relay

    log_to_stderr(as_json=log_json)
    asyncio.run(serve_relay(load_relay(config)))
