"""`transhume lab`: real clouds on this machine, for demonstrations and tests."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transhume.reach.raised_signals import EndedBySignal, raised

if TYPE_CHECKING:
    from transhume.lab.lab import CloudStatus
    from transhume.lab.narration import Narrator

STATE = Path("/run/transhume-lab")


@click.group("lab")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False, resolve_path=True),
    default=STATE,
    envvar="TRANSHUME_LAB",
    show_default=True,
    help="Where the lab's sockets, logs and files are.",
)
@click.pass_context
def command(context: click.Context, state: Path) -> None:
    """Run real clouds on this machine, for tests and demonstrations.

    Needs root. Each cloud is a libvirt daemon of Debian 13 in namespaces of its own, behind a slow WAN; the
    first `up` bootstraps that Debian from this machine's mirror into /var/cache/transhume. The guests talk to
    each other all the time and check every byte. Nothing outside the lab's namespaces and directories is
    touched.

    \b
    Examples:
      transhume lab up --clouds 3 --vms 6 --wan 100mbit
      export TRANSHUME_CONFIG=/run/transhume-lab/transhume.yaml
      transhume run --policies policies/
      transhume lab exec vm1 guest report
      transhume lab down
    """
    context.obj = state
    # While libvirt waits for a daemon that hangs, nothing but the signal itself ends us.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@command.command()
@click.option("--clouds", default=3, show_default=True, help="How many clouds.")
@click.option("--vms", default=6, show_default=True, help="How many VMs, in all.")
@click.option("--clusters", default=2, show_default=True, help="How many virtual clusters.")
@click.option(
    "--wan", default="100mbit", show_default=True, help="What each cloud's uplink carries."
)
@click.option(
    "--delay", default="0ms", show_default=True, help="What the WAN takes from cloud to cloud."
)
@click.option(
    "--gateways", is_flag=True, help="With a gateway at each cloud, which carries migrations."
)
@click.option(
    "--agents", is_flag=True, help="With an agent at each site, which looks after the overlay."
)
@click.option(
    "--memory", default=112, show_default=True, help="What each VM has, in MiB; up to 512."
)
@click.option(
    "--disks",
    type=click.Choice(["none", "image", "own"]),
    default="none",
    show_default=True,
    help="Read-only image of a small Debian, or a disk over it.",
)
@click.option("--place", default="", help="Where VMs start: vm1=a,vm2=b; the others in a.")
@click.option("--round-robin", is_flag=True, help="Deal the VMs out to the clouds instead.")
@click.option("--mirror", help="The Debian mirror; by default the one that apt uses.")
@click.pass_obj
def up(
    state: Path,
    *,
    clouds: int,
    vms: int,
    clusters: int,
    wan: str,
    delay: str,
    gateways: bool,
    agents: bool,
    memory: int,
    disks: str,
    place: str,
    round_robin: bool,
    mirror: str | None,
) -> None:
    """Build a lab and wait until its guests answer.

    The clouds are a, b, c and so on, with one host each: a1, b1, c1. The VMs are vm1, vm2 and so on, dealt out
    to the virtual clusters one after another. After an error, what was built stays for inspection.

    \b
    Examples:
      transhume lab up
      transhume lab up --clouds 2 --vms 4 --wan 50mbit --place vm1=b,vm3=b
      transhume lab up --clouds 2 --delay 20ms --gateways --memory 256 --disks own
    """
    from transhume.lab.lab import Lab
    from transhume.lab.spec import DiskSpec, plan_lab

    spec = plan_lab(
        clouds=clouds,
        vms=vms,
        clusters=clusters,
        wan_bytes_per_second=_rate(wan),
        wan_delay_seconds=_delay(delay),
        gateways=gateways,
        agents=agents,
        memory_mib=memory,
        disk=None if disks == "none" else DiskSpec(writable=disks == "own"),
        place=_places(place),
        round_robin=round_robin,
    )
    lab = Lab(state, mirror=mirror)
    # A terminal says by SIGHUP that it's closed.
    with _narrated() as tell, raised(signal.SIGTERM, signal.SIGHUP):
        try:
            lab.up(spec, tell)
        except KeyboardInterrupt:
            lab.down(tell)
            raise
        except EndedBySignal:
            lab.down()  # whoever watched may be gone
            raise
    click.echo(f"the lab is up; its deployment file is {lab.deployment}")


@command.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def status(state: Path, as_json: bool) -> None:
    """Show what each cloud runs.

    The exit status is 1 where one doesn't answer.

    \b
    Examples:
      transhume lab status
      transhume lab status --json
    """
    from transhume.lab.lab import Lab

    found = Lab(state).status()
    if as_json:
        _print_json(found)
    else:
        _print_table(found)
    if any(cloud.trouble for cloud in found):
        sys.exit(1)


@command.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("vm")
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND…")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait for its end.")
@click.pass_obj
def execute(state: Path, vm: str, words: tuple[str, ...], timeout: float) -> None:
    """Run a shell command line in a VM, wherever it is.

    Its exit status becomes ours.

    \b
    Examples:
      transhume lab exec vm1 uptime
      transhume lab exec vm2 'guest report; free'
    """
    from transhume.lab.lab import Lab

    answer = Lab(state).execute(vm, " ".join(words), timeout_s=timeout)
    click.echo(answer.output, nl=False)
    sys.exit(answer.status)


@command.command()
@click.pass_obj
def down(state: Path) -> None:
    """Remove the lab, or whatever an interrupted one has left.

    May be repeated.

    \b
    Examples:
      transhume lab down
    """
    from transhume.lab.lab import Lab

    with _narrated() as tell:
        Lab(state).down(tell)


def _rate(text: str) -> float:
    from transhume.errors import UsageError
    from transhume.quantities import parse_rate

    try:
        return parse_rate(text)
    except ValueError as error:
        raise UsageError(f"--wan: {error}") from error


def _delay(text: str) -> float:
    from transhume.errors import UsageError
    from transhume.quantities import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--delay: {error}") from error


def _places(text: str) -> dict[str, str]:
    from transhume.errors import UsageError

    places = {}
    for item in filter(None, text.split(",")):
        vm, equals, cloud = item.partition("=")
        if not equals:
            raise UsageError(f"--place: {item} doesn't say where; write vm1=a,vm2=b")
        places[vm.strip()] = cloud.strip()
    return places


def _print_json(found: "tuple[CloudStatus, ...]") -> None:
    import json
    from dataclasses import asdict

    click.echo(json.dumps([asdict(cloud) for cloud in found], indent=2))


def _print_table(found: "tuple[CloudStatus, ...]") -> None:
    from rich.console import Console
    from rich.table import Column, Table

    table = Table("cloud", "VMs", Column("libvirt", overflow="fold"))
    for cloud in found:
        table.add_row(cloud.name, cloud.trouble or " ".join(cloud.guests) or "-", cloud.uri)
    Console().print(table)


@contextmanager
def _narrated() -> Iterator["Narrator"]:
    """Show the stages as they pass: alive on a terminal, a line each elsewhere."""
    import time

    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, highlight=False)
    current: list[tuple[str, float]] = []

    def finish() -> None:
        if current:
            stage, began = current.pop()
            console.print(f"{escape(stage)} [dim]{time.monotonic() - began:.1f} s[/dim]")

    with console.status("") as spinner:

        def tell(stage: str, detail: str = "") -> None:
            if not current or current[0][0] != stage:
                finish()
                current.append((stage, time.monotonic()))
            spinner.update(f"{escape(stage)} [dim]{escape(detail[:80])}[/dim]")

        yield tell
        finish()
