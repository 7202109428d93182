"""Which files belong to one capture point: files, folders and patterns in, capture points out.

Why it matters: a frame that passed two capture points is in the files of both and counts once; a frame is never
in two files of a rotated set, so that all of these count. The rule goes by names, as the tools that rotate give
them, and nobody has to say anything:

- `tcpdump -C`, `-W`: `cap.pcap`, `cap.pcap1`, … (`cap.pcap00`, …): a number after the ending. A number before
  the ending (`vnet1.pcap`, `vnet2.pcap`) tells capture points apart.
- `tcpdump -G`: a date, a date with a time, or seconds since the epoch, anywhere in the name
  (`cap-%Y%m%d-%H%M%S.pcap`, `cap-%s.pcap`). A time without a date is none: `host-12.pcap` is a host.
- `dumpcap -b`, `tshark -b`, `editcap -c`: `cap_00001_20260101120000.pcapng`, also with number and time swapped.

All of a set lie in one folder, and what is left of their names is the same; a packed file belongs to the set
that it would belong to unpacked. Files of a set are read by the time of their first frame, since a ring's
numbers begin again. Whoever names files otherwise writes `NAME=FILE`, `NAME=FOLDER` or `NAME=PATTERN`: all of
these files are the capture point NAME. Whether the rule was right is checked when all is read: files of one
capture point that overlap in time were hardly rotated (`overlaps`).
"""

import glob
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

from transhume.errors import UnreadableCapture
from transhume.monitor.capture.glimpse import begins_like_a_capture, glimpse
from transhume.monitor.capture.sources import STANDARD_INPUT

_ENDING = r"\.(?:pcapng|pcap|cap|dmp|dump)"
_PACKED = re.compile(r"\.(?:gz|zst|zstd|lz4)$", re.IGNORECASE)
_NUMBERED = re.compile(rf"^(?P<name>.+{_ENDING})(?:\.?\d+)?$", re.IGNORECASE)
_RING_BUFFER = re.compile(r"_(?:\d{5,}_\d{14}|\d{14}_\d{5,})(?=\.|$)")
_DATE = r"(?:19|20)\d\d(?P<s>[-_.]?)(?:0[1-9]|1[0-2])(?P=s)(?:0[1-9]|[12]\d|3[01])"
_TIME = r"(?:[-_.:T ]?(?:[01]\d|2[0-3])[-_.:h]?[0-5]\d(?:[-_.:m]?[0-5]\d)?)?(?:Z|[+-]\d{4})?"
_STAMP = re.compile(rf"(?<!\d)(?:{_DATE}{_TIME}|1\d{{9}})(?!\d)")
_PATTERN = re.compile(r"[*?\[]")
_SEAM = timedelta(seconds=1)
"""What stamps of frames at a seam may be out of order by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturePoint:
    """A place where frames were captured, and the files that hold them, the oldest first."""

    name: str
    files: tuple[Path, ...]


def capture_points(given: Iterable[str]) -> tuple[CapturePoint, ...]:
    """Return the capture points of what a user gives, in that order: files, folders, patterns, `-`, `NAME=…`.

    Of a folder and its folders, all files are taken that begin like a capture. A file that is given twice is
    taken once.

    Raises:
        UnreadableCapture: something isn't there, or holds no capture, or can't be read.
    """
    taken: set[tuple[int, int]] = set()
    named: dict[str, list[Path]] = {}
    unnamed: list[Path] = []
    for text in given:
        name, files = _files(text)
        new = [path for path in files if _is_new(path, taken)]
        if name is None:
            unnamed += new
        else:
            named.setdefault(name, []).extend(new)
    sets = [(name, files) for name, files in named.items() if files]
    sets += _sets(unnamed)
    return tuple(CapturePoint(name=name, files=_by_time(files)) for name, files in sets)


def overlaps(
    point: CapturePoint, times: Sequence[tuple[datetime | None, datetime | None]]
) -> Iterator[str]:
    """Yield what makes one doubt that files of a point were rotated.

    Args:
        point: the capture point.
        times: of each of its files, when its first and last frame were.
    """
    known = [
        (path, first, last)
        for path, (first, last) in zip(point.files, times, strict=True)
        if first is not None and last is not None
    ]
    for (earlier, _, last), (later, first, _) in pairwise(known):
        if first < last - _SEAM:
            yield (
                f"{later} begins {(last - first).total_seconds():.1f} s before {earlier} ends, but their names"
                " are those of one rotated capture, and the frames of both were counted; if they were captured"
                f" at different points, name these: a={earlier} b={later}"
            )


# --- what is given -----------------------------------------------------------------------------------


def _files(text: str) -> tuple[str | None, list[Path]]:
    """Return the name that is given to some files, or None, and the files."""
    path = Path(text)
    name, equals, rest = text.partition("=")
    if path == STANDARD_INPUT or path.exists():
        return None, _in_folder(path) if path.is_dir() else [path]
    if equals and name and rest and "/" not in name:
        return name, _files(rest)[1]
    if _PATTERN.search(text) is None:
        raise UnreadableCapture(text, "No such file or folder")
    names = glob.glob(text, recursive=True)  # noqa: PTH207  (Path.glob takes no absolute pattern)
    found = [Path(each) for each in sorted(names)]
    files = [file for each in found for file in ([each] if each.is_file() else _in_folder(each))]
    if not files:
        raise UnreadableCapture(text, "no file has such a name")
    return None, files


def _in_folder(folder: Path) -> list[Path]:
    """Return the captures in a folder and its folders, but not what is hidden."""
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and _is_capture(path)
    ]
    if not found:
        raise UnreadableCapture(str(folder), "no file in this folder is a capture")
    return found


def _is_capture(path: Path) -> bool:
    try:
        return begins_like_a_capture(path)
    except OSError as error:
        raise UnreadableCapture(str(path), error.strerror or str(error)) from error


def _is_new(path: Path, taken: set[tuple[int, int]]) -> bool:
    """Say whether a file was not met before under whatever name; standard input is never taken twice."""
    try:
        found = path.stat() if path != STANDARD_INPUT else None
    except OSError as error:
        raise UnreadableCapture(str(path), error.strerror or str(error)) from error
    identity = (found.st_dev, found.st_ino) if found else (-1, -1)
    is_new = identity not in taken
    taken.add(identity)
    return is_new


# --- what belongs together ---------------------------------------------------------------------------


def _sets(files: Sequence[Path]) -> list[tuple[str, list[Path]]]:
    """Group files by what their names have in common, in the order of the first of each."""
    found: dict[tuple[str, int], list[Path]] = {}
    seen: Counter[Path] = Counter()
    for path in files:
        unpacked = path.with_name(_PACKED.sub("", path.name))
        # The same name packed and not is the same capture twice, not two parts of one.
        found.setdefault(
            (str(path.parent / _common_name(unpacked.name)), seen[unpacked]), []
        ).append(path)
        seen[unpacked] += 1
    return [
        (name if len(files) > 1 else str(files[0]), files) for (name, _), files in found.items()
    ]


def _common_name(name: str) -> str:
    """Return what the names of a rotated set have in common, with `*` for what they haven't."""
    numbered = _NUMBERED.match(name)
    common = f"{numbered['name']}*" if numbered else name
    common = _RING_BUFFER.sub("_*", common)
    return _STAMP.sub("*", common)


def _by_time(files: Sequence[Path]) -> tuple[Path, ...]:
    """Return files in the order of their first frames; those without frames, and pipes, last, by name."""
    if len(files) == 1:
        return tuple(files)
    return tuple(sorted(files, key=lambda path: (*_first_frame(path), path.name)))


def _first_frame(path: Path) -> tuple[bool, int]:
    """Return whether a file has no frame, and when the first was; a pipe gives what it has but once."""
    if not path.is_file():
        return True, 0
    try:
        found = glimpse(path)
    except OSError as error:
        raise UnreadableCapture(str(path), error.strerror or str(error)) from error
    first_ns = None if found is None else found.first_ns
    return first_ns is None, first_ns or 0
