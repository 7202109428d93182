"""What an application says of its own progress: the one line that it keeps in a Redis key.

    120/4000   so much of so much is done, in any unit
    0.35       the share that is done, from 0 to 1

Owns how the line is read. Leaves out who reads the key, and when (`daemon.senses`).
"""

import math
import re
from datetime import datetime

from transhume.errors import UnreadableProgress
from transhume.knowledge.model import JobName, Progress

_NUMBER = r"\s*(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*"
_LINE = re.compile(rf"{_NUMBER}(?:/{_NUMBER})?", re.ASCII)


def read_progress(job: JobName, written: str, at: datetime) -> Progress:
    """Return what a line says of a job.

    Raises:
        UnreadableProgress: it says nothing that can be understood, or more is done than there is to do.
    """
    line = _LINE.fullmatch(written)
    if line is None:
        raise UnreadableProgress(job, repr(written))
    done, total = float(line[1]), float(line[2] or 1)
    if not (done <= total < math.inf and total > 0):
        raise UnreadableProgress(job, f"{written!r}, more than there is to do")
    return Progress(job=job, at=at, done=done, total=total)
