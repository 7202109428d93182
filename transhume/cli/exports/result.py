"""The JSON of an analysis: all that was found, sparse, as docs/analysis.md describes it; written and read back.

Owns the names in it, which programs rely on: what is added gets new names, and what changes its meaning gets a
new `version`. Pairs are rows of numbers, one a line, because a dense matrix would be the square of its VMs.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from transhume.cli.analysis import Analysis
    from transhume.knowledge.model import (
        CommunicationMatrix,
        Cut,
        Endpoint,
        Forecast,
        Group,
        Pattern,
        UnattributedTraffic,
        Vm,
    )
    from transhume.monitor.capture.files import CaptureSummary

FORMAT = "transhume-analysis"
VERSION = 1


@dataclass(frozen=True, slots=True)
class _Rows:
    """A list that is too long to be made: its elements, as JSON."""

    texts: Iterable[str]


def write(path: Path, analysis: "Analysis") -> None:
    """Write the JSON into a file."""
    with path.open("w", encoding="utf-8") as file:
        print_result(file, analysis)


def print_result(file: TextIO, analysis: "Analysis") -> None:
    """Write the JSON, an entry of a list in each line."""
    file.write("{")
    for number, (key, value) in enumerate(_parts(analysis)):
        file.write(f"{',' if number else ''}\n  {json.dumps(key)}: ")
        if isinstance(value, _Rows):
            _print_lines(file, value.texts)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            _print_lines(file, map(json.dumps, value))
        else:
            file.write(json.dumps(value))
    file.write("\n}\n")


def _print_lines(file: TextIO, lines: Iterable[str]) -> None:
    file.write("[")
    separator = "\n    "
    for line in lines:
        file.write(separator)
        file.write(line)
        separator = ",\n    "
    file.write("\n  ]")


def _parts(analysis: "Analysis") -> Iterator[tuple[str, Any]]:
    matrix = analysis.matrix
    yield "format", FORMAT
    yield "version", VERSION
    yield "files", [_file(summary) for summary in analysis.summaries]
    yield "start", matrix.start.isoformat()
    yield "seconds", matrix.seconds
    yield "slice_seconds", analysis.series.seconds
    yield "vms", [_vm(vm) for vm in analysis.vms]
    yield "pairs", _pairs(matrix)
    yield "to_outside", matrix.to_outside.tolist()
    yield "from_outside", matrix.from_outside.tolist()
    yield (
        "networks",
        [
            {"name": part.name, "to": part.to.tolist(), "from": part.from_.tolist()}
            for part in matrix.networks
        ],
    )
    yield "multicast_bytes", matrix.multicast_bytes
    yield "dropped_frames", matrix.dropped_frames
    yield "bytes_error", matrix.bytes_error
    yield (
        "unattributed",
        {
            "bytes": matrix.unattributed_bytes,
            "top": [_stranger(each) for each in analysis.unattributed],
        },
    )
    patterns = analysis.patterns
    yield "groups", [_group(group, patterns.get(group.id)) for group in analysis.groups]
    yield "pattern", _pattern(analysis.pattern)
    yield (
        "phases",
        [
            {
                "start": phase.start.isoformat(),
                "seconds": phase.seconds,
                "bytes_per_second": phase.bytes_per_second,
                "pattern": _pattern(phase.pattern),
            }
            for phase in analysis.phases
        ],
    )
    yield "forecast", _forecast(analysis.forecast)
    yield "cut", _cut(analysis.cut, billed=analysis.cut_is_billed)
    yield "warnings", list(analysis.warnings)


def _file(summary: "CaptureSummary") -> dict[str, Any]:
    return {
        "path": summary.path,
        "capture_point": summary.capture_point,
        "interfaces": list(summary.interfaces),
        "frames": summary.frames,
        "bytes": summary.bytes,
        "first": summary.first.isoformat() if summary.first else None,
        "last": summary.last.isoformat() if summary.last else None,
        "unreadable_frames": summary.unreadable_frames,
        "stopped": summary.stopped,
        "parts_read_again": summary.parts_read_again,
    }


def _vm(vm: "Vm") -> dict[str, Any]:
    return {
        "name": vm.name,
        "macs": [interface.mac for interface in vm.interfaces if interface.mac],
        "ips": [ip for interface in vm.interfaces for ip in interface.ips],
        "cluster": vm.cluster,
    }


def _pairs(matrix: "CommunicationMatrix") -> _Rows:
    columns = (
        matrix.source,
        matrix.destination,
        matrix.bytes,
        matrix.payload_bytes,
        matrix.frames,
    )
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return _Rows(str(list(row)) for row in rows)


def _stranger(traffic: "UnattributedTraffic") -> dict[str, Any]:
    return {
        "source": _end(traffic.source),
        "destination": _end(traffic.destination),
        "bytes": traffic.bytes,
        "frames": traffic.frames,
    }


def _end(end: "Endpoint") -> dict[str, Any]:
    return {"mac": end.mac or None, "ip": end.ip}


def _group(group: "Group", pattern: "Pattern | None") -> dict[str, Any]:
    return {
        "id": group.id,
        "vms": list(group.vms),
        "internal_bytes_per_second": group.internal_bytes_per_second,
        "external_bytes_per_second": group.external_bytes_per_second,
        "cohesion": group.cohesion,
        "confidence": group.confidence,
        "pattern": _pattern(pattern),
    }


def _pattern(pattern: "Pattern | None") -> dict[str, Any] | None:
    if pattern is None:
        return None
    return {"kind": pattern.kind.value, "score": pattern.score, "vms": list(pattern.vms)}


def _forecast(forecast: "Forecast | None") -> dict[str, Any] | None:
    if forecast is None:
        return None
    return {
        "method": forecast.method,
        "error": forecast.error,
        "slices": [
            {
                "start": matrix.start.isoformat(),
                "seconds": matrix.seconds,
                "bytes_per_second": float(matrix.bytes_per_second.sum()),
            }
            for matrix in forecast.matrices
        ],
    }


def _cut(cut: "Cut | None", *, billed: bool) -> dict[str, Any] | None:
    if cut is None:
        return None
    return {
        "crossing": [
            {"from": source, "to": destination, "bytes_per_second": rate}
            for (source, destination), rate in sorted(cut.bytes_per_second.items())
        ],
        "dollars_per_hour": cut.dollars_per_hour if billed else None,
    }


# --- reading it back ---------------------------------------------------------------------------------


def is_result(path: Path) -> bool:
    """Say whether a file is JSON, and no capture; what can't be read is none."""
    try:
        with path.open("rb") as file:
            return file.read(64).lstrip()[:1] == b"{"
    except OSError:
        return False


def read_result(path: Path) -> "tuple[CommunicationMatrix, tuple[Group, ...]]":
    """Return the matrix and the groups that an analysis found.

    Raises:
        UsageError: the file can't be read, or is no such JSON; says what was seen.
    """
    from transhume.errors import UsageError

    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: is no JSON ({error})") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UsageError(f"{path}: was not written by `transhume analyze --json`; make it anew")
    if found.get("version") != VERSION:
        raise UsageError(
            f"{path}: is of version {found.get('version')!r}, and we read {VERSION};"
            " analyse the captures anew"
        )
    try:
        return _matrix(found), _groups(found["groups"])
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise UsageError(
            f"{path}: is damaged ({type(error).__name__}: {error}); analyse the captures anew"
        ) from error


def _matrix(found: dict[str, Any]) -> "CommunicationMatrix":
    from datetime import datetime

    import numpy as np

    from transhume.knowledge.model import CommunicationMatrix, VmName

    vms = tuple(VmName(str(vm["name"])) for vm in found["vms"])
    pairs = np.array(found["pairs"], dtype=np.int64).reshape(-1, 5)
    if len(pairs) and not (pairs[:, :2].min() >= 0 and pairs[:, :2].max() < len(vms)):
        raise ValueError("a pair of a VM that isn't there")
    return CommunicationMatrix.of_pairs(
        start=datetime.fromisoformat(found["start"]),
        seconds=float(found["seconds"]),
        vms=vms,
        source=pairs[:, 0],
        destination=pairs[:, 1],
        bytes=pairs[:, 2],
        payload_bytes=pairs[:, 3],
        frames=pairs[:, 4],
        to_outside=found["to_outside"],
        from_outside=found["from_outside"],
        multicast_bytes=int(found["multicast_bytes"]),
        unattributed_bytes=int(found["unattributed"]["bytes"]),
        dropped_frames=int(found["dropped_frames"]),
    )


def _groups(found: Iterable[dict[str, Any]]) -> "tuple[Group, ...]":
    from transhume.knowledge.model import Group, GroupId, VmName

    return tuple(
        Group(
            id=GroupId(str(group["id"])),
            vms=tuple(VmName(str(vm)) for vm in group["vms"]),
            internal_bytes_per_second=float(group["internal_bytes_per_second"]),
            external_bytes_per_second=float(group["external_bytes_per_second"]),
            confidence=float(group["confidence"]),
        )
        for group in found
    )
