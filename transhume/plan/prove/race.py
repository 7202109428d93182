"""Runs provers side by side, in processes of their own; the first proof ends the race.

What they answer is believed by nobody before `proving` has looked at it.
"""

from collections.abc import Sequence

from transhume.plan.processes import Lines, ask_apart
from transhume.plan.prove.job import Answer, Job

WORKER = "transhume.plan.prove.worker"


def race(job: Job, provers: Sequence[str]) -> list[Answer]:
    """Return the last answer of each prover; the first that proved something ends the others."""
    heard = ask_apart(
        WORKER,
        provers,
        job.to_bytes(),
        job.seconds,
        enough=lambda lines: any(answer.proved for answer in _answers(lines)),
    )
    return _answers(heard)


def _answers(lines: Lines) -> list[Answer]:
    """Return each prover's last answer, in the order of the provers."""
    return [Answer.from_line(told[-1]) for told in lines.values() if told]
