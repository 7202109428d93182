"""`transhume demo`: the whole loop in a minute, on simulated clouds or on the lab's real ones."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from transhume.cli.written_files import WrittenFile, write

if TYPE_CHECKING:
    from rich.console import Console

    from transhume.cli.demonstration.narrator import Story
    from transhume.cli.demonstration.scene import Scene

OBSERVATION_SECONDS = 15.0


@click.command("demo")
@click.option("--live", is_flag=True, help="Real QEMU guests on lab clouds; needs root and Debian.")
@click.option(
    "--report",
    type=WrittenFile(),
    default=Path("transhume-demo.html"),
    show_default=True,
    help="Where to write the HTML report.",
)
@click.option(
    "--svg",
    type=WrittenFile(),
    help="Write a picture of the terminal.",
)
def command(*, live: bool, report: Path, svg: Path | None) -> None:
    """Show the whole loop in a minute, on simulated or real clouds.

    Packets, the matrix, its groups, a price that rises, a plan, its moves, the bill. Without --live the packets
    are a recording and the clouds are simulated; the analysis, the planner, the executor, the journal and Redis
    are the real ones, and nothing is left behind.

    \b
    Examples:
      transhume demo
      transhume demo --live --report /tmp/live.html
    """
    import asyncio

    from rich.console import Console

    console = Console(record=svg is not None, highlight=False, width=96 if svg else None)
    story = asyncio.run(_tell(console, live=live))
    write(report, _render(story, live=live))
    console.print(f"\nThe report is in {report}")
    if svg is not None:
        write(svg, _picture(console))


def _picture(console: "Console") -> str:
    """Return the terminal as SVG, without the fonts that Rich would have a viewer fetch from elsewhere."""
    import re

    drawn = console.export_svg(title="transhume demo")
    return re.sub(r"\s*@font-face \{.*?\}", "", drawn, flags=re.DOTALL)


async def _tell(console: "Console", *, live: bool) -> "Story":
    """Tell the story; a signal ends it only when the stage is cleared, which impatience doesn't break off."""
    import asyncio
    import signal

    from transhume.reach.raised_signals import EndedBySignal
    from transhume.reach.signals import FirstSignal

    telling = asyncio.create_task(_told_on_stage(console, live=live), name="story")
    # A terminal that is closed says so by SIGHUP.
    first = FirstSignal(telling, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    try:
        return await telling
    except asyncio.CancelledError:
        if first.number is None:
            raise
        raise EndedBySignal(first.number) from None


async def _told_on_stage(console: "Console", *, live: bool) -> "Story":
    import tempfile

    import structlog

    from transhume.cli.demonstration.narrator import Narrator

    with tempfile.TemporaryDirectory(prefix="transhume-") as folder:
        log = (Path(folder) / "daemon.log").open("w", encoding="utf-8")
        structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=log))
        scene = _scene(live=live)
        async with scene.stage(Path(folder), console) as store:
            narrator = Narrator(console, store, patience_seconds=scene.patience_seconds)
            return await narrator.tell(scene.rise(), observation_seconds=OBSERVATION_SECONDS)


def _scene(*, live: bool) -> "Scene":
    from transhume.cli.demonstration import scene

    if live:
        from transhume.cli.demonstration import live as real

        return scene.Scene(stage=real.stage, rise=real.rise, patience_seconds=300.0)
    from transhume.cli.demonstration import simulated

    return scene.Scene(stage=simulated.stage, rise=simulated.rise, patience_seconds=60.0)


def _render(story: "Story", *, live: bool) -> str:
    from transhume.analyze import find_cut
    from transhume.cli.views.report import ReportData, render_report, timeline_of

    snapshot = story.snapshot
    assert snapshot.matrix is not None
    return render_report(
        ReportData(
            title="Transhume: one round of the loop",
            subtitle="QEMU guests on lab clouds" if live else "recorded packets, simulated clouds",
            matrix=snapshot.matrix,
            groups=snapshot.groups,
            timeline=timeline_of(story.windows),
            cloud_of={vm: snapshot.cloud_of(vm) for vm in snapshot.vms},
            cut=find_cut(snapshot.matrix, snapshot.cloud_of, snapshot.prices, snapshot.clouds),
            plan=story.plan,
            outcomes=story.outcomes,
            bill_before=story.plan.before,
            bill_after=story.plan.after,
        )
    )
