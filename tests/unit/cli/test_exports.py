"""Exports: what other programs read from the files is what was found, and a file is whole or not there."""

import csv
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import numpy as np
import pytest

from tests.unit.cli.analyses import NAMES, START, analysis
from transhume.cli.exports import FORMATS, Export, ExportedFile
from transhume.cli.exports import slices as slicing
from transhume.cli.exports.result import read_result
from transhume.errors import ExtraMissing, UsageError

ROWS = [
    (START, NAMES[0], NAMES[1], 1000, 900, 2),
    (START + timedelta(seconds=1), NAMES[0], NAMES[1], 500, 450, 1),
    (START + timedelta(seconds=1), NAMES[1], NAMES[2], 5_000_000_000, 4_900_000_000, 4_000_000),
]


def exported(format_: str, folder: Path) -> Path:
    path = folder / f"out.{format_}"
    Export(format_, path).write(analysis())
    return path


def asked(words: str) -> Export:
    return ExportedFile().convert(words, None, None)


# --- what other programs read ------------------------------------------------------------------------


def test_csv_is_what_the_csv_module_reads_back(tmp_path: Path) -> None:
    path = exported("csv", tmp_path)

    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file, strict=True)

    assert header == ["start", "source", "destination", "bytes", "payload_bytes", "frames"]
    read = [(datetime.fromisoformat(row[0]), *row[1:3], *map(int, row[3:])) for row in rows]
    assert read == ROWS


def test_csv_lines_end_as_rfc_4180_says(tmp_path: Path) -> None:
    text = exported("csv", tmp_path).read_bytes()

    assert text.count(b"\r\n") == text.count(b"\n") == 4
    assert b'"a ""quoted"", name"' in text


def test_parquet_is_what_pyarrow_reads_back(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra [parquet]")

    table = parquet.read_table(exported("parquet", tmp_path))

    rows = [tuple(row.values()) for row in table.to_pylist()]
    assert rows == [(start.replace(tzinfo=start.tzinfo), *rest) for start, *rest in ROWS]
    assert table.schema.metadata[b"transhume.slice_seconds"] == b"1.0"


def test_a_long_series_is_written_batch_by_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra [parquet]")
    monkeypatch.setattr(slicing, "ROWS_AT_A_TIME", 1)

    file = parquet.ParquetFile(exported("parquet", tmp_path))

    assert file.num_row_groups == 2
    assert file.read().num_rows == 3


def test_graphml_is_what_igraph_reads_back(tmp_path: Path) -> None:
    import igraph

    graph = igraph.Graph.Read_GraphML(str(exported("graphml", tmp_path)))

    assert graph.is_directed()
    assert tuple(graph.vs["name"]) == NAMES
    assert set(graph.vs["group"]) == {"g-web"}
    assert graph.vs["to_outside_bytes"] == [70, 0, 0]
    edges = [(*edge.tuple, edge["bytes"], edge["frames"], edge["weight"]) for edge in graph.es]
    assert edges == [(0, 1, 1500, 3, 750.0), (1, 2, 5_000_000_000, 4_000_000, 2.5e9)]


def test_matrix_market_is_what_scipy_reads_back(tmp_path: Path) -> None:
    from scipy.io import mmread

    path = exported("mtx", tmp_path)

    assert np.array_equal(mmread(path).toarray(), analysis().matrix.dense())
    assert f"% 2 {NAMES[1]}\n" in path.read_text("utf-8")


def test_names_of_many_lines_break_no_file(tmp_path: Path) -> None:
    import igraph
    from scipy.io import mmread

    hostile = ("a\n1 1 7", "b\x00\x1b", "c]]>")
    for format_ in ("mtx", "graphml"):
        Export(format_, tmp_path / f"x.{format_}").write(analysis(hostile))

    assert mmread(tmp_path / "x.mtx").nnz == 2
    assert igraph.Graph.Read_GraphML(str(tmp_path / "x.graphml")).vcount() == 3


def test_json_is_read_back_by_ourselves_and_by_any_other(tmp_path: Path) -> None:
    path = exported("json", tmp_path)
    found = json.loads(path.read_text("utf-8"))

    matrix, groups = read_result(path)

    before = analysis()
    assert np.array_equal(matrix.dense(), before.matrix.dense())
    assert matrix.total_bytes == before.matrix.total_bytes
    assert (matrix.start, matrix.seconds, matrix.vms) == (START, 2.0, before.matrix.vms)
    assert groups == before.groups
    assert found["pairs"] == [[0, 1, 1500, 1350, 3], [1, 2, 5000000000, 4900000000, 4000000]]
    assert found["networks"] == [{"name": "campus", "to": [60, 0, 0], "from": [0, 0, 0]}]
    assert found["unattributed"]["top"][0]["source"] == {"mac": None, "ip": "192.0.2.1"}
    assert found["groups"][0]["pattern"]["kind"] == "pipeline"
    assert found["forecast"] == {
        "method": "the last again",
        "error": 0.125,
        "slices": [
            {
                "start": "2030-01-01T00:00:01+00:00",
                "seconds": 1.0,
                "bytes_per_second": 5000000500.0,
            }
        ],
    }
    assert found["phases"][0]["seconds"] == 2.0
    assert found["cut"]["dollars_per_hour"] == 0.25


def test_every_format_can_be_written(tmp_path: Path) -> None:
    for format_ in FORMATS:
        assert exported(format_, tmp_path).stat().st_size > 0


# --- reading a result back ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        pytest.param("{", "is no JSON", id="cut short"),
        pytest.param("[1]", "was not written by `transhume analyze --json`", id="another JSON"),
        pytest.param('{"format": "transhume-analysis", "version": 9}', "of version 9", id="newer"),
        pytest.param(
            '{"format": "transhume-analysis", "version": 1, "vms": []}',
            r"is damaged \(KeyError",
            id="parts missing",
        ),
    ],
)
def test_what_is_no_result_is_refused_with_what_was_seen(
    tmp_path: Path, text: str, seen: str
) -> None:
    path = tmp_path / "found.json"
    path.write_text(text)

    with pytest.raises(UsageError, match=seen):
        read_result(path)


def test_a_result_with_a_pair_of_nobody_is_damaged(tmp_path: Path) -> None:
    path = exported("json", tmp_path)
    path.write_text(path.read_text("utf-8").replace("[0, 1, 1500", "[0, 7, 1500"), "utf-8")

    with pytest.raises(UsageError, match="a pair of a VM that isn't there"):
        read_result(path)


# --- which format, and where -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "format_", "name"),
    [
        ("traffic.csv", "csv", "traffic.csv"),
        ("Traffic.MTX", "mtx", "Traffic.MTX"),
        ("graphml:traffic.xml", "graphml", "traffic.xml"),
        ("csv:a:b", "csv", "a:b"),
        ("a:b.json", "json", "a:b.json"),
    ],
)
def test_the_ending_or_a_prefix_says_the_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, format_: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)

    assert asked(words) == Export(format_, Path(name))


@pytest.mark.parametrize("words", ["traffic.xlsx", "traffic", "xml:traffic"])
def test_an_unknown_format_is_told_with_the_known_ones(words: str) -> None:
    with pytest.raises(click.BadParameter, match=r"\.parquet, \.csv, \.graphml, \.mtx, \.json"):
        asked(words)


def test_a_file_that_can_not_be_made_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(click.BadParameter, match="is no folder"):
        asked(f"{tmp_path}/file/out.csv")


def test_parquet_without_its_library_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(ExtraMissing, match=r"pip install 'transhume\[parquet\]'"):
        asked(f"{tmp_path}/out.parquet")


def test_a_time_before_1970_and_a_silence_are_no_trouble(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra [parquet]")
    from dataclasses import replace

    before = analysis()
    old = replace(before.series.matrices[0], start=datetime(1969, 12, 31, tzinfo=UTC))
    silent = replace(before, series=replace(before.series, matrices=()))
    early = replace(before, series=replace(before.series, matrices=(old,)))
    for name, each in (("silent", silent), ("early", early)):
        Export("parquet", tmp_path / name).write(each)

    assert parquet.read_table(tmp_path / "silent").num_rows == 0
    assert parquet.read_table(tmp_path / "early").to_pylist()[0]["start"].year == 1969
