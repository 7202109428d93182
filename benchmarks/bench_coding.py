"""How fast memory is coded, on one core and on two, beside the compressor that QEMU has for it.

`python -m benchmarks.bench_coding [--guests 4] [--rounds 5]`. So many like guests are booted with the lab's
QEMU, and what each sends when it migrates is recorded; then the recordings are coded again and again, one
after another as a cluster's would be: by zstd at level 1 (as `multifd-compression=zstd` does), by ours with
nothing known, and by ours when the same guests go there again. One core's rate counts its CPU time; two cores'
the clock's, with one piece being hashed while the one before it is encoded, as in a gateway. What comes out is
decoded, and compared, once for each way. All runs go to build/bench/coding.json.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

import zstandard
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import WIDTH, keep
from tests.system.qemu_streams import Guest, record
from transhume.execute.migration.coding.prepared import Prepared, Stream, prepare
from transhume.execute.migration.coding.receiver import Arriving, Receiver
from transhume.execute.migration.coding.sender import Sender
from transhume.execute.migration.content.page_log import PageLog
from transhume.execute.migration.stream import QemuSplitter
from transhume.lab.root import cached_root

PIECE_BYTES = 1 << 20
STORE_BYTES = 4 << 30
QEMU_LEVEL = 1
PEER = "zstd, as QEMU's"
EXPLAINED = """medians; one core: raw bits per second of CPU time; two cores: of the clock's, on an idle
machine; sent: of what was given"""

Recordings = Sequence[bytes]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One way through all recordings."""

    name: str
    cpu_seconds: float
    wall_seconds: float
    """On two cores; 0 where that wasn't measured."""
    raw_bytes: int
    wire_bytes: int

    @property
    def one_core(self) -> float:
        """Gbit per second of CPU time."""
        return self.raw_bytes * 8e-9 / self.cpu_seconds

    @property
    def two_cores(self) -> float | None:
        """Gbit per second of the clock's."""
        return self.raw_bytes * 8e-9 / self.wall_seconds if self.wall_seconds else None


class Site:
    """One end of a link, as new."""

    def __init__(self, folder: Path) -> None:
        self.sender = Sender(PageLog(folder, memory_bytes=STORE_BYTES), STORE_BYTES)

    def encode(self, prepared: Prepared) -> int:
        """Return how many bytes a piece is on the wire."""
        return sum(map(len, self.sender.encode(prepared)[0]))

    def on_one_core(self, recordings: Recordings) -> int:
        """Do one thing after another; return the bytes on the wire."""
        return sum(self.encode(prepared) for prepared in _prepared(recordings))

    def on_two(self, recordings: Recordings) -> int:
        """Hash a piece while the one before it is encoded."""
        with ThreadPoolExecutor(1) as hashing:
            pieces = _prepared(recordings)
            coming = hashing.submit(next, pieces, None)
            sent = 0
            while (prepared := coming.result()) is not None:
                coming = hashing.submit(next, pieces, None)
                sent += self.encode(prepared)
        return sent


def record_guests(count: int, folder: Path) -> Recordings:
    """Boot guests one after another, and return what each sends."""
    root = cached_root(lambda *_: None)
    found = []
    for number in range(count):
        with Guest(root, folder / f"guest{number}") as guest:
            guest.wait_until_up()
            found += record(guest, folder, parameters={"max-bandwidth": 1 << 34}).channels
    return found


def measure(recordings: Recordings, folder: Path, rounds: int) -> list[Run]:
    """Go every way once each round."""
    raw = sum(map(len, recordings))
    runs = []
    for _ in range(rounds):
        cpu, wire = _cpu(lambda: _by_zstd(recordings))
        runs.append(_run(PEER, raw, wire, cpu))
        one, two = Site(folder), Site(folder)
        for name in ("ours, nothing known", "ours, all known"):
            cpu, wire = _cpu(lambda site=one: site.on_one_core(recordings))
            began = time.perf_counter()
            two.on_two(recordings)
            runs.append(_run(name, raw, wire, cpu, time.perf_counter() - began))
    return runs + [_decoding(recordings, folder, raw) for _ in range(rounds)]


def _run(name: str, raw: int, wire: int, cpu: float, wall: float = 0.0) -> Run:
    return Run(name=name, cpu_seconds=cpu, wall_seconds=wall, raw_bytes=raw, wire_bytes=wire)


def _prepared(recordings: Recordings) -> Iterator[Prepared]:
    for owner, recording in enumerate(recordings):
        splitter, stream, view = QemuSplitter(), Stream(owner=owner), memoryview(recording)
        for at in range(0, len(view), PIECE_BYTES):
            yield prepare(stream, splitter.split(view[at : at + PIECE_BYTES]))
        yield prepare(stream, splitter.flush())


def _by_zstd(recordings: Recordings) -> int:
    """Compress each recording as one stream, flushed like a packet of multifd's; return the bytes."""
    sent = 0
    for recording in recordings:
        compressor, view = (
            zstandard.ZstdCompressor(level=QEMU_LEVEL).compressobj(),
            memoryview(recording),
        )
        for at in range(0, len(view), PIECE_BYTES):
            sent += len(compressor.compress(view[at : at + PIECE_BYTES]))
            sent += len(compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    return sent


def _decoding(recordings: Recordings, folder: Path, raw: int) -> Run:
    """Decode what a cold site sends, and see that it is what was given."""
    site, frames, owners = Site(folder), [], []
    for prepared in _prepared(recordings):
        frames.append(b"".join(site.sender.encode(prepared)[0]))
        owners.append(prepared.owner)
    receiver = Receiver(PageLog(folder, memory_bytes=STORE_BYTES, name=site.sender.log.name))
    streams = [Arriving() for _ in recordings]
    cpu, decoded = _cpu(
        lambda: [
            receiver.decode(streams[owner], frame)
            for owner, frame in zip(owners, frames, strict=True)
        ]
    )
    assert b"".join(decoded) == b"".join(recordings)
    return _run("ours, decoded", raw, sum(map(len, frames)), cpu)


def _cpu(work: Callable[[], T]) -> tuple[float, T]:
    """Return the CPU seconds of this process that something takes, and what it returns."""
    with _one_core():
        began = time.process_time()
        done = work()
        return time.process_time() - began, done


@contextmanager
def _one_core() -> Iterator[None]:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def table_of(runs: Sequence[Run], title: str) -> Table:
    """Return the medians."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("", "one core Gbit/s", f"over {PEER}", "two cores Gbit/s", "sent %", "runs"):
        table.add_column(column, justify="right" if column else "left")
    peer = median(run.one_core for run in runs if run.name == PEER)
    for name in dict.fromkeys(run.name for run in runs):
        found = [run for run in runs if run.name == name]
        one = median(run.one_core for run in found)
        two = [run.two_cores for run in found if run.two_cores is not None]
        sent = median(run.wire_bytes / run.raw_bytes for run in found)
        both = f"{median(two):.2f}" if two else "–"
        table.add_row(
            name, f"{one:.2f}", f"{one / peer:.2f}", both, f"{100 * sent:.1f}", str(len(found))
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--guests", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recordings = record_guests(asked.guests, Path(folder))
        runs = measure(recordings, Path(folder), asked.rounds)
    title = f"Coding of {asked.guests} like guests, {sum(map(len, recordings)) / 1e6:.0f} MB in all"
    console = Console(highlight=False, markup=False, width=WIDTH)
    console.print(table_of(runs, title))
    facts = {"guests": asked.guests, "raw_bytes": sum(map(len, recordings))}
    target = keep("coding", {"facts": facts, "runs": [asdict(run) for run in runs]})
    console.print(
        f"{EXPLAINED}\nload {os.getloadavg()[0]:.1f}; written to {os.path.relpath(target)}"
    )


if __name__ == "__main__":
    main()
