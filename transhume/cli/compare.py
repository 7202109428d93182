"""`transhume compare`: how alike two captures are, and what changed between them."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from transhume.cli.reading_options import one_thread_for_algebra, vms_option, window_option
from transhume.cli.watching import progress_bar, warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transhume.analyze import Comparison
    from transhume.cli.changed_pairs import ChangedPair
    from transhume.knowledge.model import CommunicationMatrix, Group, Vm

MOST_PAIRS = 20


@click.command("compare")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@window_option
@vms_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    *, before: str, after: str, window: float, vms_file: Path | None, as_json: bool
) -> None:
    """Compare who talks to whom in captures A and B.

    Each is a capture, a folder or a pattern of captures, or the JSON of an analysis. Amounts are compared as
    bytes per second, since A and B may have lasted differently; VMs are known again by their names.

    \b
    Examples:
      transhume compare monday.pcap tuesday.pcap
      transhume compare 'monday/*.pcap' 'tuesday/*.pcap' --vms vms.yaml
      transhume compare monday.json tuesday.pcapng.zst --json
    """
    one_thread_for_algebra()
    from transhume.analyze import compare
    from transhume.cli.changed_pairs import changed_pairs

    vms = _vms(vms_file)
    (first, first_groups), (second, second_groups) = (
        _matrix(words, window, vms) for words in (before, after)
    )
    found = compare(first, second, first_groups=first_groups, second_groups=second_groups)
    pairs = changed_pairs(first, second, MOST_PAIRS)
    if as_json:
        click.echo(json.dumps(_as_json(found, pairs), indent=2))
        return
    from rich.console import Console

    from transhume.cli.views.comparison import shown

    console = Console()
    for part in shown(found, pairs):
        console.print(part)


def _vms(path: Path | None) -> "Sequence[Vm] | None":
    if path is None:
        return None
    from transhume.cli.inventory_files import load_vms

    return load_vms(path)


def _matrix(
    words: str, window_seconds: float, vms: "Sequence[Vm] | None"
) -> "tuple[CommunicationMatrix, Sequence[Group]]":
    """Return what a capture or the JSON of an analysis says."""
    from transhume.cli.exports.result import is_result, read_result

    path = Path(words)
    if path.is_file() and is_result(path):
        return read_result(path)
    from transhume.cli.capture_files import Captures, Request

    captures = Captures(Request(files=(words,), window_seconds=window_seconds), vms)
    with progress_bar(captures):
        captures.read()
    analysis = captures.analysis()
    warn(analysis.warnings)
    return analysis.matrix, analysis.groups


def _as_json(found: "Comparison", pairs: "Sequence[ChangedPair]") -> dict[str, Any]:
    return {
        "shared_vms": found.shared_vms,
        "only_in_a": list(found.only_in_first),
        "only_in_b": list(found.only_in_second),
        "cosine": found.cosine,
        "distance": found.distance if math.isfinite(found.distance) else None,
        "rank_correlation": found.rank_correlation,
        "group_agreement": found.group_agreement,
        "bytes_per_second": [found.first_bytes_per_second, found.second_bytes_per_second],
        "changed_groups": [
            {"vm": each.vm, "before": list(each.before), "after": list(each.after)}
            for each in found.changed
        ],
        "changed_pairs": [
            {
                "source": pair.source,
                "destination": pair.destination,
                "before": pair.before,
                "after": pair.after,
            }
            for pair in pairs
        ],
    }
