"""Parquet: the long table of `slices`, in columns with types, compressed.

Names are dictionaries, `start` is an instant in UTC to the microsecond, counts are 64-bit integers. The length
of a slice and the version of Transhume are in the file's metadata.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transhume import __version__
from transhume.cli.exports.slices import SliceRows, batches

if TYPE_CHECKING:
    from transhume.cli.analysis import Analysis


def write(path: Path, analysis: "Analysis") -> None:
    """Write each slice's pairs, a row group for each batch."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = pa.array(analysis.series.vms, type=pa.string())
    name = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema(
        [
            ("start", pa.timestamp("us", tz="UTC")),
            ("source", name),
            ("destination", name),
            ("bytes", pa.int64()),
            ("payload_bytes", pa.int64()),
            ("frames", pa.int64()),
        ],
        metadata={
            "transhume.version": __version__,
            "transhume.slice_seconds": repr(analysis.series.seconds),
        },
    )
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in batches(analysis.series):
            writer.write_table(_table(rows, names, schema))


def _table(rows: SliceRows, names: Any, schema: Any) -> Any:
    import pyarrow as pa

    starts = np.array([start.replace(tzinfo=None) for start in rows.starts], dtype="datetime64[us]")
    columns = [
        pa.array(starts[rows.slice], type=pa.timestamp("us", tz="UTC")),
        pa.DictionaryArray.from_arrays(pa.array(rows.source), names),
        pa.DictionaryArray.from_arrays(pa.array(rows.destination), names),
        pa.array(rows.bytes),
        pa.array(rows.payload_bytes),
        pa.array(rows.frames),
    ]
    return pa.Table.from_arrays(columns, schema=schema)
