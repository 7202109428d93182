"""`transhume shadow`: what policies that aren't in force would have done with what the daemon has seen.

Owns the choice between what a daemon compared last and a comparison now; both are those of `transhume replay`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from transhume.cli.connection import knowledge_options, with_store
from transhume.cli.reading_options import one_thread_for_algebra
from transhume.cli.written_files import WrittenFile, write

if TYPE_CHECKING:
    from transhume.knowledge.records import ShadowStatus


@click.command("shadow")
@click.option(
    "--policy",
    "policies",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    metavar="PATH",
    help="Compare now: a policy file, or a folder whose policies act together. May be repeated.",
)
@click.option(
    "--traces",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="With --policy: a recording, instead of the running daemon's.",
)
@click.option("--report", type=WrittenFile(), metavar="FILE", help="Draw it as HTML too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@knowledge_options
def command(
    *,
    policies: tuple[Path, ...],
    traces: Path | None,
    report: Path | None,
    as_json: bool,
    config: Path,
    url: str | None,
) -> None:
    """Show what other policies would have done.

    Over what the daemon has seen, beside the policies in force.

    Without --policy: what it found last for those that it was given by `transhume run --shadow`. With
    it, these are replayed now over what was recorded so far. The report is that of `transhume replay`;
    `in-force` are the policies that the daemon obeys, all together.

    \b
    Examples:
      transhume shadow
      transhume shadow --policy other.yaml
      transhume shadow --policy other.yaml --traces /var/lib/transhume/recording
    """
    from transhume.errors import UsageError

    if policies:
        one_thread_for_algebra()
        _compare_now(policies, traces or _recording(config, url), report, as_json=as_json)
        return
    if traces is not None:
        raise UsageError("--traces says nothing without --policy; name a policy to compare")
    _show_latest(with_store(config, url, lambda store: store.shadow()), report, as_json=as_json)


def _recording(config: Path, url: str | None) -> Path:
    from transhume.errors import UsageError

    found = with_store(config, url, lambda store: store.recording())
    if found is None:
        raise UsageError(
            "the daemon records nothing to compare policies over; start it with "
            "`transhume run --record DIR`, or name a recording with --traces"
        )
    return Path(found.trace)


def _compare_now(
    policies: tuple[Path, ...], recording: Path, report: Path | None, *, as_json: bool
) -> None:
    from transhume.cli.policy_replay import replay_policies
    from transhume.daemon.recorded_folders import in_force, latest_trace
    from transhume.errors import UsageError

    trace = latest_trace(recording)
    ours = in_force(trace) if trace else None
    if trace is None or ours is None:
        raise UsageError(
            f"{recording} holds no recording of a daemon; name the folder of `transhume run --record`, "
            "or replay policies over another trace with `transhume replay`"
        )
    replay_policies((ours, *policies), trace, solver="quick", report=report, as_json=as_json)


def _show_latest(status: "ShadowStatus | None", report: Path | None, *, as_json: bool) -> None:
    from transhume.cli.policy_replay import show_comparison
    from transhume.cli.views.harmless import harmless
    from transhume.cli.watching import warn
    from transhume.errors import UsageError
    from transhume.knowledge.codec import decode
    from transhume.replaying import Comparison

    if status is None:
        raise UsageError(
            "the daemon has compared nothing yet; give it policies with `transhume run --shadow PATH` and "
            "wait a minute, or compare one now with --policy"
        )
    warn(status.refused)
    if status.why:
        warn([f"the last comparison came to nothing: {status.why}"])
    if not status.report:
        raise UsageError("no comparison has come about yet")
    found = decode(Comparison, status.report)
    if report is not None:
        from transhume.cli.views.replay_report import render_replay

        write(report, render_replay(found, title="Policies in the shadow", source=status.trace))
    if not as_json:
        click.echo(f"compared {status.at:%Y-%m-%d %H:%M} UTC over {harmless(status.trace)}")
    show_comparison(found, as_json=as_json)
