"""The part of the report in which its reader puts VMs elsewhere: it reckons as we do."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.analyze.traffic import matrix_of
from tests.unit.cli.drawing import clusters, report_data, words
from transhume.analyze import find_cut
from transhume.cli.views import what_if
from transhume.cli.views.report import (
    ReportData,
    render_report,
)
from transhume.knowledge.model import (
    CloudName,
    VmName,
)
from transhume.quantities import format_rate


def numbers_of(html: str) -> dict[str, Any]:
    """Return what the page reckons with."""
    text = html.partition('id="what-if-numbers">')[2].partition("</script>")[0]
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_page_has_what_it_needs_to_reckon_other_placements() -> None:
    matrix = clusters(2, 3)
    cloud_of = {vm: CloudName("ab"[place % 3 == 0]) for place, vm in enumerate(matrix.vms)}
    egress = {CloudName("b"): 0.09, CloudName("c"): 0.01}
    data = replace(report_data(matrix), cloud_of=cloud_of, egress_dollars_per_gb=egress)

    numbers = numbers_of(render_report(data))

    clouds = [numbers["clouds"][at] for at in numbers["at"]]
    assert dict(zip(numbers["vms"], clouds, strict=True)) == cloud_of
    assert numbers["clouds"] == ["a", "b", "c"]
    assert numbers["egress"] == egress
    assert numbers["left_out"] == 0.0
    crossing = sum(rate for one, other, rate in numbers["pairs"] if clouds[one] != clouds[other])
    assert crossing == find_cut(matrix, cloud_of.__getitem__, {}).total_bytes_per_second


def test_pairs_too_many_for_a_page_are_left_out_and_that_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(what_if, "MOST_PAIRS", 2)

    html = render_report(report_data(matrix_of([[0, 9, 8], [2, 0, 0], [1, 0, 0]])))

    assert [rate for *_, rate in numbers_of(html)["pairs"]] == [9.0, 8.0]
    assert "The faintest pairs, 3 B/s together, are left out here." in words(html)


def test_without_a_placement_there_are_clouds_to_try() -> None:
    numbers = numbers_of(render_report(report_data(clusters(2, 3))))

    assert numbers["clouds"] == ["cloud 1", "cloud 2"]
    assert set(numbers["at"]) == {0}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(report_data(clusters(7, 50)), id="350 VMs"),
        pytest.param(report_data(matrix_of(np.zeros((3, 3)))), id="a silence"),
        pytest.param(
            replace(report_data(clusters(1, 3)), cloud_of={VmName("vm0"): CloudName("a")}),
            id="nobody knows where all were",
        ),
    ],
)
def test_where_nothing_can_be_reckoned_the_page_does_not_ask(data: ReportData) -> None:
    assert "What if?" not in render_report(data)


BROWSER = shutil.which("chromium") or shutil.which("chromium-headless-shell")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_a_browser_reckons_the_cut_as_we_do(tmp_path: Path) -> None:
    """Also after a group was put elsewhere, and with names that try to be more than names."""
    hostile = VmName("</script><b id='bad'>x")
    matrix = clusters(2, 3)
    matrix = replace(matrix, vms=(hostile, *matrix.vms[1:]))
    cloud_of = {vm: CloudName("ab"[place == 0]) for place, vm in enumerate(matrix.vms)}
    page = tmp_path / "report.html"
    html = render_report(replace(report_data(matrix), cloud_of=cloud_of))
    moves = """<script>
      const said = document.querySelector("#what-if .result").textContent;
      const select = document.querySelector("#what-if .places tr:nth-child(2) td:last-child select");
      select.value = "1"; select.dispatchEvent(new Event("change"));
      const moved = document.querySelector("#what-if .result").textContent;
      document.title = JSON.stringify([said, moved, document.querySelectorAll("#graph .crosses").length]);
    </script>"""
    page.write_text(html.replace("</body>", f"{moves}</body>"))

    dumped = subprocess.run(
        [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()],
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        check=True,
        text=True,
    ).stdout

    title = re.search(r"<title>(.*?)</title>", dumped)
    assert title is not None
    said, moved, crossing = json.loads(title.group(1))
    rate = format_rate(find_cut(matrix, cloud_of.__getitem__, {}).total_bytes_per_second)
    assert said == f"{rate}cross clouds, as it was"
    assert moved == f"0 B/s{rate} less than where they were; 2 moved"
    assert crossing == 0
    assert 'id="bad"' not in dumped
