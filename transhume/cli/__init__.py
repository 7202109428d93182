"""The command line: one file a command, loaded only when it is asked for.

Owns the group, the printing of errors and the exit statuses. A command's module has a click command named
`command`; the modules import what is heavy inside their functions, so that `--help` answers at once.
"""

import sys
from importlib import import_module

import click

from transhume import __version__
from transhume.errors import Error

COMMANDS = (
    "analyze",
    "apply",
    "approve",
    "capture",
    "demo",
    "explain",
    "history",
    "lab",
    "notice",
    "plan",
    "policy",
    "price",
    "progress",
    "run",
    "status",
)


class LazyGroup(click.Group):
    """A group whose commands are modules of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, in alphabetical order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module and return its command."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"transhume.cli.{cmd_name}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"transhume.cli.{cmd_name}.command is no click command")
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="transhume")
def group() -> None:
    """Keep distributed applications where they should be: live, across clouds.

    \b
    Examples:
      transhume demo                              the whole loop on simulated clouds, in a minute
      transhume analyze tap0.pcap --html out.html who talks to whom in a capture
      transhume policy check policies/*.yaml      what a policy file says, or what is wrong with it
      transhume run --config transhume.yaml       the daemon
      transhume status                            what it sees and does
    """


def main() -> None:
    """Run the command line; turn expected errors into one message and an exit status."""
    try:
        group.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Error as error:
        click.echo(f"transhume: {error}", err=True)
        sys.exit(error.exit_status)
