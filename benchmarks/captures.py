"""The captures that benchmarks read: made once, kept in build/bench/captures, and the exact truth beside each.

The same frames are written as headers alone (96 bytes kept, as `tcpdump -s 96` does) or whole, as pcap or
pcapng, and in slices for tools that would take minutes over all of them. The truth is counted from the frames
before they are written, so that no reader's mistake can hide in it.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.datacentre import SECONDS, Frames, frames
from benchmarks.headers import KEPT_BYTES, Bytes, Templates, frame_bytes
from benchmarks.measuring import RESULTS
from transhume.knowledge.model.addresses import AddressPairs

ALL_FRAMES, WHOLE_FRAMES = 5_000_000, 1_500_000
CHUNK = 200_000
VERSION = 1
"""Part of the files' names: to be raised when other bytes are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Which capture to make."""

    frames: int = ALL_FRAMES
    """In a minute."""
    minutes: int = 1
    """Each minute holds the same frames again."""
    whole: bool = False
    pcapng: bool = False
    nanoseconds: bool = False

    @property
    def path(self) -> Path:
        """Where the capture is kept."""
        content = "whole" if self.whole else "headers"
        resolution = "ns" if self.nanoseconds else "us"
        ending = "pcapng" if self.pcapng else "pcap"
        often = f"x{self.minutes}" if self.minutes > 1 else ""
        name = f"{content}-{self.frames}{often}-{resolution}-v{VERSION}.{ending}"
        return RESULTS / "captures" / name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Truth:
    """What a minute holds, by second and row of addresses; and sums for peers that tell less."""

    addresses: AddressPairs
    second: NDArray[np.int64]
    pair: NDArray[np.int64]
    bytes: NDArray[np.int64]
    payload_bytes: NDArray[np.int64]
    frames: NDArray[np.int64]
    ip_bytes: int
    """From the IP header on, which is what flow records count."""
    ip_frame_bytes: int
    """Whole frames that hold IP."""
    ipv4_frame_bytes: int

    @property
    def total_bytes(self) -> int:
        """All frames' wire bytes."""
        return int(self.bytes.sum())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Capture:
    """A capture on disk, and what is true of it."""

    recipe: Recipe
    path: Path
    truth: Truth


def capture(recipe: Recipe) -> Capture:
    """Return the capture; make it where it isn't there yet."""
    path = recipe.path
    truth_path = path.with_name(path.name + ".truth.npz")
    if not (path.exists() and truth_path.exists()):
        path.parent.mkdir(parents=True, exist_ok=True)
        chosen = frames(ALL_FRAMES).part(0, recipe.frames)
        templates = Templates(chosen.flows)
        _keep(truth_path, _truth(chosen, templates))
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            for piece in _pieces(chosen, templates, recipe):
                file.write(piece)
        part.replace(path)
    return Capture(recipe=recipe, path=path, truth=_kept(truth_path))


def _truth(chosen: Frames, templates: Templates) -> Truth:
    number = templates.number(chosen)
    addresses, of_template = np.unique(templates.addresses, return_inverse=True)
    second = chosen.at_ns // 10**9
    first = int(second[0])
    cell = (second - first) * len(addresses) + of_template[number]
    seen = np.bincount(cell)
    cells = np.flatnonzero(seen)
    ip = ~templates.arp[number]
    length = chosen.length.astype(np.int64)
    return Truth(
        addresses=addresses,
        second=first + cells // len(addresses),
        pair=cells % len(addresses),
        bytes=np.bincount(cell, chosen.length)[cells].astype(np.int64),
        payload_bytes=np.bincount(cell, chosen.payload)[cells].astype(np.int64),
        frames=seen[cells].astype(np.int64),
        ip_bytes=int((length - templates.network_at[number])[ip].sum()),
        ip_frame_bytes=int(length[ip].sum()),
        ipv4_frame_bytes=int(length[ip & ~templates.ipv6[number]].sum()),
    )


def _keep(path: Path, truth: Truth) -> None:
    columns = {name: getattr(truth, name) for name in Truth.__slots__}
    np.savez(path, **columns)


def _kept(path: Path) -> Truth:
    with np.load(path) as found:
        columns = {name: found[name] for name in Truth.__slots__}
    sums = {name: int(value) for name, value in columns.items() if value.ndim == 0}
    return Truth(**{**columns, **sums})


def _pieces(chosen: Frames, templates: Templates, recipe: Recipe) -> Iterator[bytes]:
    """Yield the file's bytes: its head, then some thousand records at a time."""
    kept = int(chosen.length.max()) if recipe.whole else KEPT_BYTES
    yield _pcapng_head(kept, recipe) if recipe.pcapng else _pcap_head(kept, recipe)
    noise = np.random.default_rng(9).integers(256, size=1 << 22, dtype=np.uint8)
    for minute in range(recipe.minutes):
        for start in range(0, recipe.frames, CHUNK):
            part = chosen.part(start, start + CHUNK)
            part = replace(part, at_ns=part.at_ns + minute * SECONDS * 10**9)
            identification = np.arange(start, start + len(part.flow))
            head = frame_bytes(part, templates, identification)
            captured = np.minimum(part.length, kept).astype(np.int64)
            yield from _records(part, head, captured, noise, recipe)


def _records(
    part: Frames, head: Bytes, captured: NDArray[np.int64], noise: Bytes, recipe: Recipe
) -> Iterator[bytes]:
    """Yield records: a fixed head, the frame, and in pcapng padding and the length once more."""
    before = (
        _pcapng_before(part, captured) if recipe.pcapng else _pcap_before(part, captured, recipe)
    )
    padded = captured + (-captured % 4 if recipe.pcapng else 0)
    whole = before.shape[1] + padded + (4 if recipe.pcapng else 0)
    offset = np.cumsum(whole) - whole
    found = np.resize(noise, int(whole.sum()))
    rows = np.concatenate([before, head], axis=1)
    end = before.shape[1] + np.minimum(captured, KEPT_BYTES)
    wanted = np.arange(rows.shape[1]) < end[:, None]
    if recipe.whole or recipe.pcapng:
        found[(offset[:, None] + np.arange(rows.shape[1]))[wanted]] = rows[wanted]
    else:
        found = rows[wanted]
    if recipe.pcapng:
        _close_blocks(found, offset, before.shape[1] + captured, whole)
    yield found.tobytes()


def _close_blocks(
    found: Bytes, offset: NDArray[np.int64], end: NDArray[np.int64], whole: NDArray[np.int64]
) -> None:
    """Write zeros after each frame up to a multiple of four bytes, then the block's length."""
    last = offset + whole - 4
    for number in range(3):
        at = offset + end + number
        found[at[at < last]] = 0
    length = whole.astype("<u4").view(np.uint8).reshape(-1, 4)
    for number in range(4):
        found[last + number] = length[:, number]


def _pcap_head(kept: int, recipe: Recipe) -> bytes:
    magic = 0xA1B23C4D if recipe.nanoseconds else 0xA1B2C3D4
    return struct.pack("<IHHiIII", magic, 2, 4, 0, 0, kept, 1)


def _pcap_before(part: Frames, captured: NDArray[np.int64], recipe: Recipe) -> Bytes:
    columns = np.empty((len(captured), 4), dtype="<u4")
    rest = part.at_ns % 10**9
    columns[:, 0] = part.at_ns // 10**9
    columns[:, 1] = rest if recipe.nanoseconds else rest // 1000
    columns[:, 2], columns[:, 3] = captured, part.length
    return columns.view(np.uint8)


def _pcapng_head(kept: int, recipe: Recipe) -> bytes:
    """Return a section header, and one interface with its resolution."""
    section = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
    resolution = struct.pack("<HHB3xHH", 9, 1, 9 if recipe.nanoseconds else 6, 0, 0)
    length = 20 + len(resolution)
    interface = struct.pack("<IIHHI", 1, length, 1, 0, kept) + resolution
    return section + interface + struct.pack("<I", length)


def _pcapng_before(part: Frames, captured: NDArray[np.int64]) -> Bytes:
    columns = np.zeros((len(captured), 7), dtype="<u4")
    ticks = part.at_ns // 1000
    columns[:, 0] = 6
    columns[:, 1] = 32 + captured + -captured % 4
    columns[:, 3], columns[:, 4] = ticks >> 32, ticks & 0xFFFFFFFF
    columns[:, 5], columns[:, 6] = captured, part.length
    return columns.view(np.uint8)
