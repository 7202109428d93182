"""What a daemon knows, recorded as traces that can be replayed: when one ends, and how much is kept.

Owns the choice of what a trace can't go on over: other VMs, hosts, clouds or links than it began with, a fault
of the disk, its size. A VM that is gone ends it only when it has been for some time and no notice accounts for
it: what hosts that go do to VMs is what a replay is about. All writing is done in a thread, off what rounds
have read anyway; while a long plan keeps rounds from looking, the recording looks by itself.
"""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from transhume.daemon.recorded_folders import UNFINISHED, recorded_in, unfinished_in
from transhume.daemon.trace_writing import Pace, Scene, TraceFolder, can_be_named
from transhume.knowledge.model import Snapshot, VmName
from transhume.knowledge.records import RecordingStatus
from transhume.knowledge.store import Store
from transhume.reach.threads import in_a_loose_thread

log = structlog.get_logger()

MOST_TRACES = 200
FINISH_SECONDS = 2.0
"""After so long at the end a disk counts as hanging, and the daemon ends without it."""
LONELY_SECONDS = 10.0
"""After so long without a round the recording looks by itself."""
GONE_FOR_GOOD = timedelta(minutes=5)
CLOCKS_DIFFER = timedelta(minutes=1)
"""By so much a clock may be set back within a trace: what is older than the last look is passed over."""
SHORTEST = timedelta(minutes=1)
"""A trace that lasted less isn't kept when another begins."""


class Recording:
    """Records into traces of one folder; `keep` does it, for ever.

    Args:
        folder: where the traces are; made where it is missing.
        sources: tells the policy files that are in force, by name.
        at_most_bytes: how much all traces may take; one takes at most half of it.
    """

    def __init__(
        self,
        folder: Path,
        sources: Callable[[], Mapping[str, bytes]],
        *,
        at_most_bytes: int,
        pace: Pace = Pace(),  # noqa: B008  (frozen)
    ) -> None:
        self._folder, self._sources, self._at_most = folder.absolute(), sources, at_most_bytes
        self._pace = pace
        self._trace: TraceFolder | None = None
        self._missing: dict[VmName, datetime] = {}
        self._offered: Snapshot | None = None
        self._news = asyncio.Event()
        self._writing = threading.Lock()
        self._left_out: frozenset[str] = frozenset()

    @property
    def trace(self) -> Path | None:
        """The folder of the trace that grows now."""
        return self._trace.path if self._trace else None

    def offer(self, snapshot: Snapshot) -> None:
        """Hand over what a round has read; the newest is written down soon."""
        self._offered = snapshot
        self._news.set()

    async def keep(self, store: Store) -> AsyncIterator[None]:
        """Record until cancelled, then let the trace last up to what was seen last."""
        latest: Snapshot | None = None
        try:
            while True:
                latest = await self._next(store)
                before = self.trace
                await in_a_loose_thread(self.note, latest)
                if self.trace is not None and self.trace != before:
                    await store.put_recording(
                        RecordingStatus(
                            folder=str(self._folder), trace=str(self.trace), since=latest.at
                        )
                    )
                yield
        finally:
            await self._finish(latest)

    async def _next(self, store: Store) -> Snapshot:
        try:
            async with asyncio.timeout(LONELY_SECONDS):
                await self._news.wait()
        except TimeoutError:
            return await store.snapshot()
        self._news.clear()
        return self._offered or await store.snapshot()

    def note(self, snapshot: Snapshot) -> None:
        """Write down what is new, into another trace where the last can't go on. Blocks.

        Raises:
            OSError: it can't be written; the trace ends with what was.
        """
        with self._writing:
            try:
                self._note(snapshot)
            except OSError:
                self._trace = None
                raise

    def _note(self, snapshot: Snapshot) -> None:
        why = self._why_anew(snapshot)
        if why:
            self._begin(snapshot, why)
        if self._trace is not None:
            self._trace.note(snapshot)
            self._trace.keep_policies(self._sources())

    async def _finish(self, latest: Snapshot | None) -> None:
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                await in_a_loose_thread(self._note_last, latest)
        except OSError as error:
            log.warning("recording_not_finished", why=str(error) or "the disk doesn't answer")

    def _note_last(self, latest: Snapshot | None) -> None:
        with self._writing:
            trace, self._trace = self._trace, None
            if trace is not None and latest is not None:
                trace.looked(latest.at)

    # --- where one trace ends and another begins ---------------------------------------------------

    def _why_anew(self, snapshot: Snapshot) -> str:
        trace = self._trace
        if trace is None:
            return "recording begins"
        if trace.bytes > self._at_most / 2:
            return "the trace has its full size"
        if snapshot.at < trace.start + trace.lasted - CLOCKS_DIFFER:
            return "the clock was set back"
        now = Scene.of(snapshot)
        if now.clouds.items() - trace.scene.clouds.items() or now.links - trace.scene.links:
            return "clouds or links are others"
        if now.hosts.items() - trace.scene.hosts.items():
            return "there are more hosts"
        if now.vms.items() - trace.scene.vms.items():
            return "there are VMs that it doesn't have"
        gone = self._gone_for_good(snapshot, trace)
        return f"{gone} is gone" if gone else ""

    def _gone_for_good(self, snapshot: Snapshot, trace: TraceFolder) -> VmName | None:
        missing = {vm: self._missing.get(vm, snapshot.at) for vm in trace.scene.vms}
        self._missing = {vm: at for vm, at in missing.items() if vm not in snapshot.vms}
        if snapshot.notices:
            self._missing = dict.fromkeys(self._missing, snapshot.at)
        longest = min(self._missing, key=self._missing.__getitem__, default=None)
        if longest is None or snapshot.at - self._missing[longest] < GONE_FOR_GOOD:
            return None
        return longest

    def _begin(self, snapshot: Snapshot, why: str) -> None:
        self._end()
        scene = Scene.of(snapshot)
        if not scene.vms:
            return
        self._tell_left_out(snapshot, scene)
        self._make_room()
        path = self._free_name(snapshot.at)
        try:
            self._trace = TraceFolder(path, snapshot, self._pace)
        except OSError:
            shutil.rmtree(path.with_name(path.name + UNFINISHED), ignore_errors=True)
            raise
        self._missing = {}
        log.info("trace_begun", folder=str(path), why=why)

    def _end(self) -> None:
        trace, self._trace = self._trace, None
        if trace is not None and trace.lasted < SHORTEST:
            shutil.rmtree(trace.path, ignore_errors=True)

    def _free_name(self, at: datetime) -> Path:
        name = f"{at:%Y%m%dT%H%M%SZ}"
        number, path = 1, self._folder / name
        while path.exists():
            number += 1
            path = self._folder / f"{name}-{number}"
        return path

    def _make_room(self) -> None:
        """Remove the oldest traces, so that with the one to come no more is kept than may be.

        What else is in the folder isn't ours.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for unfinished in unfinished_in(self._folder):
            shutil.rmtree(unfinished, ignore_errors=True)
        kept = recorded_in(self._folder)
        sizes = {trace: _size(trace) for trace in kept}
        while kept and (
            len(kept) >= MOST_TRACES or sum(map(sizes.__getitem__, kept)) > self._at_most / 2
        ):
            oldest = kept.pop(0)
            shutil.rmtree(oldest)
            log.info("trace_removed", folder=str(oldest), why="the recording has its full size")

    def _tell_left_out(self, snapshot: Snapshot, scene: Scene) -> None:
        names = frozenset(str(vm) for vm in snapshot.vms if not can_be_named(vm))
        hosts = {host for host in snapshot.capacity if host not in scene.hosts}
        found = names | frozenset(map(str, hosts))
        if found - self._left_out:
            log.warning("recording_leaves_out", names=sorted(found), why="a trace can't hold them")
        self._left_out = found


def _size(trace: Path) -> int:
    return sum(path.stat().st_size for path in trace.rglob("*") if path.is_file())
