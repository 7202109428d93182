"""`python -m transhume.plan.prove.worker PROVER < JOB`: one prover, in a process of its own.

Reads a job from standard input and writes answers, one a line, to standard output; each is better than the one
before.
"""

import sys
from collections.abc import Callable

from transhume.plan.answering import answer_apart
from transhume.plan.prove.job import Answer, Job


def main() -> None:
    """Prove, and tell."""
    prover = _prover(sys.argv[1])
    answer_apart(
        lambda question, tell: prover(Job.from_bytes(question), lambda a: tell(a.to_line()))
    )


def _prover(name: str) -> Callable[[Job, Callable[[Answer], None]], None]:
    if name == "toulbar2":
        from transhume.plan.prove.branching import prove_by_branching

        return prove_by_branching
    from transhume.plan.prove.relaxing import prove_by_relaxing

    return prove_by_relaxing


if __name__ == "__main__":
    main()
