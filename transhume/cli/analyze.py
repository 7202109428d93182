"""`transhume analyze`: who talks to whom in captures, without a daemon, root or Redis."""

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transhume.cli.exports import Export, ExportedFile
from transhume.cli.reading_options import (
    FILE,
    one_thread_for_algebra,
    vms_option,
    window_option,
)
from transhume.cli.watching import progress_bar, warn, watch
from transhume.cli.written_files import WrittenFile, write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transhume.analyze import Networks
    from transhume.cli.analysis import Analysis
    from transhume.knowledge.model import CloudName, PriceTick, Vm, VmName


@click.command("analyze")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@window_option
@vms_option
@click.option(
    "--networks", "networks_file", type=FILE, help="YAML of what is outside: NAME: [NETWORK, …]."
)
@click.option("--placement", "placement_file", type=FILE, help="YAML of places: NAME: CLOUD.")
@click.option("--prices", "prices_file", type=FILE, help="A price schedule, to bill the cut by.")
@click.option("--html", "html_file", type=WrittenFile(), help="Write a report that is one file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--export",
    "exports",
    type=ExportedFile(),
    multiple=True,
    metavar="[FORMAT:]FILE",
    help="Write .parquet, .csv, .graphml, .mtx or .json; may be given several times.",
)
@click.option("--follow", is_flag=True, help="Read on as the files grow, until Ctrl-C.")
@click.option("--workers", type=click.IntRange(1, 256), help="Read with so many processes.")
@click.option("--dask", metavar="URL", help="Read on the workers of a Dask scheduler: tcp://….")
@click.option("--inner", is_flag=True, help="Count what is inside of VXLAN, GRE and IP-in-IP.")
@click.option("--captured-length", is_flag=True, help="Count bytes as captured, not as sent.")
@click.option(
    "--engine", type=click.Choice(["numba", "numpy"]), help="How to scan, instead of as fits."
)
def command(
    *,
    files: tuple[str, ...],
    window: float,
    vms_file: Path | None,
    networks_file: Path | None,
    placement_file: Path | None,
    prices_file: Path | None,
    html_file: Path | None,
    as_json: bool,
    exports: tuple[Export, ...],
    follow: bool,
    workers: int | None,
    dask: str | None,
    inner: bool,
    captured_length: bool,
    engine: str | None,
) -> None:
    """Show who talks to whom in captures: matrix, groups, phases, cut.

    FILE is a capture (pcap or pcapng, also packed by gzip, zstd or lz4, also cut short), a folder of them, a
    pattern, or - for standard input. The files that tcpdump or dumpcap rotated are one capture point; all
    others are a capture point each, and NAME=FILE says it otherwise. A frame that was seen at two capture
    points counts once.

    Without --vms each MAC address is a VM, called by its IP address where it has one, and what lies behind a
    router is outside.

    \b
    Examples:
      transhume analyze tap0.pcap
      transhume analyze host-a/ host-b/ --vms vms.yaml --html out.html
      transhume analyze all.pcapng.gz --placement where.yaml --prices prices.yaml
      transhume analyze 'ring/*.pcap' --workers 2 --export traffic.parquet
      ssh hv1 tcpdump -i br0 -s 96 -w - | transhume analyze - --follow
    """
    one_thread_for_algebra()
    from transhume.cli.capture_files import Captures, Request
    from transhume.errors import UsageError
    from transhume.monitor.capture.scan import Engine

    if prices_file and not placement_file:
        raise UsageError(
            "--prices bills what crosses clouds: say with --placement where the VMs are"
        )
    request = Request(
        files=files,
        window_seconds=window,
        inner=inner,
        captured_length=captured_length,
        engine=None if engine is None else Engine(engine),
        workers=workers,
        scheduler=dask,
        follow=follow,
    )
    captures = Captures(request, _vms(vms_file), _networks(networks_file))
    if follow:
        watch(captures, draws=not as_json)
    else:
        with progress_bar(captures):
            captures.read()
    analysis = captures.analysis()
    cloud_of, prices = _placement(placement_file, analysis), _prices(prices_file, analysis)
    if cloud_of is not None:
        analysis = _with_cut(analysis, cloud_of, prices)
    if html_file:
        write(html_file, _report(analysis, cloud_of, prices))
    for export in exports:
        export.write(analysis)
    _tell(analysis, as_json=as_json)


# --- what else is known ------------------------------------------------------------------------------


def _vms(path: Path | None) -> "Sequence[Vm] | None":
    if path is None:
        return None
    from transhume.cli.inventory_files import load_vms

    return load_vms(path)


def _networks(path: Path | None) -> "Networks":
    from transhume.analyze import NO_NETWORKS

    if path is None:
        return NO_NETWORKS
    from transhume.cli.inventory_files import load_networks

    return load_networks(path)


def _placement(path: Path | None, analysis: "Analysis") -> "Mapping[VmName, CloudName] | None":
    if path is None:
        return None
    from transhume.cli.inventory_files import load_placement

    return load_placement(path, analysis.vms)


def _prices(path: Path | None, analysis: "Analysis") -> "Mapping[CloudName, PriceTick] | None":
    """Return the prices in force when the capture began; offsets in the schedule count from there."""
    if path is None:
        return None
    from transhume.monitor.clouds.prices import load_prices

    instant = analysis.matrix.start
    ticks = load_prices(path).ticks_between(instant, datetime.min.replace(tzinfo=UTC), instant)
    return {tick.cloud: tick for tick in ticks}


def _with_cut(
    analysis: "Analysis",
    cloud_of: "Mapping[VmName, CloudName]",
    prices: "Mapping[CloudName, PriceTick] | None",
) -> "Analysis":
    from transhume.analyze import find_cut

    cut = find_cut(analysis.matrix, cloud_of.__getitem__, prices or {})
    senders = dict.fromkeys(source for source, _ in sorted(cut.bytes_per_second))
    free = [] if prices is None else [cloud for cloud in senders if cloud not in prices]
    doubts = [
        f"no price of {cloud} was in force when the capture began: what it sends isn't billed"
        for cloud in free
    ]
    return replace(
        analysis,
        cut=cut,
        cut_is_billed=prices is not None,
        doubts=(*analysis.doubts, *doubts),
    )


# --- telling -----------------------------------------------------------------------------------------


def _tell(analysis: "Analysis", *, as_json: bool) -> None:
    if as_json:
        from transhume.cli.exports.result import print_result

        print_result(sys.stdout, analysis)
    else:
        from rich.console import Console, Group
        from rich.text import Text

        from transhume.cli.views.analysis import shown

        console = Console()
        for part in shown(analysis):
            console.print(part, soft_wrap=isinstance(part, (Text, Group)))
    warn(analysis.warnings)


def _report(
    analysis: "Analysis",
    cloud_of: "Mapping[VmName, CloudName] | None",
    prices: "Mapping[CloudName, PriceTick] | None",
) -> str:
    from transhume.cli.views.report import ReportData, render_report, timeline_of_series

    egress = {cloud: tick.egress_dollars_per_gb for cloud, tick in (prices or {}).items()}
    return render_report(
        ReportData(
            title=", ".join(Path(summary.path).name for summary in analysis.summaries),
            subtitle=analysis.headline,
            matrix=analysis.matrix,
            groups=analysis.groups,
            patterns=analysis.patterns,
            phases=analysis.phases,
            forecast=analysis.forecast,
            unattributed=analysis.unattributed,
            timeline=timeline_of_series(analysis.series),
            cloud_of=cloud_of,
            cut=analysis.cut,
            cut_is_billed=analysis.cut_is_billed,
            egress_dollars_per_gb=egress or None,
            warnings=analysis.warnings,
        )
    )
