"""How the log looks: one line an event, to standard error, in colour on a terminal or as JSON."""

import sys
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def log_json_option(command: F) -> F:
    """Give a command the option `--log-json`, a flag for `log_to_stderr`."""
    return click.option("--log-json", is_flag=True, help="Write the log as JSON lines.")(command)


def log_to_stderr(*, as_json: bool) -> None:
    """Set the log up for this process."""
    import structlog

    renderer = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=24)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=lambda *_: _Lines(),
    )


class _Lines:
    """Lines on standard error, as far as it takes them.

    A disk that is full, or a reader that is gone, costs what is told: VMs have to be saved all the same.
    """

    _writing = Lock()

    def msg(self, line: str) -> None:
        """Write a line, or lose it."""
        with self._writing, suppress(OSError):
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    debug = info = warning = error = critical = exception = msg
