"""Attaching the program by the `clsact` queueing discipline, for kernels older than 6.6.

A filter belongs to its interface, not to a process: one whose process was killed goes on counting for nobody.
So the filter's name tells whose it is, and `sweep` takes those of the dead away. Whose the rest is, is not ours
to ask: a foreign filter is never touched, and `clsact` goes only where we brought it and nothing else uses it.

pyroute2 has an event loop of its own, so each exchange with the kernel happens in a thread of its own.
"""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from transhume.monitor.capture.bpf.syscalls import Direction
from transhume.reach.netns import netlink_in

T = TypeVar("T")

_KIND = "clsact"
_PARENTS = {Direction.INGRESS: 0xFFFF_FFF2, Direction.EGRESS: 0xFFFF_FFF3}
_ALL_PROTOCOLS = 3
_MARK = "transhume"
_GONE = (errno.ENODEV, errno.ENOENT, errno.EINVAL, errno.ENXIO)
"""What the kernel answers when the interface, or its filters with it, went before us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The process that a filter is for, by what tells it from any other on this machine since it started."""

    pid_namespace: int
    pid: int
    started: int

    @classmethod
    def this_process(cls) -> "Owner":
        """Return ourselves."""
        return cls(pid_namespace=_pid_namespace(), pid=os.getpid(), started=_started(os.getpid()))

    @property
    def is_dead(self) -> bool:
        """Whether it is known to be gone; what lives in another container can't be known."""
        return self.pid_namespace == _pid_namespace() and _started(self.pid) != self.started

    def filter_name(self, *, brought_clsact: bool) -> str:
        """Return the name of a filter that belongs to it."""
        brought = int(brought_clsact)
        return f"{_MARK}:{self.pid_namespace}:{self.pid}:{self.started}:{brought}"

    @classmethod
    def of_filter(cls, name: str) -> "tuple[Owner, bool] | None":
        """Return whose filter this is, and whether it brought `clsact`; None: not ours."""
        mark, *numbers = name.split(":")
        if mark != _MARK or len(numbers) != 4 or not all(each.isdecimal() for each in numbers):
            return None
        namespace, pid, started, brought = map(int, numbers)
        return cls(pid_namespace=namespace, pid=pid, started=started), bool(brought)


class ClsactAttachment:
    """A program at an interface, until closed.

    Raises:
        ExtraMissing: pyroute2 isn't installed.
        OSError: the kernel refused, or there is no such interface (any more).
    """

    def __init__(
        self, program: int, netns: str | None, interface: int, directions: Sequence[Direction]
    ) -> None:
        self._netns, self._interface, self._owner = netns, interface, Owner.this_process()
        _in_a_thread(netns, lambda netlink: self._attach(netlink, program, directions))

    def close(self) -> None:
        """Detach."""
        with suppress(OSError):
            _in_a_thread(
                self._netns, lambda netlink: _remove(netlink, self._interface, self._is_ours)
            )

    def _is_ours(self, owner: Owner) -> bool:
        return owner == self._owner

    def _attach(self, netlink: Any, program: int, directions: Sequence[Direction]) -> None:
        brought = not _has_clsact(netlink, self._interface)
        if brought:
            netlink.tc("add", _KIND, self._interface)
        name = self._owner.filter_name(brought_clsact=brought)
        try:
            for direction in directions:
                parent = _PARENTS[direction]
                netlink.tc(
                    "add-filter",
                    "bpf",
                    self._interface,
                    0,
                    fd=program,
                    name=name,
                    parent=parent,
                    prio=_first_free(netlink, self._interface, parent),
                    protocol=_ALL_PROTOCOLS,
                    direct_action=True,
                )
        except BaseException:
            _remove(netlink, self._interface, self._is_ours)
            if brought:
                _remove_unused(netlink, self._interface)
            raise


def sweep(netns: str | None) -> int:
    """Remove the filters of processes that died without removing them; return how many there were.

    Raises:
        ExtraMissing: pyroute2 isn't installed.
        OSError: the kernel refused.
    """

    def swept(netlink: Any) -> int:
        found = {qdisc["index"] for qdisc in netlink.get_qdiscs() if _kind(qdisc) == _KIND}
        return sum(_remove(netlink, interface, lambda owner: owner.is_dead) for interface in found)

    return _in_a_thread(netns, swept)


def _remove(netlink: Any, interface: int, which: Callable[[Owner], bool]) -> int:
    """Remove filters of ours, and `clsact` where we brought it and it holds nothing else."""
    removed, brought = 0, False
    for found in list(_filters_at(netlink, interface)):
        owned = Owner.of_filter(_name(found))
        if owned is None or not which(owned[0]):
            continue
        brought |= owned[1]
        with _unless_gone():
            netlink.tc(
                "del-filter",
                "bpf",
                interface,
                found["handle"],
                parent=found["parent"],
                info=found["info"],
            )
            removed += 1
    if brought:
        _remove_unused(netlink, interface)
    return removed


def _remove_unused(netlink: Any, interface: int) -> None:
    with _unless_gone():
        if _has_clsact(netlink, interface) and not _filters_at(netlink, interface):
            netlink.tc("del", _KIND, interface)


def _filters_at(netlink: Any, interface: int) -> list[Any]:
    return [
        found
        for parent in _PARENTS.values()
        for found in netlink.get_filters(index=interface, parent=parent)
    ]


def _has_clsact(netlink: Any, interface: int) -> bool:
    return any(_kind(qdisc) == _KIND for qdisc in netlink.get_qdiscs(index=interface))


def _first_free(netlink: Any, interface: int, parent: int) -> int:
    """Return the first priority that nobody has: who comes first sees what others drop."""
    taken = {found["info"] >> 16 for found in netlink.get_filters(index=interface, parent=parent)}
    return next(number for number in range(1, 1 << 16) if number not in taken)


def _kind(message: Any) -> str:
    return str(message.get_attr("TCA_KIND"))


def _name(found: Any) -> str:
    options = found.get_attr("TCA_OPTIONS")
    return str(options.get_attr("TCA_BPF_NAME")) if options and _kind(found) == "bpf" else ""


@contextmanager
def _unless_gone() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if getattr(error, "code", None) not in _GONE:  # pyroute2's own kind of error
            raise


def _in_a_thread(netns: str | None, act: Callable[[Any], T]) -> T:
    def acted() -> T:
        with netlink_in(netns) as netlink:
            return act(netlink)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="clsact") as thread:
        return thread.submit(acted).result()


def _pid_namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


def _started(pid: int) -> int:
    """Return when a process started, in ticks since the machine did; -1: it doesn't run."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return -1
    return int(stat.rpartition(")")[2].split()[19])
