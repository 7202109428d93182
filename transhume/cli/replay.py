"""`transhume replay`: what policies would have cost, had they been in force over a recorded time.

Two questions under one name. Policy files are replayed over a trace of a federation (`policy_replay`); deadline
policies, by their names, over the coming and going of spot machines, for one job.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transhume.cli.policy_replay import replay_policies
from transhume.cli.reading_options import duration, one_thread_for_algebra
from transhume.cli.written_files import WrittenFile

if TYPE_CHECKING:
    from transhume.plan.deadline import Availability, Comparison

NAMES = ("foresight", "uniform-progress", "greedy", "on-demand")
GENERATED_DAYS = 28
GENERATED_TICK_SECONDS = 195.0
SECONDS_PER_DAY = 86400
OF_JOBS = ("job", "deadline", "changeover", "alone", "starts", "seed", "spot", "on_demand")
"""Options that say nothing where policy files are replayed."""
OF_FILES = ("report", "solver")


def _policies(
    ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> "tuple[str | Path, ...]":
    """Return the names of deadline policies as they are, all else as paths of policy files."""
    found: list[str | Path] = []
    for each in given:
        path = Path(each)
        if each not in NAMES and not (path.suffix in (".yaml", ".yml") or path.exists()):
            raise click.BadParameter(
                f"{each!r} is neither a policy file (NAME.yaml) or a folder of them, nor one of "
                f"{', '.join(NAMES)}",
                ctx,
                parameter,
            )
        found.append(each if each in NAMES else path)
    return tuple(found)


def _optional_duration(
    ctx: click.Context, parameter: click.Parameter, text: str | None
) -> float | None:
    return None if text is None else duration(ctx, parameter, text)


@click.command("replay")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    callback=_policies,
    metavar="POLICY",
    help="A policy file, or a folder whose policies act together; or, with --job, one of: "
    f"{', '.join(NAMES)}. May be repeated.",
)
@click.option(
    "--traces",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="For policy files: a trace, see docs/replay.md. With --job: a .json of availability for each "
    "zone; without it, generated ones.",
)
@click.option(
    "--report", type=WrittenFile(), metavar="FILE", help="Policy files: draw it as HTML too."
)
@click.option(
    "--solver",
    type=click.Choice(("quick", "daemon")),
    default="quick",
    show_default=True,
    help="Policy files: a solver for replays, or the one that a daemon uses (slow).",
)
@click.option(
    "--job", callback=_optional_duration, metavar="TIME", help="Deadline policies: the work to do."
)
@click.option(
    "--deadline", callback=_optional_duration, metavar="TIME", help="Counted from the job's start."
)
@click.option(
    "--changeover",
    default="3m",
    show_default=True,
    callback=duration,
    metavar="TIME",
    help="What each start or move of the job takes.",
)
@click.option("--alone", is_flag=True, help="Each zone by itself, and the average of all.")
@click.option(
    "--starts",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="How many starts are drawn at random.",
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the draw.")
@click.option(
    "--spot", type=float, default=0.9731, show_default=True, metavar="DOLLARS", help="An hour."
)
@click.option(
    "--on-demand", type=float, default=3.06, show_default=True, metavar="DOLLARS", help="An hour."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    policies: "tuple[str | Path, ...]",
    traces: Path | None,
    report: Path | None,
    solver: str,
    job: float | None,
    deadline: float | None,
    changeover: float,
    alone: bool,
    starts: int,
    seed: int,
    spot: float,
    on_demand: float,
    as_json: bool,
) -> None:
    """Compare what policies would have cost.

    Policy files are run as they are over a trace: recorded prices, capacity, notices, progress and traffic of
    a federation, with a model of migration that is calibrated on recorded moves. Each is told nothing of the
    future, and carries out what it decides, whatever its mode says. Shown beside staying put.

    With --job, a job begins at random instants of recorded or generated availability of spot machines, and
    deadline policies decide tick by tick where it runs. Costs are averages over the starts. A changeover is
    what each start or move costs in time; no work is done in it.

    \b
    Examples:
      transhume replay --policy a.yaml --policy b.yaml --traces DIR
      transhume replay --policy a.yaml --traces DIR --report out.html
      transhume replay --job 48h --deadline 60h
      transhume replay --job 48h --deadline 60h --changeover 12m --traces DIR
      transhume replay --job 2d --deadline 3d --policy foresight --json
    """
    one_thread_for_algebra()
    files = tuple(policy for policy in policies if isinstance(policy, Path))
    if files:
        _refuse_mixture(ctx, OF_JOBS, len(files) < len(policies))
        replay_policies(files, traces, solver=solver, report=report, as_json=as_json)
        return
    _refuse_mixture(ctx, OF_FILES, mixed=False)
    _replay_job(
        job=job,
        deadline=deadline,
        changeover=changeover,
        policies=tuple(map(str, policies)),
        traces=traces,
        alone=alone,
        starts=starts,
        seed=seed,
        spot=spot,
        on_demand=on_demand,
        as_json=as_json,
    )


def _refuse_mixture(ctx: click.Context, strange: tuple[str, ...], mixed: bool) -> None:
    """Refuse options that belong to the other kind of replay: they would say nothing."""
    from transhume.errors import UsageError

    given = [
        name
        for name in strange
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if mixed:
        given.append("policy with the name of a deadline policy")
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        which = "policy files" if strange is OF_JOBS else "deadline policies (by their names)"
        raise UsageError(f"{options}: says nothing for {which}; leave it out")


def _replay_job(
    *,
    job: float | None,
    deadline: float | None,
    changeover: float,
    policies: tuple[str, ...],
    traces: Path | None,
    alone: bool,
    starts: int,
    seed: int,
    spot: float,
    on_demand: float,
    as_json: bool,
) -> None:
    from transhume.errors import UsageError
    from transhume.plan.deadline import Job, cases_of, compare_policies

    if job is None or deadline is None:
        raise UsageError(
            "give policy files and a trace (--policy a.yaml --traces DIR), or a job and its deadline "
            "(--job 48h --deadline 60h)"
        )
    _refuse_nonsense(job, deadline, changeover, spot, on_demand)
    wanted = Job(work_seconds=job, deadline_seconds=deadline, changeover_seconds=changeover)
    availability = _availability(traces, seed)
    if not availability.starts_for(deadline):
        lasts = len(availability) * availability.tick_seconds / 3600
        raise UsageError(
            f"the availability lasts {lasts:.1f} h, which is less than the deadline; "
            "give longer series, or a shorter --deadline"
        )
    cases = cases_of(
        availability,
        wanted,
        spot_dollars_per_hour=spot,
        on_demand_dollars_per_hour=on_demand,
        starts=starts,
        seed=seed,
        alone=alone,
    )
    found = compare_policies(wanted, cases, policies or NAMES)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
        return
    _print(found)


def _refuse_nonsense(
    job: float, deadline: float, changeover: float, spot: float, on_demand: float
) -> None:
    from transhume.errors import UsageError
    from transhume.quantities import format_duration

    if job <= 0:
        raise UsageError("--job is no work at all; give how long it takes, such as 48h")
    if deadline < job + changeover:
        raise UsageError(
            f"--deadline {format_duration(deadline)} can't be kept even on demand: work and a changeover take "
            f"{format_duration(job + changeover)}; give that at least"
        )
    if not 0 <= spot <= on_demand < float("inf") or on_demand == 0:
        raise UsageError(
            "--spot must be 0 or more, and --on-demand above 0 and no less than --spot"
        )


def _availability(folder: Path | None, seed: int) -> "Availability":
    if folder is not None:
        from transhume.cli.availability_files import load_availability

        return load_availability(folder)
    from transhume.cli.watching import warn
    from transhume.plan.deadline import generate

    warn(["no --traces: this is generated availability, not a recorded one"])
    ticks = int(GENERATED_DAYS * SECONDS_PER_DAY / GENERATED_TICK_SECONDS)
    return generate(ticks=ticks, tick_seconds=GENERATED_TICK_SECONDS, seed=seed)


def _print(found: "Comparison") -> None:
    from rich.console import Console

    from transhume.cli.views.tables import add_numbers, table

    shown = table("policy")
    add_numbers(shown, "cost", "share", "h on demand", "h on spot", "moves", "missed")
    for each in found.averages:
        shown.add_row(
            each.policy,
            f"${each.cost_dollars:,.2f}",
            f"{each.share_of_on_demand:.1%}",
            f"{each.on_demand_hours:.1f}",
            f"{each.spot_hours:.1f}",
            f"{each.moves:.1f}",
            f"{each.missed} of {found.cases}",
        )
    shown.add_row(
        "lower bound", f"${found.bound_dollars:,.2f}", f"{found.bound_share_of_on_demand:.1%}"
    )
    shown.caption = "share: of what running on demand only costs"
    Console(highlight=False).print(shown)
