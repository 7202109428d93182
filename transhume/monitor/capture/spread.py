"""Captures read by several processes, here or on other machines, with the result that one process gives.

Owns what is a task (a part of a large file, or a whole file that is small or packed), how many tasks are under
way at once (so that memory stays bounded), and the order in which they are joined, which is that of one
process. Pipes can be read by nobody else: this process reads them. Leaves cutting and joining to `parts`, and
processes, messages and lost workers to dask.distributed.
"""

import platform
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from transhume.errors import UnreadableCapture
from transhume.knowledge.model import TrafficWindow
from transhume.monitor.capture.counting import NoCapture, ReadingOptions
from transhume.monitor.capture.files import (
    CaptureReading,
    CaptureSummary,
    knowing_frames,
    summary_of,
)
from transhume.monitor.capture.parts import (
    Joining,
    Part,
    PartRead,
    can_be_cut,
    cut,
    read_part,
    sharing_addresses,
)
from transhume.monitor.capture.reading import Readings
from transhume.monitor.capture.rings import CapturePoint
from transhume.monitor.capture.scan import check_window
from transhume.monitor.capture.sources import STANDARD_INPUT
from transhume.monitor.capture.workers import Workers, WorkersLost, workers_of

LEAST_PART_BYTES: Final = 64 << 20
MOST_PART_BYTES: Final = 384 << 20
_PARTS_A_WORKER = 5
"""How many parts each worker gets in all, so that none is left waiting long for another in the end."""
_TASKS_A_WORKER = 3
"""One that it reads, and some that wait for it; what they find is all that is held in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refused:
    """Why a task's file can't be read. Handed back, not raised: `UnreadableCapture` doesn't travel."""

    path: str
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _WholeRead:
    """What a file held that wasn't cut."""

    windows: tuple[TrafficWindow, ...]
    summary: CaptureSummary


@dataclass(slots=True, kw_only=True)
class _Job:
    """One file: in parts, as a whole, or (a pipe) for this process to read."""

    point: str
    path: Path
    parts: Iterable[Part | None] = (None,)
    """None: all of it."""
    is_pipe: bool = False
    joining: Joining | None = None


@dataclass(slots=True, kw_only=True)
class _Task:
    """What a worker was asked for; without a part, the whole file."""

    job: _Job
    part: Part | None
    answer: Any
    """A future of dask's."""


class Spread:
    """Reads captures with several processes; see `CapturesReading` for what it offers.

    Args:
        points: the capture points.
        options: how to read them.
        workers: how many processes to start on this machine.
        scheduler: the address (`tcp://…`) of a running Dask scheduler to use in their place; its workers must
            see the files under the same paths.
        part_bytes: how large the parts are that large files are cut into; chosen by their size unless given.

    Raises:
        ExtraMissing: at once, where dask.distributed isn't installed.
        UnreadableCapture: while iterating, when a file can't be opened or is no capture.
        UsageError: at once, when the window's length or the number of workers makes no sense; while iterating,
            when no scheduler answers.
    """

    def __init__(
        self,
        points: Sequence[CapturePoint],
        options: ReadingOptions,
        *,
        workers: int | None = None,
        scheduler: str | None = None,
        part_bytes: int | None = None,
    ) -> None:
        check_window(options.window_seconds)
        self._start_workers = workers_of(workers, scheduler)
        self._known = Readings(points=points)
        self._part_bytes = part_bytes
        self._options = knowing_frames(options, self._known.files)
        self._position = 0
        self._tasks: deque[_Task] = deque()
        self._pipe: CaptureReading | None = None
        self._is_stopped = False

    def __iter__(self) -> Iterator[TrafficWindow]:
        with self._start_workers() as workers:
            yield from self.windows_by(workers)

    def windows_by(self, workers: Workers) -> Iterator[TrafficWindow]:
        """Yield the windows, read by workers that run already."""
        workers.warm(self._options)
        most = _TASKS_A_WORKER * workers.count
        for job, part in self._work(workers.count):
            self._tasks.append(self._task(workers, job, part))
            while len(self._tasks) >= most:
                yield from self._take(workers)
        while self._tasks:
            yield from self._take(workers)

    def stop(self) -> None:
        """End the wait for more of a pipe."""
        self._is_stopped = True
        if self._pipe is not None:
            self._pipe.stop()

    @property
    def summaries(self) -> tuple[CaptureSummary, ...]:
        """Of the files read until now, in their order."""
        return tuple(self._known.summaries)

    @property
    def position(self) -> int:
        """How many bytes of all files were read, as they are on the disk."""
        return self._position

    @property
    def total_bytes(self) -> int | None:
        """How many there are; None where a pipe keeps that to itself."""
        return self._known.total_bytes

    @property
    def warnings(self) -> tuple[str, ...]:
        """What keeps the windows from being the whole truth, for a person."""
        return self._known.warnings

    # --- tasks -----------------------------------------------------------------------------------

    def _work(self, workers: int) -> Iterator[tuple[_Job, Part | None]]:
        """Yield what is to be done; a large file is cut while its first parts are being read."""
        part_bytes = self._part_bytes or self._good_part_bytes(workers)
        for point in self._known.points:
            for path in point.files:
                try:
                    job = _job(point.name, path, part_bytes)
                    for part in job.parts:
                        yield job, part
                except OSError as error:
                    raise UnreadableCapture(str(path), error.strerror or str(error)) from error

    def _good_part_bytes(self, workers: int) -> int:
        total = sum(path.stat().st_size for path in self._known.files if path.is_file())
        return min(max(total // (workers * _PARTS_A_WORKER), LEAST_PART_BYTES), MOST_PART_BYTES)

    def _task(self, workers: Workers, job: _Job, part: Part | None) -> _Task:
        if job.is_pipe:
            return _Task(job=job, part=None, answer=None)
        if part is None:
            asked = workers.ask(
                _read_whole, job.path.absolute(), str(job.path), job.point, self._options
            )
            return _Task(job=job, part=None, answer=asked)
        part = _as_known(job.joining, part)
        return _Task(job=job, part=part, answer=self._ask_for(workers, job, part))

    def _ask_for(self, workers: Workers, job: _Job, part: Part) -> Any:
        return workers.ask(_read_part, part, job.point, self._options)

    def _take(self, workers: Workers) -> Iterator[TrafficWindow]:
        """Take the answer that is next in order."""
        task = self._tasks.popleft()
        if task.job.is_pipe:
            yield from self._take_pipe(task.job)
        elif task.part is None:
            yield from self._take_whole(_answer(workers, task))
        else:
            yield from self._take_part(workers, task, task.part)

    def _take_pipe(self, job: _Job) -> Iterator[TrafficWindow]:
        self._pipe = CaptureReading(job.path, self._options, capture_point=job.point)
        if self._is_stopped:
            self._pipe.stop()
        yield from self._pipe
        self._known.summaries.append(self._pipe.summary)
        self._position += self._pipe.position
        self._pipe = None

    def _take_whole(self, found: _WholeRead) -> Iterator[TrafficWindow]:
        yield from found.windows
        self._known.summaries.append(found.summary)
        self._position += found.summary.stored_bytes

    def _take_part(self, workers: Workers, task: _Task, part: Part) -> Iterator[TrafficWindow]:
        job = task.job
        joining = job.joining or Joining(
            lambda again: _answer(workers, replace(task, answer=self._ask_for(workers, job, again)))
        )
        job.joining = joining
        if joining.is_over:
            workers.forget(task.answer)
        else:
            yield from joining.add(_answer(workers, task))
            self._ask_again(workers, job, joining)
        self._position += part.end - part.known.at
        if part.is_last:
            self._known.summaries.append(_summary(job, joining))

    def _ask_again(self, workers: Workers, job: _Job, joining: Joining) -> None:
        """Ask again for parts that were asked for before a section or an interface came up in the file."""
        for task in self._tasks:
            if task.job is job and task.part is not None:
                now = _as_known(joining, task.part)
                if now != task.part:
                    workers.forget(task.answer)
                    task.part, task.answer = now, self._ask_for(workers, job, now)
                    joining.parts_read_again += 1


def _job(point: str, path: Path, part_bytes: int) -> _Job:
    if not path.is_file():
        if path != STANDARD_INPUT:
            path.stat()  # says what is wrong, if it isn't there
        return _Job(point=point, path=path, is_pipe=True)
    if path.stat().st_size > part_bytes and can_be_cut(path):
        return _Job(point=point, path=path, parts=cut(path.absolute(), part_bytes))
    return _Job(point=point, path=path)


def _as_known(joining: Joining | None, part: Part) -> Part:
    """Return a part with what its file was found to say before it."""
    if joining is None or joining.known.head is None or part.known.head is None:
        return part
    return replace(part, known=replace(part.known, head=joining.known.head))


def _answer(workers: Workers, task: _Task) -> Any:
    try:
        found = workers.answer(task.answer)
    except WorkersLost as error:
        raise UnreadableCapture(
            str(task.job.path), f"{error}; read it with fewer workers, or with none"
        ) from error
    if isinstance(found, _Refused):
        raise UnreadableCapture(found.path, found.seen)
    return found


def _summary(job: _Job, joining: Joining) -> CaptureSummary:
    return summary_of(
        str(job.path),
        job.point,
        joining.totals,
        head=joining.known.head,
        engine=joining.engine,
        stopped=None if joining.stopped is None else str(joining.stopped),
        stored_bytes=joining.known.at,
        parts_read_again=joining.parts_read_again,
    )


# --- what workers do ---------------------------------------------------------------------------------


def _read_whole(
    path: Path, name: str, point: str, options: ReadingOptions
) -> _WholeRead | _Refused:
    reading = CaptureReading(path, options, capture_point=point)
    try:
        windows = sharing_addresses(reading)
    except UnreadableCapture as error:
        return _Refused(path=name, seen=error.seen)
    return _WholeRead(windows=windows, summary=replace(reading.summary, path=name))


def _read_part(part: Part, point: str, options: ReadingOptions) -> PartRead | _Refused:
    try:
        size = part.path.stat().st_size
        if size < part.end:
            seen = f"has {size} bytes where the worker runs ({platform.node()}), and had {part.end}"
            return _Refused(path=str(part.path), seen=seen)
        return read_part(part, point, options)
    except OSError as error:
        seen = f"{error.strerror or error} where the worker runs ({platform.node()})"
        return _Refused(path=str(part.path), seen=seen)
    except NoCapture as error:
        return _Refused(path=str(part.path), seen=str(error))
