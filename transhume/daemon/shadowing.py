"""Policies in the shadow: what others than those in force would have done with what this daemon has seen.

Owns when they are compared, and that nothing here disturbs the loop: a comparison is `transhume replay` over
the daemon's own recording, in a process of its own that gets what processors have to spare, ends with the
daemon, and is given up after a time. A file that isn't valid is refused by itself, with the place of each
mistake; those in force are never touched.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from transhume.daemon.recorded_folders import in_force
from transhume.daemon.recording import Recording
from transhume.daemon.senses import Clock
from transhume.deployment.model import ShadowSettings
from transhume.errors import InvalidFile
from transhume.knowledge import die_with_parent
from transhume.knowledge.records import ShadowStatus
from transhume.knowledge.store import Store
from transhume.policies.book import PolicyBook
from transhume.reach.threads import in_a_loose_thread

log = structlog.get_logger()

LOOK_SECONDS = 2.0
FIRST_SECONDS = 60.0
"""The first comparison isn't put off for longer."""
IDLE = 19
"""The lowest priority."""
MOST_REPORT_BYTES = 16 << 20


class CameToNothing(Exception):
    """A comparison didn't come about; says why, for a person."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What the files were found to be."""

    valid: tuple[Path, ...]
    refused: tuple[str, ...]
    changed: bool


class Shadows:
    """Compares policies with those in force now and then; `keep` does it, for ever.

    Args:
        settings: which, and how often.
        recording: tells the trace that grows, None where there is none yet.
        clock: the time of the records.
    """

    def __init__(self, settings: ShadowSettings, recording: Recording, clock: Clock) -> None:
        self._settings, self._recording, self._clock = settings, recording, clock
        self._books: dict[Path, PolicyBook] = {}
        self._mistakes: dict[Path, tuple[str, ...]] = {}

    async def keep(self, store: Store) -> AsyncIterator[None]:
        """Compare until cancelled, and put what was found into the knowledge."""
        loop = asyncio.get_running_loop()
        due = loop.time() + min(FIRST_SECONDS, self._settings.every_seconds)
        status = await store.shadow()
        while True:
            look = await in_a_loose_thread(self._look)
            trace = self._recording.trace
            if trace is not None and (look.changed or loop.time() >= due):
                status = await self._compare(trace, look, status)
                await store.put_shadow(status)
                due = loop.time() + self._settings.every_seconds
                yield
            await asyncio.sleep(LOOK_SECONDS)

    # --- which are valid ---------------------------------------------------------------------------

    def _look(self) -> _Look:
        """Read the files again; a mistake is told once for each state that a file is in."""
        changed = False
        for path in self._settings.policies:
            before = self._mistakes.get(path)
            changed |= self._read(path)
            for mistake in self._mistakes[path]:
                if mistake not in (before or ()):
                    log.error("shadow_refused", mistake=mistake)
        return _Look(
            tuple(path for path in self._settings.policies if not self._mistakes[path]),
            tuple(mistake for told in self._mistakes.values() for mistake in told),
            changed,
        )

    def _read(self, path: Path) -> bool:
        """Read a file, or a folder; say whether it is another than when it was read last."""
        book = self._books.get(path)
        if book is None:
            try:
                self._books[path] = PolicyBook([path])
            except InvalidFile as error:
                self._mistakes[path] = tuple(map(str, error.mistakes))
                return False
            mended = bool(self._mistakes.get(path))
            self._mistakes[path] = ()
            return mended
        change = book.refresh()
        if change is not None:
            self._mistakes[path] = tuple(map(str, change.mistakes))
        return change is not None

    # --- the comparison ----------------------------------------------------------------------------

    async def _compare(self, trace: Path, look: _Look, before: ShadowStatus | None) -> ShadowStatus:
        status = ShadowStatus(
            at=self._clock(),
            trace=str(trace),
            policies=tuple(map(str, look.valid)),
            refused=look.refused,
        )
        try:
            if not look.valid:
                raise CameToNothing("none of the policies to compare is valid")
            status = replace(status, report=await self._replayed(trace, look.valid))
        except (CameToNothing, OSError) as error:
            log.warning("shadow_not_compared", why=str(error))
            return replace(before or status, refused=look.refused, why=str(error))
        log.info("shadow_compared", policies=status.policies, trace=status.trace)
        return status

    async def _replayed(self, trace: Path, policies: Sequence[Path]) -> str:
        """Return what `transhume replay --json` says.

        Raises:
            CameToNothing: it failed, took too long or said too much.
        """
        ours = in_force(trace)
        compared = (ours, *policies) if ours else policies
        words = [word for path in compared for word in ("--policy", str(path.absolute()))]
        process = await _start("replay", *words, "--traces", str(trace), "--json")
        seconds = self._settings.at_most_seconds
        try:
            async with asyncio.timeout(seconds):
                told, why = await process.communicate()
        except TimeoutError:
            raise CameToNothing(
                f"it took longer than {seconds:.0f} s (shadow.at_most in the deployment file)"
            ) from None
        finally:
            await _end(process)
        if process.returncode != 0:
            raise CameToNothing(why.decode(errors="replace").strip() or f"{process.returncode}")
        if len(told) > MOST_REPORT_BYTES:
            raise CameToNothing(f"the comparison has {len(told)} bytes, too many to be kept")
        return told.decode()


async def _start(*words: str) -> asyncio.subprocess.Process:
    """Start a command of ours that gives way to everybody, and ends when we do."""
    process = await asyncio.create_subprocess_exec(
        *die_with_parent.launcher(),
        *(sys.executable, "-P", "-m", "transhume", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    with suppress(ProcessLookupError, PermissionError):
        os.setpriority(os.PRIO_PROCESS, process.pid, IDLE)
    return process


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
