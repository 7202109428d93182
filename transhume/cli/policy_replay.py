"""Policy files over a trace: reading both, the replay under a progress bar, and its report.

Owns what `transhume replay --policy a.yaml` does; nothing is written before all of it is known.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from transhume.replaying import Alternative, Comparison, Trace
    from transhume.replaying.comparison import Watcher


def replay_policies(
    paths: Sequence[Path], traces: Path | None, *, solver: str, report: Path | None, as_json: bool
) -> None:
    """Replay each file, or folder of files, and print the comparison.

    Raises:
        UsageError: no trace was given, or it is none; two alternatives have one name.
        InvalidFile: with every mistake of a policy file, or of a file of the trace.
    """
    from transhume.cli.trace_files import load_trace
    from transhume.cli.written_files import write
    from transhume.errors import UsageError
    from transhume.replaying import compare
    from transhume.replaying.comparison import Manner

    if traces is None:
        raise UsageError(
            "policy files are replayed over a trace; name its folder with --traces "
            "(docs/replay.md says what is in it)"
        )
    alternatives = alternatives_in(paths)
    trace = load_trace(traces)
    _warn_of_idle_policies(alternatives, trace)
    _warn_of_free_clouds(trace)
    manner = Manner(solver=None) if solver == "daemon" else Manner()
    with _bar(1 + len(alternatives)) as watcher:
        found = compare(trace, alternatives, manner=manner, watcher=watcher)
    if report is not None:
        from transhume.cli.views.replay_report import render_replay

        write(report, render_replay(found, title="Policies replayed", source=str(traces)))
    show_comparison(found, as_json=as_json)


def alternatives_in(paths: Sequence[Path]) -> "tuple[Alternative, ...]":
    """Return what is to be compared: a file by its policy's name, a folder by its own.

    Raises:
        InvalidFile: with every mistake in all files.
        UsageError: two have one name.
    """
    from transhume.errors import UsageError
    from transhume.policies.loader import load_policies
    from transhume.replaying import Alternative
    from transhume.replaying.comparison import STAY

    found: list[Alternative] = []
    for path in paths:
        policies = load_policies([path])
        name = path.name if path.is_dir() else policies[0].name
        if name in (STAY, *(each.name for each in found)):
            raise UsageError(f"{path}: there is another {name} to compare with; rename one of them")
        found.append(Alternative(name=name, policies=policies))
    return tuple(found)


def _warn_of_idle_policies(alternatives: "Sequence[Alternative]", trace: "Trace") -> None:
    """Warn of policies that govern nothing in the trace: a typing mistake, most of the time."""
    from transhume.cli.watching import warn

    for each in alternatives:
        for policy in each.policies:
            if not any(policy.governs(vm) for vm in trace.facts.vms.values()):
                warn([f"policy {policy.name} ({policy.source}) governs no VM of the trace"])


def _warn_of_free_clouds(trace: "Trace") -> None:
    """Warn of clouds that ask for nothing, as the trace has no price of them."""
    from transhume.cli.watching import warn
    from transhume.knowledge.model import PriceTick

    priced = {change.cloud for change in trace.changes if isinstance(change, PriceTick)}
    free = [cloud for cloud in trace.facts.clouds if cloud not in priced]
    if free:
        warn(
            [
                f"the trace has no price of {', '.join(free)}: what runs there, or sends, costs nothing"
            ]
        )


def show_comparison(found: "Comparison", *, as_json: bool) -> None:
    """Print a comparison, for a person or for a program."""
    if as_json:
        from transhume.knowledge.codec import encode

        click.echo(encode(found))
        return
    from rich.console import Console

    from transhume.cli.views.replay import comparison

    Console(highlight=False).print(comparison(found))


@contextmanager
def _bar(runs: int) -> "Iterator[Watcher | None]":
    """Show on a terminal's standard error how far a replay is."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("replaying", total=float(runs))
        begun: list[str] = []

        def watcher(run: str, share: float) -> None:
            if run not in begun:
                begun.append(run)
            progress.update(task, completed=len(begun) - 1 + share, description=f"replaying {run}")

        yield watcher
