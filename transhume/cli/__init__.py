"""The command line: one file a command, loaded only when it is asked for.

Owns the group, the printing of errors and the exit statuses. A command's module has a click command named
`command`; the modules import what is heavy inside their functions, so that `--help` answers at once.
"""

import errno
import os
import signal
import sys
from importlib import import_module

import click

from transhume import __version__
from transhume.errors import Error
from transhume.reach.raised_signals import EndedBySignal, die_by, raised

COMMANDS = (
    "analyze",
    "apply",
    "approve",
    "ca",
    "capture",
    "compare",
    "demo",
    "explain",
    "gateway",
    "history",
    "lab",
    "notice",
    "overlay",
    "plan",
    "policy",
    "price",
    "progress",
    "relay",
    "replay",
    "run",
    "shadow",
    "status",
    "store",
    "warm",
)

HIGHEST_STANDARD = 2
"""The descriptor of standard error."""
OUTPUT_FAILED = 74
NOT_ALLOWED = 77
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


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
      transhume demo                              the whole loop, simulated
      transhume analyze tap0.pcap --html out.html who talks to whom in a capture
      transhume compare monday.pcap tuesday.pcap  what changed between two of them
      transhume policy check policies/            what they say, or what's wrong
      transhume run --policies policies/          the daemon, by transhume.yaml
      transhume status                            what it sees and does
    """


def main() -> None:
    """Run the command line; turn expected errors into one message and an exit status.

    SIGTERM ends a command as Ctrl-C does. What has to end in another way says so itself.
    """
    _open_what_is_closed()
    try:
        with raised(signal.SIGTERM):
            group.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        die_by(signal.SIGINT)
    except EndedBySignal as ended:
        die_by(ended.number)
    except click.ClickException as error:
        _say_what_click_says(error)
        sys.exit(error.exit_code)
    except Error as error:
        _say(str(error))
        sys.exit(error.exit_status)
    except OSError as error:
        if isinstance(error, PermissionError) and error.filename is not None:
            _say(f"{os.fsdecode(error.filename)}: {error.strerror}; ask as a user who may")
            sys.exit(NOT_ALLOWED)
        if error.errno not in NO_ROOM:
            raise
        _say(f"can't write all of the output: {error.strerror}; make room, and try again")
        sys.exit(OUTPUT_FAILED)


def _open_what_is_closed() -> None:
    """Have standard input, output and error lead nowhere where whoever called us has closed them.

    What is opened next would be taken for them: a warning of a library's would be written into a file of ours.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= HIGHEST_STANDARD:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _say(message: str) -> None:
    from transhume.cli.views.harmless import harmless

    click.echo(f"transhume: {harmless(message)}", err=True)


def _say_what_click_says(error: click.ClickException) -> None:
    """Tell click's message in one line, with the help that has the remedy."""
    message = error.format_message()
    if message.startswith("Usage: "):  # of a group without a command: all of its help
        click.echo(message, err=True)
        return
    line = " ".join(message.split()).rstrip(".")
    if isinstance(error, click.UsageError) and error.ctx is not None:
        line += f"; see `{error.ctx.command_path} --help`"
    _say(line)
