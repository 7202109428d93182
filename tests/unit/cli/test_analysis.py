"""An analysis says what keeps it from being the whole truth, and the documentation says what is in it."""

import json
from dataclasses import replace
from pathlib import Path

from tests.unit.cli.analyses import analysis, summary
from transhume.cli.exports import FORMATS, Export

PAGE = (Path(__file__).parents[3] / "docs" / "analysis.md").read_text("utf-8")


def test_what_the_capture_lost_and_what_was_read_twice_is_told() -> None:
    found = replace(
        analysis(),
        doubts=("tap0.pcap: reading stopped",),
        summaries=(replace(summary(), parts_read_again=1),),
    )

    assert found.warnings == (
        "tap0.pcap: reading stopped",
        "the capture itself lost 3 frames: what is counted is a lower bound",
        "tap0.pcap: 1 part did not begin at a frame and had to be read twice; the result is right all"
        " the same",
    )


def test_an_analysis_is_told_in_one_line() -> None:
    assert analysis().headline == "4,000,003 frames, 5 GB in 2s; 3 VMs, 1 group"


def test_the_page_names_every_key_of_the_json(tmp_path: Path) -> None:
    Export("json", tmp_path / "found.json").write(analysis())
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    keys = set(found)
    for part in ("files", "vms", "networks", "groups", "phases"):
        keys |= set(found[part][0])
    for part in ("pattern", "forecast", "unattributed", "cut"):
        keys |= set(found[part])

    assert [key for key in sorted(keys) if f"`{key}`" not in PAGE] == []


def test_the_page_names_every_format() -> None:
    assert [name for name in FORMATS if f"`.{name}`" not in PAGE] == []
