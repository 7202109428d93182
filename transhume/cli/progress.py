"""`transhume progress`: tell the daemon how far a job is."""

import math
from pathlib import Path

import click

from transhume.cli.connection import knowledge_options, with_store


@click.command("progress")
@click.argument("job")
@click.argument("amount", metavar="DONE/TOTAL")
@click.option("--json", "as_json", is_flag=True, help="Print the progress as JSON.")
@knowledge_options
def command(job: str, amount: str, as_json: bool, config: Path, url: str | None) -> None:
    """Tell that DONE of the TOTAL work of JOB is done, in any unit.

    A policy's deadline names the job; how much is done by when decides whether the job may stay where it is
    cheap.

    \b
    Examples:
      transhume progress blast 120/4000
      transhume progress render 0.35/1 --url redis://knowledge.example
    """
    from transhume.errors import UsageError
    from transhume.knowledge.codec import encode
    from transhume.knowledge.model import JobName, Progress
    from transhume.knowledge.store import utc_now

    if not job.strip():
        raise UsageError("a job without a name; give the one that the policy's deadline names")
    done, total = _parse(amount)
    progress = Progress(job=JobName(job), at=utc_now(), done=done, total=total)
    with_store(config, url, lambda store: store.put_progress(progress))
    click.echo(encode(progress) if as_json else f"{job}: {done / total:.1%} done")


def _parse(amount: str) -> tuple[float, float]:
    """Return the two numbers of `120/4000`."""
    from transhume.errors import UsageError

    done, _, total = amount.partition("/")
    try:
        numbers = float(done), float(total)
    except ValueError:
        numbers = math.nan, math.nan
    if not 0 <= numbers[0] <= numbers[1] < math.inf or numbers[1] == 0:
        raise UsageError(
            f"{amount} is no progress: write what is done of how much, such as 120/4000"
        )
    return numbers
