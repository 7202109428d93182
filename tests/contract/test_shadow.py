"""A real daemon records what it sees, and compares policies in the shadow of those in force."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from redis.asyncio import Redis
from structlog.testing import capture_logs

from tests.contract.daemon_stage import (
    CHEAP,
    DEAR,
    ONE_SERVER,
    VMS,
    A,
    B,
    Stage,
    hurry,
    notice,
    set_stage,
    told,
    until,
)
from transhume.cli import group
from transhume.cli.trace_files import load_trace
from transhume.daemon import recording, shadowing
from transhume.daemon.composition import now
from transhume.daemon.recorded_folders import in_force, latest_trace
from transhume.daemon.recording import Recording
from transhume.daemon.shadowing import Shadows
from transhume.daemon.trace_writing import Pace
from transhume.deployment.model import ShadowSettings
from transhume.knowledge.codec import encode
from transhume.knowledge.model import CloudName, PlanStatus, PriceTick
from transhume.knowledge.records import ShadowStatus
from transhume.knowledge.server import ServerAddress
from transhume.knowledge.store import Store
from transhume.policies.book import PolicyBook
from transhume.policies.loader import load_policies
from transhume.replaying import Alternative, compare

pytestmark = ONE_SERVER

NEVER = """\
policy: never
mode: auto
elective: {budget: [{moves: 0, per: 1d}]}
"""
EAGER = """\
policy: eager
mode: recommend
price: {payback: 6h}
elective: {min_gain: 1%, hold: 0s, cooldown: 1h}
rules:
  - any_of: {vm: vm4, clouds: [b]}
"""
WRONG = "policy: wrong\nmode: automatic\n"


@dataclass
class AdvancedClock:
    """The time, and what the test has let pass at once."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return now() + self.ahead


@dataclass
class Shaded:
    """A stage whose daemon records and compares, and what is there to compare."""

    stage: Stage
    clock: AdvancedClock
    folder: Path
    files: dict[str, Path]

    async def price(self, cloud: CloudName, dollars: float) -> datetime:
        tick = PriceTick(
            cloud=cloud,
            at=self.clock(),
            dollars_per_vcpu_hour=dollars,
            dollars_per_gib_hour=0.005,
            egress_dollars_per_gb=0.09,
        )
        await self.stage.store.put_price(tick)
        return tick.at

    async def compared(self, past: datetime) -> ShadowStatus:
        """Wait for a comparison of what was seen until after an instant."""

        async def there() -> ShadowStatus | None:
            status = await self.stage.store.shadow()
            if status is None or not status.report:
                return None
            end = datetime.fromisoformat(json.loads(status.report)["end"])
            return status if end > past else None

        return await until(there, "a comparison", seconds=180)

    async def pass_time(self, hours: float) -> None:
        """Let hours pass, and the daemon look before and after."""
        await asyncio.sleep(0.5)
        self.clock.ahead += timedelta(hours=hours)
        await asyncio.sleep(0.5)

    @asynccontextmanager
    async def at_work(self, *names: str) -> AsyncIterator[None]:
        settings = ShadowSettings(
            policies=tuple(self.files[name] for name in names), every_seconds=0.2
        )

        def asides(book: PolicyBook) -> tuple[Recording, Shadows]:
            recorder = Recording(
                self.folder, lambda: book.sources, at_most_bytes=1 << 20, pace=Pace()
            )
            return recorder, Shadows(settings, recorder, self.clock)

        self.stage.asides = asides
        async with self.stage.daemon():
            yield


@pytest.fixture
async def shaded(client: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shaded:
    hurry(monkeypatch)
    monkeypatch.setattr(recording, "LONELY_SECONDS", 0.2)
    monkeypatch.setattr(shadowing, "LOOK_SECONDS", 0.05)
    clock = AdvancedClock()
    stage = await set_stage(Store(client, clock=clock), tmp_path)
    files = {}
    for name, text in (("never", NEVER), ("eager", EAGER), ("wrong", WRONG)):
        files[name] = tmp_path / f"{name}.yaml"
        files[name].write_text(text)
    shade = Shaded(stage, clock, tmp_path / "recorded", files)
    for cloud in (A, B):
        await shade.price(cloud, CHEAP)
    return shade


def transhume(*words: object) -> Result:
    return CliRunner().invoke(group, [str(word) for word in words])


def names(report: str) -> list[str]:
    return [run["name"] for run in json.loads(report)["runs"]]


@pytest.fixture
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have comparisons give way to nobody: on a busy machine they'd wait for as long as it is."""
    monkeypatch.setattr(shadowing, "IDLE", 0)


@pytest.mark.usefixtures("in_haste")
async def test_the_shadow_is_what_a_replay_of_the_recording_is(
    shaded: Shaded, server: ServerAddress
) -> None:
    async with shaded.at_work("never", "eager"):
        await shaded.stage.calm()
        dear = await shaded.price(A, DEAR)
        await shaded.pass_time(hours=3)
        status = await shaded.compared(dear + timedelta(hours=2))
        shown = await asyncio.to_thread(transhume, "shadow", "--json", "--url", server.url)
        assert shown.exit_code == 0, shown.output
        assert names(shown.stdout) == ["stay", "in-force", "never", "eager"]
        seen = await asyncio.to_thread(transhume, "shadow", "--url", server.url)
        assert seen.stdout.splitlines()[0].endswith(status.trace)
        assert "4 VMs in 2 clouds" in seen.stdout

    trace = latest_trace(shaded.folder)
    assert trace is not None
    ours = in_force(trace)
    assert ours is not None
    others = [word for name in ("never", "eager") for word in ("--policy", shaded.files[name])]
    for traces in (trace, shaded.folder):
        shadow = await asyncio.to_thread(transhume, "shadow", *others, "--traces", traces, "--json")
        replay = await asyncio.to_thread(
            transhume, "replay", "--policy", ours, *others, "--traces", traces, "--json"
        )
        assert (shadow.exit_code, replay.exit_code) == (0, 0), shadow.output + replay.output
        assert shadow.stdout == replay.stdout
    runs: dict[str, Any] = {run["name"]: run for run in json.loads(shadow.stdout)["runs"]}
    assert runs["in-force"]["elective_moves"] == 2, "as the daemon itself did"
    assert runs["never"]["moves"] == []
    assert runs["never"]["violation_seconds"]["eager: rule 1 (any_of)"] > 0
    assert runs["in-force"]["paid_dollars"] < runs["stay"]["paid_dollars"]

    published = json.loads(status.report)
    assert published["learnt_from"] <= json.loads(shadow.stdout)["learnt_from"]
    whole = load_trace(trace)
    end = datetime.fromisoformat(published["end"])
    known = whole.outcomes[len(whole.outcomes) - published["learnt_from"] :]
    again = compare(
        replace(whole, end=end, outcomes=known),
        [
            Alternative(name="in-force", policies=load_policies([ours])),
            *(
                Alternative(name=name, policies=load_policies([shaded.files[name]]))
                for name in ("never", "eager")
            ),
        ],
    )
    assert json.loads(encode(again)) == published, "what the daemon said is what was recorded"


@pytest.mark.usefixtures("in_haste")
async def test_a_wrong_shadow_is_refused_with_its_line_and_touches_nothing(
    shaded: Shaded,
) -> None:
    wrong = f"{shaded.files['wrong']}:2:7"
    with capture_logs() as logs:
        async with shaded.at_work("wrong", "never"):
            await shaded.stage.calm()
            seen = shaded.clock()
            await shaded.pass_time(hours=1)
            status = await shaded.compared(seen)
            assert names(status.report) == ["stay", "in-force", "never"]
            assert [mistake.startswith(wrong) for mistake in status.refused] == [True]
            policies = await shaded.stage.store.policies()
            assert policies is not None
            assert [each.name for each in policies.in_force] == ["cheap-but-together"]
            assert policies.rejected == ()

            shaded.files["wrong"].write_text(EAGER)

            async def mended() -> bool | None:
                status = await shaded.stage.store.shadow()
                assert status is not None
                return True if not status.refused and "eager" in names(status.report) else None

            await until(mended, "the mended policy to be compared", seconds=180)
    assert told(logs, "shadow_refused") == 1, "told once"


async def test_a_comparison_that_takes_too_long_is_given_up(
    shaded: Shaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ShadowSettings(
        policies=(shaded.files["never"],), every_seconds=0.1, at_most_seconds=0.01
    )

    def asides(book: PolicyBook) -> tuple[Recording, Shadows]:
        recorder = Recording(shaded.folder, lambda: book.sources, at_most_bytes=1 << 20)
        return recorder, Shadows(settings, recorder, shaded.clock)

    shaded.stage.asides = asides

    async def given_up() -> ShadowStatus | None:
        status = await shaded.stage.store.shadow()
        return status if status is not None and status.why else None

    async with shaded.stage.daemon():
        status = await until(given_up, "the daemon to give up", seconds=60)
    assert "longer than" in status.why
    assert status.report == ""


async def test_notices_and_moves_are_in_the_recording(shaded: Shaded) -> None:
    async with shaded.at_work("never"):
        await shaded.stage.calm()
        await shaded.stage.store.put_notice(notice())

        async def evacuated() -> bool | None:
            trace = latest_trace(shaded.folder)
            lines = (trace / "outcomes.jsonl").read_text().count("\n") if trace else 0
            return True if lines >= len(VMS) - 1 else None

        await until(evacuated, "the moves to be recorded")
    trace = load_trace(shaded.folder)
    assert trace.at_start().vms.keys() == set(VMS)
    assert trace.outcomes[0].ended_at >= trace.outcomes[-1].ended_at
    assert next(found.notices[0].cloud for _, found in trace.batches() if found.notices) == A


async def test_a_recording_that_cannot_be_written_disturbs_nobody(shaded: Shaded) -> None:
    shaded.folder.write_text("no folder")
    with capture_logs() as logs:
        async with shaded.at_work("never"):
            await shaded.stage.calm()
            await shaded.price(A, DEAR)
            await shaded.stage.plan(PlanStatus.DONE)
    assert told(logs, "chore_failed") == 1


def idle_children() -> set[int]:
    """Return the processes of ours that give way to everybody."""
    ours = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    found = set()
    for pid in map(int, ours):
        with suppress(ProcessLookupError):  # it has just ended
            if os.getpriority(os.PRIO_PROCESS, pid) == shadowing.IDLE:
                found.add(pid)
    return found


async def test_a_comparison_gives_way_to_all_and_ends_with_the_daemon(shaded: Shaded) -> None:
    before = idle_children()

    async def begun() -> set[int] | None:
        return idle_children() - before or None

    async with shaded.at_work("never"):
        await until(begun, "a comparison to begin", seconds=60)
    assert idle_children() <= before
