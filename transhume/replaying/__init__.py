"""Policies replayed: what policy files would have done, over recorded facts and a model of migration.

Owns the world that answers to the daemon's own judgement (`loop`) in the place of hypervisors: traces of what
was known (`trace`), what a move takes (`migration`), what becomes of the VMs (`world`), what it cost
(`tally`), and the comparison (`comparison`). Pure: nothing here reads a file or a clock. Files are read by the
command line; the daemon drives the same world from what it sees (`shadow`).
"""

from transhume.replaying.comparison import Alternative, Comparison, Run, compare
from transhume.replaying.trace import Facts, HostRoom, JobPace, Trace, Traffic

__all__ = [
    "Alternative",
    "Comparison",
    "Facts",
    "HostRoom",
    "JobPace",
    "Run",
    "Trace",
    "Traffic",
    "compare",
]
