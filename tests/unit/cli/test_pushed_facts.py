"""`transhume notice`, `progress` and `price`: what a person pushes into the knowledge of a running daemon."""

import asyncio
import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from transhume.cli import group
from transhume.errors import UsageError
from transhume.knowledge.model import CloudName, Snapshot
from transhume.knowledge.records import DaemonStatus
from transhume.knowledge.store import Store, utc_now

HOME = CloudName("home")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(group, arguments, catch_exceptions=False)


def known(url: str) -> Snapshot:
    async def read() -> Snapshot:
        async with Store.connect(url) as store:
            return await store.snapshot()

    return asyncio.run(read())


def test_a_notice_is_in_force_until_it_is_withdrawn(url: str) -> None:
    assert "away will be gone at" in run("notice", "away", "--in", "120s", "--url", url).output
    (notice,) = known(url).notices
    assert (notice.cloud, notice.host, notice.deadline - notice.at) == (
        "away",
        None,
        timedelta(seconds=120),
    )
    assert run("notice", "away", "--withdraw", "--url", url).output == "away stays\n"
    assert known(url).notices == ()


def test_a_notice_can_be_for_one_host(url: str) -> None:
    said = json.loads(
        run("notice", "away", "--in", "1h 30m", "--host", "a1", "--json", "--url", url).output
    )
    assert (said["cloud"], said["host"]) == ("away", "a1")
    assert [notice.host for notice in known(url).notices] == ["a1"]
    run("notice", "away", "--host", "a1", "--withdraw", "--url", url)


def test_a_notice_told_by_a_clock_that_is_behind_leaves_the_time_that_it_says(url: str) -> None:
    """Its deadline would be over for the daemon, which would pass over it."""
    ahead = utc_now() + timedelta(minutes=10)

    async def beat(at: datetime) -> None:
        async with Store.connect(url) as store:
            await store.put_status(
                DaemonStatus(pid=1, holder="h", mode="auto", started_at=at, at=at)
            )

    asyncio.run(beat(ahead))
    said = json.loads(run("notice", "away", "--in", "120s", "--json", "--url", url).output)
    assert datetime.fromisoformat(said["deadline"]) == ahead + timedelta(seconds=120)
    asyncio.run(beat(utc_now() - timedelta(days=1)))
    assert "away will be gone at" in run("notice", "away", "--in", "120s", "--url", url).output
    assert known(url).notices[0].deadline < utc_now() + timedelta(seconds=121)
    run("notice", "away", "--withdraw", "--url", url)


def test_what_is_not_withdrawn_is_told(url: str) -> None:
    """Of a cloud and of a host of it there may be notices, and each is withdrawn by itself."""
    run("notice", "away", "--in", "10m", "--host", "a1", "--url", url)
    told = run("notice", "away", "--withdraw", "--url", url)
    assert told.stdout == "away stays\n"
    assert "another notice is in force: a1 of away will be gone at" in told.stderr
    assert run("notice", "away", "--host", "a1", "--withdraw", "--url", url).stderr == ""


def test_progress_is_known(url: str) -> None:
    assert run("progress", "blast", "120/4000", "--url", url).output == "blast: 3.0% done\n"
    progress = known(url).progress["blast"]  # type: ignore[index]
    assert (progress.done, progress.total) == (120.0, 4000.0)


def test_what_a_price_does_not_say_stays_as_it_was(url: str) -> None:
    run("price", "home", "--vcpu", "0.05", "--memory", "0.005", "--egress", "0.09", "--url", url)
    said = run("price", "home", "--vcpu", "0.25", "--url", url).output
    assert said == "home: $0.25 for a vCPU and $0.005 for a GiB an hour, $0.09 for a GB out\n"
    tick = known(url).prices[HOME]
    assert (
        tick.dollars_per_vcpu_hour,
        tick.dollars_per_gib_hour,
        tick.egress_dollars_per_gb,
    ) == (0.25, 0.005, 0.09)


def test_a_price_says_what_traffic_costs_within_a_provider(url: str) -> None:
    prices = ("--egress-within-provider", "0.02", "--egress-within-region", "0.01")
    run("price", "home", "--vcpu", "0.05", "--memory", "0", "--egress", "0.09", "--url", url)
    said = run("price", "home", *prices, "--url", url).output
    assert said.endswith("$0.09 for a GB out, $0.02 within its provider, $0.01 within its region\n")
    run("price", "home", "--egress", "0.08", "--url", url)
    tick = known(url).prices[HOME]
    assert (
        tick.egress_dollars_per_gb,
        tick.egress_within_provider_dollars_per_gb,
        tick.egress_within_region_dollars_per_gb,
    ) == (0.08, 0.02, 0.01)


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        pytest.param("notice nowhere --in 5s", "away, home", id="no such cloud"),
        pytest.param("notice home --in 5s --host a1", "it has h1", id="no such host"),
        pytest.param("notice home", "--withdraw", id="neither"),
        pytest.param("notice home --in 5s --withdraw", "either", id="both"),
        pytest.param("notice home --in 0s", "--in: 0 is too little", id="gone already"),
        pytest.param("notice home --in soon", "--in: .*120s", id="no duration"),
        pytest.param("progress blast 3", "120/4000", id="no total"),
        pytest.param("progress blast 5/4", "120/4000", id="more than all"),
        pytest.param("progress blast 0/0", "120/4000", id="of nothing"),
        pytest.param("progress blast nan/1", "120/4000", id="no number"),
        pytest.param("progress blast 1/inf", "120/4000", id="without end"),
        pytest.param("price home", "at least one", id="no price"),
        pytest.param("price home --vcpu nan", "0 or more", id="price is no number"),
        pytest.param("price away --egress 0.09", "--vcpu", id="nothing to keep"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_written(url: str, arguments: str, remedy: str) -> None:
    before = known(url).version
    with pytest.raises(UsageError, match=remedy):
        run(*arguments.split(), "--url", url)
    assert known(url).version == before


def test_a_job_has_a_name(url: str) -> None:
    """Which a script may have left unset: `transhume progress "$JOB" 1/2`."""
    with pytest.raises(UsageError, match="without a name"):
        run("progress", "", "1/2", "--url", url)
    assert "" not in known(url).progress


def test_the_daemon_is_found_by_its_deployment_file(url: str, tmp_path: Path) -> None:
    state = Path(url.removeprefix("unix://")).parent.parent
    config = tmp_path / "transhume.yaml"
    config.write_text(f"clouds: {{home: {{}}}}\nknowledge: {{state_dir: {state}}}\n")
    run("progress", "render", "1/2", "--config", str(config))
    assert "render" in known(url).progress


def test_without_a_deployment_file_the_ways_to_name_one_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRANSHUME_CONFIG", raising=False)
    with pytest.raises(UsageError, match="TRANSHUME_CONFIG"):
        run("progress", "blast", "1/2")
