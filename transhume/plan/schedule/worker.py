"""`python -m transhume.plan.schedule.worker cp-sat < PUZZLE`: CP-SAT, in a process of its own.

Of its own, because HiGHS and OR-Tools in one process have clashed (google/or-tools#5246).
"""

from collections.abc import Callable

from transhume.plan.answering import answer_apart
from transhume.plan.schedule.puzzle import Puzzle


def main() -> None:
    """Put moves in a better order, and tell."""
    answer_apart(_solve)


def _solve(question: bytes, tell: Callable[[bytes], None]) -> None:
    from transhume.plan.schedule.cp_sat import solve_puzzle

    solve_puzzle(Puzzle.from_bytes(question), lambda order: tell(order.to_line()))


if __name__ == "__main__":
    main()
