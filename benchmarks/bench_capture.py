"""Reading captures, beside the tools that others use and beside the same scan in C.

Three questions. How much CPU time does a whole command take, from a cold start to its written result, compared
to the peers that turn packets into a table of who talks to whom? How near is our scan, warm, to the same scan
in C? And how long does one wait for a small capture? Slow peers read a slice, and compare by rate; what a peer
says of the bytes is divided by the truth, which some miss where a snap length cut the frames.

Before anything is measured, our matrix and C's are compared with the truth, cell by cell.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks import peers
from benchmarks.captures import WHOLE_FRAMES, Capture, Recipe, capture
from benchmarks.checking import check_scans, told_by_command
from benchmarks.measuring import RESULTS, Contender, Section, measure, report_sections
from benchmarks.reference import reference_scan
from transhume.monitor.capture.scan import Engine

OURS, OURS_PCAPNG = "transhume analyze FILE --json", "transhume analyze FILE.pcapng --json"
IN_C, COMPILED, VECTORS = "the same scan in C", "our scan, Numba", "our scan, NumPy"
BY_NUMPY = "transhume analyze FILE --json --engine numpy"
SMALL_FRAMES, SLICE_FRAMES = 500_000, 400_000
SMALL_SECONDS = 0.6
ROUNDS = 5
SCANS = 4

HEADERS = Recipe()
HEADERS_NS = Recipe(nanoseconds=True)
HEADERS_PCAPNG = Recipe(pcapng=True)
WHOLE = Recipe(frames=WHOLE_FRAMES, whole=True)
SMALL = Recipe(frames=SMALL_FRAMES)
KINDS = (
    ("headers", "headers (96 bytes of each frame)", HEADERS),
    ("nanoseconds", "headers, in nanoseconds", HEADERS_NS),
    ("pcapng", "headers, as pcapng", HEADERS_PCAPNG),
    ("whole", "whole frames", WHOLE),
)


def ours(recipe: Recipe) -> Contender:
    """Return our whole command, after a look at whether it tells all bytes."""
    read = capture(recipe)
    program = Path(sys.executable).with_name("transhume")
    command = (str(program), "analyze", str(read.path), "--json")
    share = told_by_command(command) / read.truth.total_bytes
    return Contender(name=OURS, command=command, frames=recipe.frames, share=share)


def whole_commands(name: str, title: str, recipe: Recipe, *, rounds: int) -> Section:
    """Measure our command against all peers on one kind of capture."""
    read = capture(recipe)
    with tempfile.TemporaryDirectory(prefix="transhume-bench-", dir=RESULTS) as folder:
        contenders = [ours(recipe)]
        for peer in (*peers.FAST, *peers.SLOW):
            part = replace(recipe, frames=peer.slice_frames) if peer.slice_frames else recipe
            contenders.append(peer.contender(capture(part), Path(folder)))
        results = measure(contenders, rounds=rounds)
    title = f"Whole commands, {title}: {recipe.frames:,} frames, {_megabytes(read)}"
    return Section(name=name, title=title, results=results, reference=OURS)


def warm_scans(name: str, title: str, recipe: Recipe, *, rounds: int) -> Section:
    """Measure our scan in both engines against C's, each repeated within its process."""
    read, part = capture(recipe), capture(replace(recipe, frames=SLICE_FRAMES))
    contenders = (
        _repeating(IN_C, read, (str(reference_scan()), str(read.path), str(SCANS))),
        _repeating(COMPILED, read, _our_scan(read, Engine.NUMBA)),
        _repeating(VECTORS, part, _our_scan(part, Engine.NUMPY)),
    )
    return Section(
        name=f"warm {name}",
        title=f"Warm scans, {title}",
        results=measure(contenders, rounds=rounds),
        reference=IN_C,
    )


def _repeating(name: str, read: Capture, command: tuple[str, ...]) -> Contender:
    return Contender(name=name, command=command, frames=read.recipe.frames, tells_cpu=True)


def _our_scan(read: Capture, engine: Engine) -> tuple[str, ...]:
    return (sys.executable, "-m", "benchmarks.warm_scan", str(read.path), str(SCANS), engine)


def formats(*, rounds: int) -> Section:
    """Measure our command on the same frames in both file formats."""
    both = (ours(HEADERS), replace(ours(HEADERS_PCAPNG), name=OURS_PCAPNG))
    results = measure(both, rounds=rounds)
    return Section(name="formats", title="pcap and pcapng", results=results, reference=OURS)


def small(*, rounds: int) -> Section:
    """Measure how long one waits for a small capture."""
    title = f"A small capture: {SMALL_FRAMES:,} frames, {_megabytes(capture(SMALL))}"
    usual = ours(SMALL)
    assert usual.command is not None
    by_numpy = replace(usual, name=BY_NUMPY, command=(*usual.command, "--engine", "numpy"))
    results = measure([usual, by_numpy], rounds=rounds)
    return Section(name="small", title=title, results=results, reference=OURS)


def sections(chosen: str, rounds: int) -> Iterator[Section]:
    """Measure what was chosen, or everything."""
    if chosen in ("all", "commands"):
        for name, title, recipe in KINDS:
            if recipe in (HEADERS, WHOLE):
                yield whole_commands(name, title, recipe, rounds=rounds)
        yield formats(rounds=rounds)
    if chosen in ("all", "warm"):
        for name, title, recipe in KINDS:
            yield warm_scans(name, title, recipe, rounds=rounds)
    if chosen in ("all", "commands"):
        yield small(rounds=2 * rounds)


def promises(found: Mapping[str, Section]) -> list[dict[str, object]]:
    """Return what is promised, what was found, and whether it was kept."""

    def least(what: str, promised: float, value: float | None) -> dict[str, object]:
        kept = value is not None and value >= promised
        return {"what": what, "promised": promised, "found": value, "kept": kept}

    told: list[dict[str, object]] = []
    if "headers" in found:
        for peer, promised in ((peers.NFDUMP, 2), (peers.NFSTREAM, 20), (peers.TSHARK, 60)):
            ratio = found["headers"].ratio(peer.name)
            told.append(least(f"times the CPU time of ours: {peer.name}", promised, ratio))
    for name in ("headers", "whole"):
        if warm := found.get(f"warm {name}"):
            ratio = warm.ratio(COMPILED)
            told.append(least(f"of C's rate, {name}", 0.8, ratio and 1 / ratio))
    if "formats" in found:
        ratio = found["formats"].ratio(OURS_PCAPNG)
        told.append(least("of pcap's rate, pcapng", 1 / 1.5, ratio and 1 / ratio))
    if "small" in found:
        wall = found["small"].results[0].wall
        kept = {"promised": SMALL_SECONDS, "found": wall, "kept": wall < SMALL_SECONDS}
        told.append({"what": "seconds for a small capture, at most", **kept})
    return told


def _megabytes(read: Capture) -> str:
    return f"{read.path.stat().st_size / 1e6:,.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure reading captures beside the peers.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", choices=("all", "commands", "warm"), default="all")
    asked = parser.parse_args()
    for name in peers.missing():
        print(f"not installed: {name}; benchmarks/peers.py says where it comes from")
    for _, _, recipe in KINDS:
        check_scans(capture(recipe), (Engine.NUMBA,))
    check_scans(capture(SMALL), (Engine.NUMPY,))
    facts = {"rounds": asked.rounds}
    name = "capture" if asked.only == "all" else f"capture-{asked.only}"
    shown = report_sections(name, sections(asked.only, asked.rounds), facts=facts)
    for each in promises({section.name: section for section in shown}):
        verdict = "kept" if each["kept"] else "BROKEN"
        print(f"{verdict}: {each['what']}: {each['promised']:.3g} promised, {each['found']} found")


if __name__ == "__main__":
    main()
