"""What a trace says of revocation notices: when each came, and until when what it announced lasted.

What follows a notice's deadline is told by the hosts: those of a cloud that has gone give no answer, and it is
back when one of them does. A cloud that is there some time after its deadline has kept its machines: its notice
is told as taken back just before, as a replay would lose VMs then that weren't lost.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from transhume.knowledge.model import CloudName, HostName, RevocationNotice, Snapshot
from transhume.knowledge.model.market import LINGERS

JUST_BEFORE = timedelta(milliseconds=1)

Place = tuple[CloudName, HostName | None]


class NoticeRows:
    """The rows about notices in a trace with these hosts."""

    def __init__(self, hosts: Mapping[HostName, CloudName]) -> None:
        self._hosts = hosts
        self._in_force: dict[Place, RevocationNotice] = {}
        self._past: dict[Place, RevocationNotice] = {}
        """Those whose deadline is over, and of which it isn't told yet what followed."""
        self._gone: set[Place] = set()
        """The places among them that have fallen silent."""

    def new(self, snapshot: Snapshot) -> Iterator[str]:
        """Yield what there is to be told of a snapshot that is later than the last."""
        now = {
            (notice.cloud, notice.host): notice
            for notice in snapshot.notices
            if self._concerned(notice) and notice.deadline >= notice.at
            if notice.deadline > snapshot.at
        }
        for place, notice in now.items():
            if self._in_force.get(place) != notice:
                yield _row(notice)
        for place, notice in self._in_force.items():
            if place in now:
                continue
            if snapshot.at < notice.deadline:
                yield _row(notice, max(snapshot.at, notice.at))
            else:
                self._past[place] = notice
        self._in_force = now
        self._past = {place: each for place, each in self._past.items() if place not in now}
        self._gone &= self._past.keys()
        yield from self._what_followed(snapshot)

    def _what_followed(self, snapshot: Snapshot) -> Iterator[str]:
        for place, notice in list(self._past.items()):
            if not self._answers(notice, snapshot):
                self._gone.add(place)
            elif place in self._gone or snapshot.at - notice.deadline >= LINGERS:
                stayed = max(notice.deadline - JUST_BEFORE, notice.at)
                yield _row(notice, snapshot.at if place in self._gone else stayed)
                del self._past[place]
                self._gone.discard(place)

    def _concerned(self, notice: RevocationNotice) -> list[HostName]:
        return [
            host
            for host, cloud in self._hosts.items()
            if cloud == notice.cloud and notice.host in (None, host)
        ]

    def _answers(self, notice: RevocationNotice, snapshot: Snapshot) -> bool:
        reports = (snapshot.capacity.get(host) for host in self._concerned(notice))
        return any(report is not None and not report.silent for report in reports)


def _row(notice: RevocationNotice, until: datetime | None = None) -> str:
    ends = until.isoformat() if until else ""
    times = f"{notice.at.isoformat()},{notice.deadline.isoformat()},{ends}"
    return f"{notice.cloud},{notice.host or ''},{times}"
