"""The README's figures, as Markdown, from what the benchmarks wrote: `python -m benchmarks.figures`.

What wasn't measured has no row: run `make bench` first.
"""

import json
from collections.abc import Iterator
from typing import Any

from benchmarks import bench_capture, bench_startup, peers
from benchmarks.measuring import RESULTS

WHOLE_COMMANDS = (
    (
        bench_capture.OURS,
        "`transhume analyze FILE --json`: VMs, matrix, groups, patterns by second",
    ),
    (peers.NFDUMP.name, "`nfpcapd`, then `nfdump -A srcip,dstip`"),
    (peers.SOFTFLOWD.name, "`softflowd`: flows, exported to nobody"),
    (peers.NFSTREAM.name, "NFStream: flows, without dissection or statistics"),
    (peers.TSHARK_SHALLOW.name, "`tshark -q -z conv,ip` that leaves TCP and UDP alone"),
    (peers.TSHARK.name, "`tshark -q -z conv,ip`"),
    (peers.DPKT.name, "dpkt: a loop and a dictionary"),
    (peers.COUNTING.name, "`tcpdump --count`: looks at nothing"),
    (peers.READING.name, "`cat`: reads"),
)
WARM = (
    ("warm headers", "headers, pcap"),
    ("warm nanoseconds", "headers, pcap in nanoseconds"),
    ("warm pcapng", "headers, pcapng"),
    ("warm whole", "whole frames, pcap"),
)


def kept(name: str) -> dict[str, Any]:
    """Return what a benchmark wrote last."""
    path = RESULTS / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found


def sections(name: str) -> dict[str, dict[str, Any]]:
    """Return its sections, and in each the contenders by name."""
    return {
        section["name"]: {each["name"]: each for each in section["results"] if each["installed"]}
        for section in kept(name).get("sections", ())
    }


def capture_tables() -> Iterator[str]:
    """Yield the tables of `make bench-capture`."""
    found = sections("capture")
    headers, whole = found.get("headers", {}), found.get("whole", {})
    if headers:
        yield "| `make bench-capture` | µs a frame, headers | of ours | whole frames, of ours | bytes told |"
        yield "|---|---|---|---|---|"
    for name, words in WHOLE_COMMANDS:
        if name not in headers:
            continue
        each, full = headers[name], whole.get(name)
        cost = 1e6 / each["frames_per_cpu_second"]
        other = _times(full["ratio"]) if full else "–"
        share = "–" if each["bytes_share"] is None else f"{each['bytes_share']:.1%}"
        yield f"| {words} | {cost:.2f} | {_times(each['ratio'])} | {other} | {share} |"
    yield ""
    if any(name in found for name, _ in WARM):
        yield "| The scan alone, warm | million frames a CPU second | of the same scan in C |"
        yield "|---|---|---|"
    for name, words in WARM:
        if name in found:
            ours = found[name][bench_capture.COMPILED]
            rate = ours["frames_per_cpu_second"] / 1e6
            yield f"| {words} | {rate:.1f} | {1 / ours['ratio']:.2f} |"
    if "small" in found:
        usual, by_numpy = (
            found["small"][name]["wall_seconds"]
            for name in (bench_capture.OURS, bench_capture.BY_NUMPY)
        )
        yield (
            f"\n{bench_capture.SMALL_FRAMES:,} frames are answered {usual:.2f} s after the key is pressed;"
            f" {by_numpy:.2f} s without the compiled scanner."
        )


def other_tables() -> Iterator[str]:
    """Yield what the other benchmarks found."""
    if spread := kept("spread"):
        times = spread["times_the_rate_of_one"]
        yield f"\n`make bench-spread`: two workers at {times:.2f} times the rate of one."
    if analysis := sections("analysis").get("analysis"):
        *_, later = analysis.values()
        yield (
            "`make bench-analysis`: a window of 10,000 VMs and a million pairs takes"
            f" {later['wall_seconds']:.2f} s."
        )
    startup = sections("startup").get("", {})
    if startup:
        yield "\n| `make bench-startup` | CPU s | of Python's |\n|---|---|---|"
    for name in (bench_startup.OURS, bench_startup.BARE):
        if name in startup:
            each = startup[name]
            yield f"| `{name}` | {each['cpu_seconds']:.3f} | {_times(each['ratio'])} |"


def _times(ratio: float) -> str:
    return f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}"


def main() -> None:
    print(*capture_tables(), *other_tables(), sep="\n")


if __name__ == "__main__":
    main()
