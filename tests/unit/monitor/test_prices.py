"""Price schedules in files, and prices that a server tells."""

import json
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transhume.errors import InvalidFile, TemporaryError
from transhume.knowledge.model import CloudName, PriceTick
from transhume.monitor.clouds.price_rows import PriceRow
from transhume.monitor.clouds.prices import HttpPriceFeed, PriceSchedule, load_prices

START = datetime(2030, 1, 1, tzinfo=UTC)
YAML = """\
prices:
  - {cloud: b, at: 0s, vcpu: 0.05/h}
  - {cloud: a, at: 0s, vcpu: 0.04/h, memory: 0.005/GiB/h, egress: 0.09/GB}
  - {cloud: a, at: 1h, vcpu: 0.4/h}
  - {cloud: b, at: 2030-01-01T00:30+00:00, vcpu: 0.01/h}
"""
CSV = """\
cloud,at,vcpu,memory,egress
b,0s,0.05/h
a,0s,0.04/h,0.005/GiB/h,0.09/GB

a,1h,0.4/h,,
b, 2030-01-01T00:30+00:00 ,0.01/h,,
"""


def tick(cloud, after, vcpu, memory=0.0, egress=0.0):
    return PriceTick(
        cloud=CloudName(cloud),
        at=START + after,
        dollars_per_vcpu_hour=vcpu,
        dollars_per_gib_hour=memory,
        egress_dollars_per_gb=egress,
    )


NOW, HALF_AN_HOUR, HOUR = timedelta(), timedelta(minutes=30), timedelta(hours=1)
TICKS = (
    tick("a", NOW, 0.04, 0.005, 0.09),
    tick("b", NOW, 0.05),
    tick("b", HALF_AN_HOUR, 0.01),
    tick("a", HOUR, 0.4),
)


NEARER = (
    "prices:\n  - {cloud: a, at: 0s, vcpu: 1/h, egress: 0.09/GB, egress_within_region: 0/GB, "
    "egress_within_provider: 0.02/GB}\n"
)
NEARER_CSV = """\
cloud,at,vcpu,egress,egress_within_region,egress_within_provider
a,0s,1/h,0.09/GB,0/GB,0.02/GB
"""


@pytest.fixture
def load(tmp_path):
    def loaded(text, name):
        path = tmp_path / name
        path.write_text(text, newline="")
        return load_prices(path)

    return loaded


@pytest.mark.parametrize(
    ("text", "name"),
    [(YAML, "p.yaml"), (CSV, "p.csv"), (CSV.replace("\n", "\r\n"), "P.CSV")],
    ids=["yaml", "csv", "csv from Windows"],
)
class TestSchedule:
    def test_both_spellings_mean_the_same(self, load, text, name):
        assert load(text, name).ticks_between(START, START - HOUR, START + HOUR) == TICKS

    def test_consecutive_looks_see_each_price_once(self, load, text, name):
        schedule = load(text, name)
        looks = [START - HOUR, START, START + HALF_AN_HOUR, START + HOUR, START + 2 * HOUR]
        seen = [schedule.ticks_between(START, since, until) for since, until in pairwise(looks)]
        assert sum(seen, start=()) == TICKS
        assert [len(ticks) for ticks in seen] == [2, 1, 1, 0]


@pytest.mark.parametrize(
    ("text", "name"), [(NEARER, "p.yaml"), (NEARER_CSV, "p.csv")], ids=("yaml", "csv")
)
def test_egress_within_a_region_and_a_provider_has_prices_of_its_own(load, text, name):
    (found,) = load(text, name).ticks_between(START, START - HOUR, START)
    assert found.egress_dollars_per_gb == 0.09
    assert found.egress_within_region_dollars_per_gb == 0.0
    assert found.egress_within_provider_dollars_per_gb == 0.02


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        (
            "p.yaml",
            "prices:\n  - {cloud: a, at: 0s, vcpu: 1/h, egress_within_region: 0.01}",
            "2:57: prices[0].egress_within_region: 0.01 has no unit; write a price per gigabyte",
        ),
        ("p.yaml", "prices: []", "1:9: prices has 0 entries"),
        ("p.yaml", "prices:\n  - {at: 0s, vcpu: 1/h}", "2:5: prices[0] lacks cloud; add it: the"),
        (
            "p.yaml",
            "prices:\n  - {cloud: a, at: 5, vcpu: 1/h}",
            "2:20: prices[0].at: 5 has no unit; write a duration with one",
        ),
        (
            "p.yaml",
            "prices:\n  - {cloud: a, at: 2030-01-01T10:00, vcpu: 1/h}",
            "2:20: prices[0].at: 2030-01-01T10:00 has no time zone",
        ),
        (
            "p.yaml",
            "prices:\n  - {cloud: a, at: 0s, vcpu: 1/h}\n  - {cloud: a, at: 0s, vcpu: 2/h}",
            "3:5: line 2 has a price of a at 0s too; keep one",
        ),
        ("p.csv", "\n", "1:1: the file is empty; begin it with cloud,at,vcpu,memory,egress"),
        ("p.csv", "cloud,at,price\na,0s,1/h", "1:10: 'price' is no new column; write cloud,at"),
        ("p.csv", "cloud,at,cloud\na,0s,1/h", "1:10: 'cloud' is no new column; write cloud,at"),
        ("p.csv", "cloud,at,vcpu\n", "1:1: prices has 0 entries"),
        ("p.csv", "cloud,at,vcpu\n\na, 0s, 1", "3:8: prices[0].vcpu: 1 has no unit"),
        ("p.csv", "cloud,at,vcpu\na,0s", "2:1: prices[0] lacks vcpu"),
        ("p.csv", "cloud,at,vcpu\na,0s,1/h,1/h", "2:10: 4 cells under 3 columns; remove those"),
        ("p.csv", "cloud,at,vcpu\na,-5m,1/h", "2:3: prices[0].at: -5m is negative"),
    ],
    ids=lambda text: text.replace("\n", " ")[:40],
)
def test_a_mistake_says_where_what_and_what_to_do(load, tmp_path, name, text, found):
    with pytest.raises(InvalidFile) as refused:
        load(text, name)
    (mistake,) = refused.value.mistakes
    assert str(mistake).startswith(f"{tmp_path / name}:{found}")


def test_all_mistakes_of_a_table_come_at_once(load):
    with pytest.raises(InvalidFile) as refused:
        load("cloud,at,vcpu\na,0,1/h\n,0s,1/d\n", "p.csv")
    assert [(m.line, m.column) for m in refused.value.mistakes] == [(2, 3), (3, 1), (3, 5)]


@given(st.text(alphabet=st.sampled_from('cloudatvpu,"\n\r 0s1/h-T:Z.é\x85')) | st.text())
def test_any_table_is_a_schedule_or_an_invalid_file(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(b"cloud,at,vcpu\n" + text.encode())
    try:
        found = load_prices(path)
    except InvalidFile as refused:
        assert all(m.line >= 1 for m in refused.mistakes)  # noqa: PT017
    else:
        assert found.rows


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=8, unique=True),
    st.lists(st.integers(-1, 25), min_size=2, max_size=8).map(sorted),
)
def test_no_price_is_lost_between_looks(offsets, looks):
    schedule = PriceSchedule(
        rows=tuple(
            PriceRow.model_validate({"cloud": "a", "at": f"{s}s", "vcpu": "1/h"}) for s in offsets
        )
    )
    instants = [START + timedelta(seconds=s) for s in looks]
    seen = [
        t
        for since, until in pairwise(instants)
        for t in schedule.ticks_between(START, since, until)
    ]
    assert tuple(seen) == schedule.ticks_between(START, instants[0], instants[-1])


ROWS = [
    {"cloud": "a", "at": "0s", "vcpu": "0.04/h", "memory": "0.005/GiB/h", "egress": "0.09/GB"},
    {"cloud": "b", "at": "2030-01-01T00:30Z", "vcpu": "0.01/h"},
]


@contextmanager
def server(respond):
    """Serve a function of the handler on a free port of the loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            respond(self)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}/prices"
        finally:
            listening.shutdown()
            thread.join()


def answering(body, status=200):
    def respond(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return respond


@pytest.fixture(autouse=True)
def without_a_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class TestFeed:
    async def test_the_rows_of_an_answer_count_from_now(self):
        with server(answering(json.dumps(ROWS).encode())) as url:
            found = await HttpPriceFeed(url).fetch(START + HALF_AN_HOUR)
        assert found == (tick("a", HALF_AN_HOUR, 0.04, 0.005, 0.09), TICKS[2])

    async def test_of_several_rows_of_a_cloud_the_one_in_force_is_told(self):
        """A market's history comes newest first, and what begins in an hour is asked in an hour."""
        rows = [
            {"cloud": "a", "at": "1h", "vcpu": "9/h"},
            {"cloud": "a", "at": "2029-12-31T23:50Z", "vcpu": "0.4/h"},
            {"cloud": "a", "at": "2029-12-31T12:00Z", "vcpu": "0.1/h"},
            {"cloud": "b", "at": "1h", "vcpu": "0.1/h"},
            {"cloud": "c", "at": "2s", "vcpu": "0.2/h"},
        ]
        with server(answering(json.dumps(rows).encode())) as url:
            found = await HttpPriceFeed(url).fetch(START)
        asked = {each.cloud: each.dollars_per_vcpu_hour for each in found}
        assert asked == {"a": 0.4, "c": 0.2}
        assert len(found) == 2

    @pytest.mark.parametrize(
        ("respond", "said"),
        [
            (answering(b"[]", 503), "503"),
            (answering(b"<html>"), "the answer: Invalid JSON"),
            (answering(b"[" * 4000), "the answer: Invalid JSON"),
            (answering(b'{"prices": []}'), "the answer: Input should be"),
            (
                answering(b'[{"cloud": "a", "at": "0s", "vcpu": 0.04}]'),
                r"\[0\]\[vcpu\]: .* has no unit",
            ),
            (answering(b'[{"cloud": "a", "at": "0s"}]'), r"\[0\]\[vcpu\]: Field required"),
            (answering(b" " * 5000), "larger than 4096 bytes"),
            (lambda handler: handler.wfile.write(b"what?\r\n"), "what"),
            (lambda handler: None, "."),
        ],
        ids=[
            "503",
            "html",
            "deep",
            "object",
            "no unit",
            "missing",
            "large",
            "not HTTP",
            "hangs up",
        ],
    )
    async def test_a_bad_answer_is_temporary_and_says_what_was_seen(self, respond, said):
        with server(respond) as url:
            with pytest.raises(TemporaryError, match=said) as failure:
                await HttpPriceFeed(url, max_bytes=4096).fetch(START)
        assert str(failure.value).startswith(f"price feed {url}: ")

    async def test_a_server_that_drips_is_left(self):
        left = threading.Event()

        def drip(handler):
            handler.send_response(200)
            handler.end_headers()
            while not left.wait(0.01):
                try:
                    handler.wfile.write(b" ")
                except OSError:
                    return

        with server(drip) as url:
            with pytest.raises(TemporaryError, match="takes too long"):
                await HttpPriceFeed(url, timeout_seconds=0.1).fetch(START)
            left.set()

    async def test_a_silent_server_is_left(self):
        left = threading.Event()
        with server(lambda handler: left.wait()) as url:
            with pytest.raises(TemporaryError, match="timed out"):
                await HttpPriceFeed(url, timeout_seconds=0.1).fetch(START)
            left.set()

    async def test_nobody_there_is_temporary(self):
        with server(answering(b"[]")) as url:
            pass
        with pytest.raises(TemporaryError, match="refused"):
            await HttpPriceFeed(url).fetch(START)
