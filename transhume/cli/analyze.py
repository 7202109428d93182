"""`transhume analyze`: who talks to whom in captures, without a daemon, root or Redis."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from transhume.cli.written_files import WrittenFile, write

if TYPE_CHECKING:
    from transhume.cli.capture_files import Analysis
    from transhume.knowledge.model import CloudName, Cut, PriceTick, VmName


def _window(ctx: click.Context, parameter: click.Parameter, text: str) -> float:
    from transhume.quantities import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, parameter) from error


_FILE = click.Path(path_type=Path, dir_okay=False)
_CAPTURE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command("analyze")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=_CAPTURE)
@click.option(
    "--window", default="1s", show_default=True, callback=_window, help="The length of a time bin."
)
@click.option("--vms", "vms_file", type=_FILE, help="YAML of VMs: NAME: {mac: …, ips: […]}.")
@click.option("--placement", "placement_file", type=_FILE, help="YAML of places: NAME: CLOUD.")
@click.option("--prices", "prices_file", type=_FILE, help="A price schedule, to bill the cut by.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--html", "html_file", type=WrittenFile(), help="Write a report that is one file.")
def command(
    *,
    files: tuple[Path, ...],
    window: float,
    vms_file: Path | None,
    placement_file: Path | None,
    prices_file: Path | None,
    as_json: bool,
    html_file: Path | None,
) -> None:
    """Show who talks to whom in captures: matrix, groups, cut.

    Reads pcap and pcapng, gzipped or not, cut short or not. Without --vms each MAC address is a VM, called by
    its IP address where it has one, and what lies behind a router is outside. Several files are several
    capture points: a frame seen at two of them counts once.

    \b
    Examples:
      transhume analyze tap0.pcap
      transhume analyze host-a.pcap host-b.pcap --vms vms.yaml --html out.html
      transhume analyze all.pcapng.gz --placement where.yaml --prices prices.yaml
    """
    from transhume.analyze import find_cut
    from transhume.cli.capture_files import analyze_captures, load_placement, load_vms
    from transhume.errors import UsageError

    if prices_file and not placement_file:
        raise UsageError(
            "--prices bills what crosses clouds: say with --placement where the VMs are"
        )
    vms = load_vms(vms_file) if vms_file else None
    with _progress(files) as tell:
        analysis = analyze_captures(files, window, vms, tell)
    cloud_of = load_placement(placement_file, analysis.vms) if placement_file else None
    prices = _prices_at(prices_file, analysis.matrix.start) if prices_file else {}
    cut = find_cut(analysis.matrix, cloud_of.__getitem__, prices) if cloud_of else None
    billed = prices_file is not None
    if html_file:
        write(html_file, _report(analysis, cloud_of, cut, billed=billed))
    if as_json:
        click.echo(json.dumps(_as_json(analysis, cut, billed=billed), indent=2))
    else:
        _show(analysis, cut, billed=billed)
    _warn(analysis.warnings)


@contextmanager
def _progress(files: Sequence[Path]) -> "Iterator[Callable[[int], None]]":
    """Show how much of the files was read, on a terminal's stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    total = sum(path.stat().st_size for path in files if path.is_file())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("reading", total=total or None)
        yield lambda count: bar.update(task, completed=count)


def _prices_at(path: Path, instant: datetime) -> "Mapping[CloudName, PriceTick]":
    """Return the prices in force when the capture began; offsets in the schedule count from there."""
    from transhume.monitor.clouds.prices import load_prices

    ticks = load_prices(path).ticks_between(instant, datetime.min.replace(tzinfo=UTC), instant)
    return {tick.cloud: tick for tick in ticks}


def _show(analysis: "Analysis", cut: "Cut | None", *, billed: bool) -> None:
    from rich.console import Console

    from transhume.cli.views.harmless import text
    from transhume.cli.views.heatmap import groups_table, heat_map, pairs_table

    console = Console()
    console.print(f"{_headline(analysis)}\n", highlight=False, markup=False)
    console.print(heat_map(analysis.matrix, analysis.groups), soft_wrap=True)
    if analysis.groups:
        console.print("\nGroups, the busiest first", style="bold")
        console.print(groups_table(analysis.groups))
        console.print("\nWho exchanges most", style="bold")
        console.print(pairs_table(analysis.matrix))
    for line in _rest(analysis, cut, billed=billed):
        console.print(text(line), soft_wrap=True)


def _headline(analysis: "Analysis") -> str:
    from transhume.quantities import format_bytes, format_duration

    frames = sum(summary.frames for summary in analysis.summaries)
    count = sum(summary.bytes for summary in analysis.summaries)
    return (
        f"{frames:,} frames, {format_bytes(count)} in {format_duration(analysis.matrix.seconds)};"
        f" {_counted(len(analysis.vms), 'VM')}, {_counted(len(analysis.groups), 'group')}"
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _rest(analysis: "Analysis", cut: "Cut | None", *, billed: bool) -> Iterator[str]:
    """Yield what isn't between VMs, and what crosses clouds."""
    from transhume.quantities import format_bytes, format_dollars_per_hour, format_rate

    matrix = analysis.matrix
    yield (
        f"\nto the outside {format_bytes(int(matrix.to_outside.sum()))}, from it"
        f" {format_bytes(int(matrix.from_outside.sum()))}, broadcast and multicast"
        f" {format_bytes(matrix.multicast_bytes)}, of no VM {format_bytes(matrix.unattributed_bytes)}"
    )
    if cut is not None:
        cost = f", {format_dollars_per_hour(cut.dollars_per_hour)} of egress" if billed else ""
        yield f"cut: {format_rate(cut.total_bytes_per_second)} between clouds{cost}"
        for (source, destination), rate in sorted(cut.bytes_per_second.items()):
            yield f"  {source} to {destination}: {format_rate(rate)}"


def _as_json(analysis: "Analysis", cut: "Cut | None", *, billed: bool) -> dict[str, Any]:
    matrix = analysis.matrix
    return {
        "files": [
            {
                "path": summary.path,
                "frames": summary.frames,
                "bytes": summary.bytes,
                "first": summary.first.isoformat() if summary.first else None,
                "last": summary.last.isoformat() if summary.last else None,
                "unreadable_frames": summary.unreadable_frames,
                "stopped": summary.stopped,
            }
            for summary in analysis.summaries
        ],
        "start": matrix.start.isoformat(),
        "seconds": matrix.seconds,
        "vms": [
            {
                "name": vm.name,
                "macs": [interface.mac for interface in vm.interfaces if interface.mac],
                "ips": [ip for interface in vm.interfaces for ip in interface.ips],
                "cluster": vm.cluster,
            }
            for vm in analysis.vms
        ],
        "bytes": matrix.bytes.tolist(),
        "frames": matrix.frames.tolist(),
        "to_outside": matrix.to_outside.tolist(),
        "from_outside": matrix.from_outside.tolist(),
        "multicast_bytes": matrix.multicast_bytes,
        "unattributed_bytes": matrix.unattributed_bytes,
        "groups": [
            {
                "id": group.id,
                "vms": list(group.vms),
                "internal_bytes_per_second": group.internal_bytes_per_second,
                "external_bytes_per_second": group.external_bytes_per_second,
                "cohesion": group.cohesion,
            }
            for group in analysis.groups
        ],
        "cut": _cut_as_json(cut, billed=billed) if cut else None,
    }


def _cut_as_json(cut: "Cut", *, billed: bool) -> dict[str, Any]:
    return {
        "crossing": [
            {"from": source, "to": destination, "bytes_per_second": rate}
            for (source, destination), rate in sorted(cut.bytes_per_second.items())
        ],
        "dollars_per_hour": cut.dollars_per_hour if billed else None,
    }


def _report(
    analysis: "Analysis",
    cloud_of: "Mapping[VmName, CloudName] | None",
    cut: "Cut | None",
    *,
    billed: bool,
) -> str:
    from transhume.cli.views.report import ReportData, render_report, timeline_of

    names = ", ".join(Path(summary.path).name for summary in analysis.summaries)
    data = ReportData(
        title=names,
        subtitle=_headline(analysis),
        matrix=analysis.matrix,
        groups=analysis.groups,
        timeline=timeline_of(analysis.windows),
        cloud_of=cloud_of,
        cut=cut,
        cut_is_billed=billed,
        warnings=analysis.warnings,
    )
    return render_report(data)


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        click.secho(f"warning: {warning}", fg="yellow", err=True)
