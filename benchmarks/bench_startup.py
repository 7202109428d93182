"""How long `transhume --help` takes, beside Python alone and Python with the library that reads our commands.

The promise is an answer within 150 ms of the clock.
"""

import sys
from pathlib import Path

from benchmarks.measuring import Contender, measure, report

ROUNDS = 25
BARE, CLICK, OURS = "python -c pass", "python -c 'import click'", "transhume --help"


def main() -> None:
    transhume = Path(sys.executable).with_name("transhume")
    contenders = (
        Contender(name=BARE, command=(sys.executable, "-c", "pass")),
        Contender(name=CLICK, command=(sys.executable, "-c", "import click")),
        Contender(name=OURS, command=(str(transhume), "--help")),
    )
    results = measure(contenders, rounds=ROUNDS)
    promise = {"promised_wall_seconds": 0.15}
    report("startup", "Start-up", results, reference=BARE, facts=promise)


if __name__ == "__main__":
    main()
