"""GraphML: VMs as nodes with their groups, traffic as directed edges; for Gephi, igraph, NetworkX, yEd."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from transhume.cli.analysis import Analysis

_KEYS = (
    ("node", "name", "string"),
    ("node", "group", "string"),
    ("node", "to_outside_bytes", "long"),
    ("node", "from_outside_bytes", "long"),
    ("edge", "bytes", "long"),
    ("edge", "payload_bytes", "long"),
    ("edge", "frames", "long"),
    ("edge", "weight", "double"),
)
"""The attributes; `weight`, which drawing programs look for, is bytes per second."""


def write(path: Path, analysis: "Analysis") -> None:
    """Write the matrix of the whole time."""
    with path.open("w", encoding="utf-8") as file:
        _write(file, analysis)


def _write(file: TextIO, analysis: "Analysis") -> None:
    file.write('<?xml version="1.0" encoding="UTF-8"?>\n')
    file.write('<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n')
    for domain, name, kind in _KEYS:
        file.write(
            f'<key id="{domain}_{name}" for="{domain}" attr.name="{name}" attr.type="{kind}"/>\n'
        )
    file.write('<graph id="traffic" edgedefault="directed">\n')
    file.writelines(_nodes(analysis))
    file.writelines(_edges(analysis))
    file.write("</graph>\n</graphml>\n")


def _nodes(analysis: "Analysis") -> Iterator[str]:
    matrix = analysis.matrix
    group_of = {vm: group.id for group in analysis.groups for vm in group.vms}
    outside = zip(matrix.to_outside.tolist(), matrix.from_outside.tolist(), strict=True)
    for row, (vm, (to, from_)) in enumerate(zip(matrix.vms, outside, strict=True)):
        yield (
            f'<node id="n{row}"><data key="node_name">{_text(vm)}</data>'
            f'<data key="node_group">{_text(group_of.get(vm, ""))}</data>'
            f'<data key="node_to_outside_bytes">{to}</data>'
            f'<data key="node_from_outside_bytes">{from_}</data></node>\n'
        )


def _edges(analysis: "Analysis") -> Iterator[str]:
    matrix = analysis.matrix
    columns = (
        matrix.source,
        matrix.destination,
        matrix.bytes,
        matrix.payload_bytes,
        matrix.frames,
        matrix.bytes_per_second,
    )
    for source, destination, count, payload, frames, rate in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        yield (
            f'<edge source="n{source}" target="n{destination}">'
            f'<data key="edge_bytes">{count}</data>'
            f'<data key="edge_payload_bytes">{payload}</data>'
            f'<data key="edge_frames">{frames}</data>'
            f'<data key="edge_weight">{rate!r}</data></edge>\n'
        )


def _text(words: str) -> str:
    """Return words as XML has them; what no XML can hold is replaced."""
    return escape("".join(each if each.isprintable() else "\ufffd" for each in words))
