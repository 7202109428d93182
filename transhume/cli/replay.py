"""`transhume replay`: what deadline policies would have cost, on spot machines as they came and went."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transhume.cli.reading_options import duration, one_thread_for_algebra

if TYPE_CHECKING:
    from transhume.plan.deadline import Availability, Comparison

NAMES = ("foresight", "uniform-progress", "greedy", "on-demand")
GENERATED_DAYS = 28
GENERATED_TICK_SECONDS = 195.0
SECONDS_PER_DAY = 86400


@click.command("replay")
@click.option("--job", required=True, callback=duration, metavar="TIME", help="The work to do.")
@click.option(
    "--deadline", required=True, callback=duration, metavar="TIME", help="Counted from its start."
)
@click.option(
    "--changeover",
    default="3m",
    show_default=True,
    callback=duration,
    metavar="TIME",
    help="What each start or move takes.",
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    type=click.Choice(NAMES),
    help="Only this one; may be given more than once.",
)
@click.option(
    "--traces",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A .json of availability for each zone. Without: generated ones.",
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
def command(
    *,
    job: float,
    deadline: float,
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
    """Compare what deadline policies cost on spot machines.

    A job begins at random instants of recorded or generated availability. Each policy decides tick by tick
    where it runs, and is told nothing of the future. Costs are averages over the starts. A changeover is what
    each start or move costs in time; no work is done in it.

    \b
    Examples:
      transhume replay --job 48h --deadline 60h
      transhume replay --job 48h --deadline 60h --changeover 12m --traces DIR
      transhume replay --job 2d --deadline 3d --policy foresight --json
    """
    one_thread_for_algebra()
    from transhume.errors import UsageError
    from transhume.plan.deadline import Job, cases_of, compare_policies

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
