"""Watching captures being read: how far it is, the heat map as it grows, what there is to doubt.

Owns when something is drawn, and that it is drawn for people only: where standard error (the bar) or standard
output (the heat map) is no terminal, nothing is. Rich is loaded when there is something to draw.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import RenderableType

    from transhume.cli.capture_files import Captures

BAR_AFTER_SECONDS = 0.5
"""What is read sooner needs no bar."""
_BAR_EVERY_SECONDS = 0.1
DRAWN_EVERY_SECONDS = 2.0
_LARGEST_SHARE = 0.1
"""The share of the time that drawing may take: the longer it takes, the more seldom it is done."""


def warn(warnings: Iterable[str]) -> None:
    """Tell on standard error what keeps an analysis from being the whole truth."""
    from transhume.cli.views.harmless import harmless

    for warning in warnings:
        click.secho(f"warning: {harmless(warning)}", fg="yellow", err=True)


@contextmanager
def progress_bar(captures: "Captures") -> Iterator[None]:
    """Show on a terminal's standard error how far the reading is, when it takes its time."""
    if not sys.stderr.isatty():
        yield
        return
    done = Event()
    drawing = Thread(target=_draw_bar, args=(captures, done), name="progress bar", daemon=True)
    drawing.start()
    try:
        yield
    finally:
        done.set()
        drawing.join()


def _draw_bar(captures: "Captures", done: Event) -> None:
    """Look at the reading from time to time: it has better to do than to tell how far it is."""
    if done.wait(BAR_AFTER_SECONDS):
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=captures.total_bytes)
        before = -1
        while not done.wait(_BAR_EVERY_SECONDS):
            now = captures.position
            doing = waits_for() if now == before else "reading"
            progress.update(task, completed=now, description=doing)
            before = now


def waits_for() -> str:
    """Say what a reading does that gets no further, looking only at what it has loaded itself."""
    compiled = sys.modules.get("transhume.monitor.capture.scan.compiled.machine_code")
    compile_needed = getattr(compiled, "compile_needed", None)
    needed = compile_needed is not None and compile_needed()
    return "compiling the scanner, this once" if needed else "reading"


def watch(captures: "Captures", *, draws: bool) -> None:
    """Read captures as they grow until told to stop (Ctrl-C); show the matrix meanwhile, on a terminal."""
    from transhume.cli.growing_files import Pause, windows_as_they_come

    with _screen(draws=draws and sys.stdout.isatty()) as draw:
        due = time.monotonic()
        for came in windows_as_they_come(captures.readings, DRAWN_EVERY_SECONDS):
            if not isinstance(came, Pause):
                captures.add(came)
            if time.monotonic() >= due:
                began = time.monotonic()
                draw(captures)
                took = time.monotonic() - began
                due = time.monotonic() + max(DRAWN_EVERY_SECONDS, took / _LARGEST_SHARE)


@contextmanager
def _screen(*, draws: bool) -> "Iterator[Callable[[Captures], None]]":
    if not draws:
        yield lambda _: None
        return
    from rich.live import Live

    with Live(auto_refresh=False, transient=True, vertical_overflow="crop") as live:
        yield lambda captures: live.update(_now(captures), refresh=True)


def _now(captures: "Captures") -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    from transhume.cli.views.harmless import text
    from transhume.cli.views.heatmap import groups_table, heat_map

    if not any(summary.frames for summary in captures.summaries):
        return Text("no frame yet; Ctrl-C ends the reading", style="dim")
    analysis = captures.analysis()
    return Group(
        text(analysis.headline),
        Text(),
        heat_map(analysis.matrix, analysis.groups),
        Text(),
        groups_table(analysis.groups, analysis.patterns),
        Text("\nCtrl-C ends the reading and tells the rest", style="dim"),
    )
