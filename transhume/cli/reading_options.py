"""What the commands that read captures have in common: options, and how the process is set up for it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(path_type=Path, dir_okay=False)


def duration(ctx: click.Context, parameter: click.Parameter, text: str) -> float:
    """Return the seconds that an option gives; for click's `callback`."""
    from transhume.quantities import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, parameter) from error


def window_option(command: F) -> F:
    """Give a command the option `--window`, in seconds."""
    return click.option(
        "--window",
        default="1s",
        show_default=True,
        callback=duration,
        help="The length of a time bin.",
    )(command)


def vms_option(command: F) -> F:
    """Give a command the option `--vms`, a file."""
    return click.option(
        "--vms", "vms_file", type=FILE, help="YAML of VMs: NAME: {mac: …, ips: […]}."
    )(command)


def one_thread_for_algebra() -> None:
    """Keep NumPy from starting threads that only wait, and take longer for it than a small capture does.

    To be called before NumPy is loaded; what the user set stays.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
