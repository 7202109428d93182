"""CSV: the long table of `slices` as text, as RFC 4180 has it (commas, CRLF, quotes where needed; UTF-8)."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from transhume.cli.exports.slices import COLUMNS, batches

if TYPE_CHECKING:
    from transhume.cli.analysis import Analysis


def write(path: Path, analysis: "Analysis") -> None:
    """Write each slice's pairs; `start` is an instant in UTC, as ISO 8601 has it."""
    vms = analysis.series.vms
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for rows in batches(analysis.series):
            starts = [start.isoformat() for start in rows.starts]
            writer.writerows(
                zip(
                    [starts[number] for number in rows.slice.tolist()],
                    [vms[row] for row in rows.source.tolist()],
                    [vms[row] for row in rows.destination.tolist()],
                    rows.bytes.tolist(),
                    rows.payload_bytes.tolist(),
                    rows.frames.tolist(),
                    strict=True,
                )
            )
