"""Capturing an interface at which frames come as fast as can be: what that costs the sender, and the reader.

A veth pair in two network namespaces stands for a tap; a sender in C (live/sender.c) sends from the one end
what is captured at the other. The path from end to end runs on the sender's processor, as a tap's does on
vhost's: what capture adds there is the rise of the sender's CPU time over that of a round in which nobody
listens. What the reader takes on the other processor comes on top, as long as frames come. The rounds are
interleaved, and a rise is taken within its round.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import ENVIRONMENT, keep
from transhume.deployment.model import CaptureMethod, CapturePoint
from transhume.knowledge.model import HostName
from transhume.lab.compiling import compile_program
from transhume.monitor.capture.live import LiveCapture

SENDER = Path(__file__).with_name("live") / "sender.c"
HERE, THERE, TAP, PEER = "thbench-a", "thbench-b", "vnet0", "peer"
WINDOW_SECONDS = 1.0
SETTLE_SECONDS, CATCH_UP_SECONDS = 0.4, 0.1
FRAMES, ROUNDS = 1_000_000, 7
SIZES = {"64-byte frames": 64, "mixed frames": 0}
NOTHING, SHORT = "nothing", "tcpdump -s 96 -w /dev/null"
OURS = {f"transhume, {method}": method for method in CaptureMethod if method != "auto"}
TCPDUMP = ("tcpdump", "-n", "-i", TAP, "-B", "32768", "-w", "/dev/null")
PEERS = {SHORT: (*TCPDUMP, "-s", "96"), "tcpdump -w /dev/null": TCPDUMP}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One round of one contender, for each frame that was sent."""

    sender_ns: float
    reader_ns: float
    lost: float
    frames_per_second: float


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def veth_pair() -> Iterator[None]:
    """Make the two namespaces, and a pair of interfaces that says nothing by itself."""
    for netns in (HERE, THERE):
        subprocess.run(["ip", "netns", "delete", netns], check=False, capture_output=True)
        ip("netns", "add", netns)
    try:
        ip("-n", HERE, "link", "add", TAP, "type", "veth", "peer", PEER, "netns", THERE)
        for netns, device in ((HERE, TAP), (THERE, PEER)):
            quiet = f"echo 1 >/proc/sys/net/ipv6/conf/{device}/disable_ipv6"
            ip("netns", "exec", netns, "sh", "-c", quiet)
            ip("-n", netns, "link", "set", device, "up")
        yield
    finally:
        for netns in (HERE, THERE):
            ip("netns", "delete", netns)


def cpu_ns(pid: int) -> int:
    """Return the CPU time of a process so far, all threads, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text("ascii").split()[0]) for task in tasks)


def send(sender: Path, frames: int, size: int) -> dict[str, float]:
    command = ["ip", "netns", "exec", THERE, str(sender), PEER, str(frames), str(size), "0"]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(told.stdout))


def sample(sender: Path, name: str, frames: int, size: int) -> Sample:
    if name == NOTHING:
        sent = send(sender, frames, size)
        return _sample(sent, reader_ns=0, seen=frames)
    command = PEERS.get(name) or (
        sys.executable,
        "-m",
        "benchmarks.bench_live",
        "--listen",
        OURS[name],
    )
    inside = ("ip", "netns", "exec", HERE) if name in PEERS else ()
    reader = subprocess.Popen(
        ("taskset", "-c", "1", *inside, *command),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
    )
    assert reader.stdout is not None
    try:
        while "listening" not in (line := reader.stdout.readline()):
            if not line:
                raise RuntimeError(f"{name} ended before it listened")
        time.sleep(SETTLE_SECONDS)
        before = cpu_ns(reader.pid)
        sent = send(sender, frames, size)
        time.sleep(CATCH_UP_SECONDS)
        reader_ns = cpu_ns(reader.pid) - before
        # All frames are in windows that are over: now it can be asked how many it saw.
        time.sleep(2 * WINDOW_SECONDS if name in OURS else SETTLE_SECONDS)
        reader.send_signal(signal.SIGINT)
        said, _ = reader.communicate(timeout=20)
    finally:
        if reader.poll() is None:
            reader.kill()
            reader.wait()
    found = re.search(r"(\d+) packets captured", said)
    assert found is not None, said
    return _sample(sent, reader_ns=reader_ns, seen=int(found[1]))


def _sample(sent: dict[str, float], *, reader_ns: int, seen: int) -> Sample:
    frames = sent["frames"]
    return Sample(
        sender_ns=sent["cpu_seconds"] * 1e9 / frames,
        reader_ns=reader_ns / frames,
        lost=1 - seen / frames,
        frames_per_second=frames / sent["seconds"],
    )


async def listen(method: str) -> int:
    """Capture until interrupted; return how many frames were seen."""
    seen = 0
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, ended.set)
    point = CapturePoint(
        host=HostName("h"), netns=HERE, method=CaptureMethod(method), cpu_budget=1.0
    )
    capture = LiveCapture(point, WINDOW_SECONDS)

    async def collect() -> None:
        nonlocal seen
        async with aclosing(capture.windows()) as windows:
            async for window in windows:
                seen += window.total_frames

    collecting = asyncio.create_task(collect())
    while not capture.methods:
        await asyncio.sleep(0.01)
        if collecting.done():
            await collecting
    print("listening", flush=True)
    await asyncio.wait(
        (collecting, asyncio.create_task(ended.wait())), return_when=asyncio.FIRST_COMPLETED
    )
    collecting.cancel()
    await asyncio.gather(collecting, return_exceptions=True)
    return seen


def contenders() -> tuple[str, ...]:
    return (NOTHING, *OURS, *(PEERS if shutil.which("tcpdump") else ()))


def measure(sender: Path, frames: int, size: int, rounds: int) -> dict[str, list[Sample]]:
    """Run all contenders once each round, a different one first each time."""
    names = contenders()
    found: dict[str, list[Sample]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            found[name].append(sample(sender, name, frames, size))
    return found


def added_ns(samples: dict[str, list[Sample]], name: str) -> float:
    """Return what a contender adds to each frame's cost, at the sender and at the reader."""
    return median(
        own.sender_ns + own.reader_ns - idle.sender_ns
        for own, idle in zip(samples[name], samples[NOTHING], strict=True)
    )


def show(title: str, samples: dict[str, list[Sample]]) -> None:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("who listens")
    for column in ("added ns/frame", "at the reader", "to tcpdump -s 96", "lost"):
        table.add_column(column, justify="right")
    base = added_ns(samples, SHORT) if SHORT in samples else None
    for name, own in samples.items():
        if name == NOTHING:
            continue
        added = added_ns(samples, name)
        table.add_row(
            name,
            f"{added:.0f}",
            f"{_median(own, lambda one: one.reader_ns):.1f}",
            f"{added / base:.2f}" if base else "–",
            f"{max(one.lost for one in own):.2%}",
        )
    console = Console(highlight=False, markup=False)
    console.print(table)
    rate = _median(samples[NOTHING], lambda one: one.frames_per_second)
    cost = _median(samples[NOTHING], lambda one: one.sender_ns)
    console.print(
        f"medians, the worst round's loss; unheard, the sender sends {rate / 1e6:.2f} million frames/s"
        f" at {cost:.0f} ns each"
    )


def _median(samples: Sequence[Sample], of: Callable[[Sample], float]) -> float:
    return median(of(each) for each in samples)


def record(all_samples: dict[str, dict[str, list[Sample]]], facts: dict[str, object]) -> None:
    results = [
        {
            "frames": title,
            "name": name,
            "added_ns_per_frame": added_ns(samples, name),
            "worst_loss": max(one.lost for one in own),
            "runs": [asdict(one) for one in own],
        }
        for title, samples in all_samples.items()
        for name, own in samples.items()
    ]
    target = keep("live", {"facts": facts, "results": results})
    print(f"written to {os.path.relpath(target)}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_live")
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--listen", metavar="METHOD", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.listen:
        print(f"{asyncio.run(listen(asked.listen))} packets captured")
        return
    if os.geteuid() != 0 or not shutil.which("gcc"):
        sys.exit(
            "bench_live makes network namespaces and compiles its sender: it takes root and gcc"
        )
    found: dict[str, dict[str, list[Sample]]] = {}
    with tempfile.TemporaryDirectory(prefix="transhume-bench-") as folder, veth_pair():
        sender = Path(folder) / "sender"
        compile_program(SENDER, sender)
        for title, size in SIZES.items():
            found[title] = measure(sender, asked.frames, size, asked.rounds)
            show(title, found[title])
    record(found, {"frames": asked.frames, "rounds": asked.rounds})


if __name__ == "__main__":
    main()
