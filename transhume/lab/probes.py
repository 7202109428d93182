"""Probes beside the guests: they ping and talk to one, or listen to what passes; each a process in a namespace.

Owns how they are started and ended, and what they report; what they do is in `probe.c`. All times are seconds
of `time.monotonic()`. The program lies in the lab's state, so that `leftovers` knows those that are left.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from transhume.errors import LabError
from transhume.knowledge.model import IpAddress, MacAddress
from transhume.lab.compiling import SOURCES, compile_program
from transhume.lab.initramfs import ECHO_PORT
from transhume.reach.netns import NAMED

BY_KERNEL = 0
"""In place of a port: ICMP, which costs an emulated guest a fraction of what its own program's answers do."""
ANNOUNCED = IpAddress("0.0.0.0")
PROGRAM = Path("probes/probe")
"""In the lab's state."""
_PATIENCE_SECONDS = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """A time in which nothing came back."""

    began: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Datagrams sent one after the other, none of which came back."""

    began: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pings:
    """What became of a pinger's datagrams."""

    sent: int
    received: int
    duplicates: int
    """Answers beyond the first to the same datagram."""
    reordered: int
    skipped: int
    """Turns that the machine let pass, as it was busy."""
    least_trip: float
    median_trip: float
    losses: tuple[Loss, ...]
    longest: Silence
    silences: tuple[Silence, ...]
    """Those of 10 ms and more."""

    @property
    def lost(self) -> int:
        """How many never came back."""
        return self.sent - self.received

    def lost_between(self, began: float, ended: float) -> int:
        """Return how many are lost of the stretches that were sent first within some time."""
        return sum(loss.count for loss in self.losses if began <= loss.began <= ended)

    def longest_between(self, began: float, ended: float) -> Silence:
        """Return the longest silence that touches some time; one of no length where there is none."""
        touching = [
            silence
            for silence in (self.longest, *self.silences)
            if silence.began <= ended and silence.began + silence.seconds >= began
        ]
        nothing = Silence(began=began, seconds=0.0)
        return max(touching, key=lambda silence: silence.seconds, default=nothing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """How a connection has fared: bytes since it began, silences since the report before."""

    sent: int
    echoed: int
    wrong: int
    """Pieces of the echo that weren't what had been sent."""
    retransmits: int
    failure: str | None
    """Why the connection ended; None while it lives."""
    longest: Silence


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """The datagrams between a VM and one peer that passed a TAP one way, or its announcements there."""

    tap: str
    from_vm: bool
    peer: IpAddress
    """`ANNOUNCED` for announcements."""
    first: float
    last: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Flooded:
    """Unicast frames for one address that reached a port behind which nobody has it."""

    device: str
    mac: MacAddress
    first: float
    last: float
    count: int


def compile_probe(state: Path) -> Path:
    """Compile the program into a lab's state, where it isn't there; return it.

    Raises:
        LabError: the compiler failed.
    """
    program = state / PROGRAM
    if not program.exists():
        program.parent.mkdir(exist_ok=True)
        compile_program(SOURCES / "probe.c", program)
    return program


class Probe:
    """One running probe."""

    def __init__(self, process: asyncio.subprocess.Process, words: tuple[str, ...]) -> None:
        self._process = process
        self._words = words

    @classmethod
    @asynccontextmanager
    async def running(cls, program: Path, netns: str | None, *words: str) -> AsyncIterator[Self]:
        """Run a probe in a network namespace until the context ends; its last words are lost then."""
        enter = ("nsenter", f"--net={NAMED / netns}") if netns is not None else ()
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(*enter, program, *words), stdin=pipe, stdout=pipe, limit=1 << 24
        )
        try:
            yield cls(process, words)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def report(self) -> dict[str, Any]:
        """Have it tell what happened since the last time; for a conversation only.

        Raises:
            LabError: it has ended.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return await self._told()

    async def end(self) -> dict[str, Any]:
        """Have it come to an end and tell what it has seen.

        Raises:
            LabError: it had ended before.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        told = await self._told()
        await self._process.wait()
        return told

    async def _told(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(_PATIENCE_SECONDS):
            line = await self._process.stdout.readline()
        if not line:
            raise LabError(f"the probe `{' '.join(self._words)}` has ended; see what it printed")
        told: dict[str, Any] = json.loads(line)
        return told


def ping_words(ip: IpAddress, interval_seconds: float, port: int = ECHO_PORT) -> tuple[str, ...]:
    """Return how a probe is told to ping a guest: its program, or with no port its kernel."""
    return "ping", ip, str(port), _microseconds(interval_seconds)


def talk_words(ip: IpAddress, interval_seconds: float, chunk_bytes: int) -> tuple[str, ...]:
    """Return how a probe is told to talk to a guest: so many bytes so often."""
    return "talk", ip, str(ECHO_PORT), _microseconds(interval_seconds), str(chunk_bytes)


def tap_words(mac: MacAddress, port: int = ECHO_PORT) -> tuple[str, ...]:
    """Return how a probe is told to watch what pingers have to do with a guest, at its own interfaces."""
    return "taps", mac, str(port)


FLOOD_WORDS = ("floods",)


def read_pings(told: dict[str, Any]) -> Pings:
    """Read a pinger's report."""
    read = {
        **told,
        "losses": tuple(Loss(began=began, count=count) for began, count in told["losses"]),
        "longest": _silence(told["longest"]),
        "silences": tuple(map(_silence, told["gaps"])),
    }
    del read["gaps"]
    return Pings(**read)


def read_talk(told: dict[str, Any]) -> Talk:
    """Read a conversation's report."""
    read = {**told, "longest": _silence(told["longest"])}
    del read["gaps"]
    return Talk(**read)


def read_passed(told: dict[str, Any]) -> tuple[Passed, ...]:
    """Read what has passed a guest's interfaces."""
    return tuple(Passed(**row) for row in told["rows"])


def read_flooded(told: dict[str, Any]) -> tuple[Flooded, ...]:
    """Read what was flooded."""
    return tuple(Flooded(**row) for row in told["rows"])


def _silence(pair: list[float]) -> Silence:
    return Silence(began=pair[0], seconds=pair[1])


def _microseconds(seconds: float) -> str:
    return str(round(seconds * 1e6))
