"""How the log looks: one line an event, to standard error, in colour on a terminal or as JSON."""

import sys
from collections.abc import Callable
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
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
    )
