"""How what a daemon sees and does looks in a terminal, at a glance and in 80 columns."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from transhume.cli.sight import (
    CloudSight,
    DecisionSight,
    GroupSight,
    HostSight,
    MoveSight,
    Sight,
)
from transhume.cli.views.harmless import text
from transhume.cli.views.tables import add_numbers, table
from transhume.cli.views.transfers import saved
from transhume.knowledge.model import MoveProgress, PriceTick, RevocationNotice
from transhume.knowledge.records import PoliciesStatus, ShadowStatus
from transhume.quantities import (
    format_bytes,
    format_dollars_per_hour,
    format_duration,
    format_rate,
)

MOST_NAMES = 24
"""Of a cloud's or a group's VMs; `--json` has them all."""


def status(sight: Sight) -> RenderableType:
    """Show all there is to see; what there is none of takes no room."""
    return Lines(*_parts(sight))


def _parts(sight: Sight) -> Iterator[RenderableType]:
    facts = _grid()
    facts.add_row(text(("daemon", "dim")), _daemon(sight))
    if sight.policies is not None:
        facts.add_row(text(("policies", "dim")), _policies(sight.policies))
    if sight.decision is not None:
        facts.add_row(text(("decision", "dim")), _decision(sight.decision, sight.at))
    if sight.recording is not None:
        since = f"{_ago(sight.recording.since, sight.at)}, in {sight.recording.trace}"
        facts.add_row(text(("recording", "dim")), text(f"begun {since}"))
    if sight.shadow is not None:
        facts.add_row(text(("shadow", "dim")), _shadow(sight.shadow, sight.at))
    yield facts
    if sight.notices:
        yield from _section("notices", *(_notice(each, sight.at) for each in sight.notices))
    if sight.moves:
        yield from _section("moves under way", _moves(sight.moves, sight.at))
    if sight.clouds:
        yield from _section("clouds", _clouds(sight.clouds))
        yield from _section("hosts", _hosts(sight.clouds))
    if sight.homeless:
        where = f"on no host: {_names(sight.homeless)}"
        yield Padding(text((where, "bold red")), (0, 0, 0, 2))
    if sight.groups:
        yield from _section("groups, by traffic", _groups(sight.groups))
    if sight.jobs:
        jobs = (text(f"{job.job}: {job.done:g} of {job.total:g} done") for job in sight.jobs)
        yield from _section("jobs", *jobs)
    if sight.symptoms:
        shown = _grid()
        for symptom in sight.symptoms:
            ago = text((_ago(symptom.at, sight.at), "dim"))
            shown.add_row(ago, text(symptom.detail))
        yield from _section("last symptoms", shown)


def _daemon(sight: Sight) -> Text:
    daemon = sight.daemon
    if daemon is None:
        return text(("not running; no heartbeat is known", "bold red"))
    who = f"{daemon.holder} (pid {daemon.pid})"
    if not sight.running:
        since = f"{daemon.at.astimezone():%Y-%m-%d %H:%M:%S}"
        return text(
            (f"not running since {since}", "bold red"),
            f", {_ago(daemon.at, sight.at)}; the last was {who}",
        )
    lasts = _ago(daemon.started_at, sight.at, "")
    return text(("running", "bold green"), f" for {lasts} in mode {daemon.mode}: {who}")


def _policies(policies: PoliciesStatus) -> Text:
    named = ", ".join(f"{policy.name} ({policy.mode})" for policy in policies.in_force)
    refused = "\nrefused, so that these stay in force:" if policies.rejected else ""
    mistakes = "".join(f"\n{mistake}" for mistake in policies.rejected)
    in_force = f"in force: {named}" if named else "none in force"
    return text(in_force, (refused, "bold red"), (mistakes, "red"))


def _shadow(shadow: ShadowStatus, at: datetime) -> Text:
    count = len(shadow.policies)
    compared = f"{count} compared {_ago(shadow.at, at)}: transhume shadow"
    refused = "".join(f"\nrefused: {mistake}" for mistake in shadow.refused)
    why = f"\nthe last comparison came to nothing: {shadow.why}" if shadow.why else ""
    return text(compared, (refused, "red"), (why, "red"))


def _decision(decision: DecisionSight, at: datetime) -> Text:
    ago = _ago(decision.at, at)
    unplaced = f"\nfits nowhere: {_names(decision.unplaced)}" if decision.unplaced else ""
    conflict = f"\n{decision.conflict.sentence}" if decision.conflict else ""
    rest = ((unplaced, "bold red"), (conflict, "red"), ("\nwhy: transhume explain", "dim"))
    if decision.plan is None:
        return text(f"nothing to do ({ago}): {decision.why}", *rest)
    saves = format_dollars_per_hour(decision.saving_dollars_per_hour)
    standing = f", {decision.standing}" if decision.standing else ""
    moves = "1 move" if decision.moves == 1 else f"{decision.moves} moves"
    return text(
        f"{decision.plan} is ",
        (str(decision.status), "bold"),
        f" ({ago}): {moves}, saves {saves}{standing}; {decision.why}",
        *rest,
    )


def _notice(notice: RevocationNotice, at: datetime) -> Text:
    what = notice.cloud if notice.host is None else f"host {notice.host} of {notice.cloud}"
    left = (notice.deadline - at).total_seconds()
    if left <= 0:
        return text(f"{what} was to be gone ", (f"{format_duration(-left)} ago", "bold yellow"))
    return text(f"{what} will be gone in ", (format_duration(left), "bold yellow"))


def _moves(moves: Sequence[MoveSight], at: datetime) -> Table:
    shown = table("move", "phase")
    add_numbers(shown, "sent", "of", "rate", "time")
    for move in moves:
        way = f" {move.source} → {move.destination}" if move.source else ""
        shown.add_row(text(f"{move.vm}{way}"), move.phase, *_sent(move), _ago(move.since, at, ""))
        if notes := _notes(move.progress):
            shown.add_row(text(f"  {'; '.join(notes)}"))
    return shown


def _notes(progress: MoveProgress | None) -> list[str]:
    notes = []
    if progress is not None and progress.rounds is not None:
        notes.append(f"round {progress.rounds}")
    if progress is not None and progress.transfer is not None:
        notes.append(saved(progress.transfer))
    return notes


def _sent(move: MoveSight) -> tuple[str, str, str]:
    progress = move.progress
    if progress is None:
        return "–", "–", "–"
    whole = progress.bytes_sent + progress.bytes_remaining
    share = f"{progress.bytes_sent / whole:.0%}" if whole else "–"
    return share, format_bytes(whole), format_rate(progress.bytes_per_second)


def _clouds(clouds: Sequence[CloudSight]) -> Table:
    shown = table("cloud")
    add_numbers(shown, "vCPU·h", "GiB·h", "GB out", "VMs")
    shown.add_column("", ratio=1)
    for cloud in clouds:
        names = text(_names(cloud.vms))
        shown.add_row(text(cloud.name), *_price(cloud.price), str(len(cloud.vms)), names)
    return shown


def _price(tick: PriceTick | None) -> tuple[str, str, str]:
    if tick is None:
        return "–", "–", "–"
    return (
        f"${tick.dollars_per_vcpu_hour:g}",
        f"${tick.dollars_per_gib_hour:g}",
        f"${tick.egress_dollars_per_gb:g}",
    )


def _hosts(clouds: Sequence[CloudSight]) -> Table:
    shown = table("host", "cloud")
    add_numbers(shown, "vCPUs used", "memory used")
    for cloud in clouds:
        for host in cloud.hosts:
            shown.add_row(text(host.name), text(cloud.name), *_use(host))
    return shown


def _use(host: HostSight) -> tuple[str, str]:
    if host.used is None or host.total is None:
        return "–", "–"
    return (
        f"{host.used.vcpus}/{host.total.vcpus}",
        f"{format_bytes(host.used.memory_bytes)}/{format_bytes(host.total.memory_bytes)}",
    )


def _groups(groups: Sequence[GroupSight]) -> Table:
    shown = table("group", "in")
    add_numbers(shown, "inside", "cut", "egress")
    shown.add_column("VMs", ratio=1)
    for group in groups:
        split = "yellow" if len(group.clouds) > 1 else ""
        shown.add_row(
            text(group.id),
            text((", ".join(group.clouds) or "–", split)),
            format_rate(group.internal_bytes_per_second),
            text((format_rate(group.cut_bytes_per_second), split)),
            format_dollars_per_hour(group.cut_dollars_per_hour),
            text(_names(group.vms)),
        )
    return shown


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMES])
    return f"{shown} and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else shown


def _ago(then: datetime, now: datetime, suffix: str = " ago") -> str:
    """Say how long ago something was; another machine's clock may be a little ahead of ours."""
    return f"{format_duration(round(max(0.0, (now - then).total_seconds())))}{suffix}"


def _section(title: str, *shown: RenderableType) -> Iterator[RenderableType]:
    yield text((f"\n{title}", "bold"))
    yield from (Padding(each, (0, 0, 0, 2)) for each in shown)


def _grid() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table
