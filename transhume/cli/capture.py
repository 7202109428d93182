"""`transhume capture`: the ears of one host, for a daemon that runs elsewhere."""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transhume.cli.connection import deployment_in, knowledge_options, with_store
from transhume.cli.logs import log_json_option

if TYPE_CHECKING:
    from transhume.knowledge.store import Store

LONGEST_ADDRESS = 108
"""In bytes, of a socket in Unix."""
ENDING_SECONDS, LOOK_SECONDS = 3.0, 0.05
"""How long a capture may take to end after it was told to."""


@click.command("capture")
@click.argument("host")
@click.option(
    "--method",
    type=click.Choice(["auto", "tcx", "clsact", "ring"]),
    help="How frames are seen, instead of what the deployment file says.",
)
@log_json_option
@knowledge_options
def command(
    *, host: str, method: str | None, log_json: bool, config: Path, url: str | None
) -> None:
    """Capture the traffic of HOST's VMs, until stopped.

    The windows go into the shared knowledge, a Redis that the daemon reaches too. To be run on a hypervisor, as
    root, with the daemon's deployment file, in which the host's capture says `remote: true`. Only addresses and
    lengths leave the host.

    Frames are added up in the kernel where it can do that (tcx from Linux 6.6 on, clsact from 5.11), else read
    from a ring in shared memory; the log says which, and why. Where that takes more of a processor than the
    deployment file allows (cpu_budget), a share of the frames is looked at, and windows hold estimates with
    their error.

    \b
    Examples:
      transhume capture hv1
      transhume capture hv1 --config site.yaml --url rediss://knowledge.example
      transhume capture hv1 --method ring
    """
    from dataclasses import replace

    from transhume.deployment.model import CaptureMethod
    from transhume.errors import UsageError

    deployment = deployment_in(config)
    points = [point for point in deployment.capture if point.host == host]
    if not points:
        known = ", ".join(sorted({point.host for point in deployment.capture})) or "none"
        raise UsageError(f"{config} has no capture for a host {host}; it has some for: {known}")
    if not points[0].remote:
        raise UsageError(
            f"{config} says that the daemon listens at {host} itself, and frames would count twice; give the "
            "host's capture `remote: true`, at the daemon too"
        )
    point = points[0] if method is None else replace(points[0], method=CaptureMethod(method))

    async def listen(store: "Store") -> None:
        from transhume.daemon.senses import keep_alive, traffic
        from transhume.reach.signals import run_until_told

        await run_until_told(keep_alive(traffic(point, deployment.window_seconds), store))

    with _alone(host):
        with_store(config, url, listen, log_json=log_json)


@contextmanager
def _alone(host: str) -> Iterator[None]:
    """Refuse to listen where another process does, as what both hear adds up; the kernel ends it with us.

    One that was told to end a moment ago is waited for.
    """
    from transhume.errors import UsageError

    address = os.fsencode(f"\0transhume-capture-{host}")[:LONGEST_ADDRESS]
    until = time.monotonic() + ENDING_SECONDS
    with socket.socket(socket.AF_UNIX) as mark:
        while not _is_ours(mark, address):
            if time.monotonic() > until:
                raise UsageError(
                    f"another `transhume capture {host}` runs here, and frames would count twice; end one of "
                    "them"
                )
            time.sleep(LOOK_SECONDS)
        yield


def _is_ours(mark: socket.socket, address: bytes) -> bool:
    try:
        mark.bind(address)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True
