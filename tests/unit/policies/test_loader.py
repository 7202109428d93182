"""Policy files: what they mean, and what is said about mistakes in them."""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transhume.errors import InvalidFile
from transhume.knowledge.model import CloudName, ClusterName, JobName
from transhume.located_yaml import json_schema
from transhume.policies.calendar import Hours, Weekday
from transhume.policies.loader import load_policies, load_policy, parse_policy
from transhume.policies.model import (
    EVERYTHING,
    AnyOf,
    AvailabilityGoal,
    DeadlineGoal,
    ElectiveLimits,
    Expectation,
    Forbid,
    Hold,
    KeepTogether,
    LatencyGoal,
    Mode,
    MoveBudget,
    Ordered,
    Pin,
    Policy,
    PriceGoal,
    Quota,
    Selector,
    Spread,
    Together,
)
from transhume.policies.schema import PolicySchema

EXAMPLES = sorted((Path(__file__).parents[3] / "policies").glob("*.yaml"))

WHOLE = """\
policy: cheap-but-on-time
applies_to: {cluster: blast}
mode: recommend
rules:
  - spread:   {tag: hdfs-dn, over: cloud, min: 2, hold: always}
  - together: {tag: db}
  - pin:      {vm: licence-server, cloud: campus}
  - forbid:   {tag: gdpr, clouds: [rented-us]}
  - quota:    {cloud: campus, vms: 40}
  - any_of:   {cluster: blast, clouds: [campus, rented-us]}
  - ordered:  {tag: web, clouds: [campus, rented-us], worth: 0.25/h}
keep_together: {measured: true, cut_above: 20MB/s}
price:        {budget: 12.0/h, payback: 45m}
latency:      {worth: 0.001/GB/ms}
availability: {prefer: [campus], evacuate_on_notice: true}
deadline:     {at: 2030-01-01T18:00Z, work: 48h, changeover: measured, progress: {redis: app:done}}
elective:     {min_gain: 5%, hold: 10m, cooldown: 6h, budget: [{moves: 10, per: 1h}]}
after:        {expect: [price, cut], within: 15m, else: undo}
"""

TEN_MISTAKES = """\
policy: ten-mistakes
mode: automatic
rules:
  - spread: {tag: web, min: 0}
  - pin: {vm: licence-server, cloud: campus}
  - pin: {vm: licence-server, cloud: rented}
  - forbid: {tag: gdpr}
  - together: {tag: no}
price: {budget: 12.0/day}
elective:
  cooldwon: 6h
  hold: -10m
keep_together: {cut_above: 20Mb/s}
price: {budget: 1.0/h}
"""


def parse(text):
    return parse_policy(text.encode(), "p.yaml").policy


def mistakes(text):
    with pytest.raises(InvalidFile) as refused:
        parse(text)
    return [str(mistake) for mistake in refused.value.mistakes]


def test_a_whole_policy_means_what_it_says():
    assert parse(WHOLE) == Policy(
        name="cheap-but-on-time",
        source="p.yaml",
        applies_to=Selector(clusters=(ClusterName("blast"),)),
        mode=Mode.RECOMMEND,
        rules=(
            Spread(who=Selector(tags=("hdfs-dn",)), minimum=2, hold=Hold.ALWAYS),
            Together(who=Selector(tags=("db",))),
            Pin(who=Selector(vms=("licence-server",)), cloud=CloudName("campus")),
            Forbid(who=Selector(tags=("gdpr",)), clouds=(CloudName("rented-us"),)),
            Quota(cloud=CloudName("campus"), vms=40),
            AnyOf(
                who=Selector(clusters=(ClusterName("blast"),)),
                clouds=(CloudName("campus"), CloudName("rented-us")),
            ),
            Ordered(
                who=Selector(tags=("web",)),
                clouds=(CloudName("campus"), CloudName("rented-us")),
                worth_dollars_per_hour=0.25,
            ),
        ),
        keep_together=KeepTogether(cut_above_bytes_per_second=20e6),
        price=PriceGoal(budget_dollars_per_hour=12.0, payback_seconds=2700.0),
        latency=LatencyGoal(dollars_per_gb_ms=0.001),
        availability=AvailabilityGoal(prefer=(CloudName("campus"),), evacuate_on_notice=True),
        deadline=DeadlineGoal(
            at=datetime(2030, 1, 1, 18, tzinfo=UTC),
            work_seconds=172800.0,
            progress_job=JobName("app:done"),
        ),
        elective=ElectiveLimits(
            min_gain=0.05,
            hold_seconds=600.0,
            cooldown_seconds=21600.0,
            budgets=(MoveBudget(moves=10, per_seconds=3600.0),),
        ),
        after=Expectation(expect=("price", "cut"), within_seconds=900.0),
    )


def test_what_is_left_out_is_as_the_model_has_it():
    assert parse("policy: p") == Policy(name="p", source="p.yaml")
    assert parse("policy: p\nelective: {}").elective == ElectiveLimits()
    assert parse("policy: p\navailability: {}").availability == AvailabilityGoal()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{}", EVERYTHING),
        ("{vm: a}", Selector(vms=("a",))),
        ("{vm: a, vms: [b-*, a]}", Selector(vms=("a", "b-*"))),
        ("{tags: [t, u]}", Selector(tags=("t", "u"))),
        (
            "{clusters: [c], tag: t}",
            Selector(tags=("t",), clusters=(ClusterName("c"),)),
        ),
    ],
)
def test_selectors_add_up(written, meant):
    assert parse(f"policy: p\napplies_to: {written}").applies_to == meant


def test_a_list_that_selects_nothing_does_not_select_everything():
    (found,) = mistakes("policy: p\nrules:\n  - pin: {tags: [], cloud: a}")
    assert found == "p.yaml:3:17: rules[0].pin.tags has 0 entries; it must have at least 1"


@pytest.mark.parametrize(
    ("written", "meant"), [("measured", None), ("12m", 720.0), ("0s", 0.0)], ids=str
)
def test_a_changeover_is_measured_or_written(written, meant):
    policy = parse(
        f"policy: p\ndeadline: {{at: 2030-01-01T18:00Z, work: 1h, changeover: {written}}}"
    )
    assert policy.deadline is not None
    assert policy.deadline.changeover_seconds == meant


def test_a_budget_by_the_calendar_is_hours_of_the_week():
    (budget,) = parse(
        "policy: p\nelective: {budget: [{moves: 0, between: ['22:00', '06:00'], "
        "days: [fri, mon], timezone: Europe/Rome, bytes: 20GB, dollars: 1}]}"
    ).elective.budgets
    assert budget == MoveBudget(
        moves=0,
        bytes=20_000_000_000,
        dollars=1.0,
        hours=Hours(
            begins_minute=1320,
            ends_minute=360,
            days=(Weekday.MON, Weekday.FRI),
            timezone=ZoneInfo("Europe/Rome"),
        ),
    )


def test_groups_that_are_not_to_be_measured_are_not_kept_together():
    assert (
        parse("policy: p\nkeep_together: {measured: false, cut_above: 1MB/s}").keep_together is None
    )


def test_ten_mistakes_are_ten_messages_each_in_its_place():
    found = [line.partition(": ") for line in mistakes(TEN_MISTAKES)]
    assert [place for place, _, _ in found] == [
        "p.yaml:2:7",
        "p.yaml:4:29",
        "p.yaml:6:5",
        "p.yaml:7:5",
        "p.yaml:8:21",
        "p.yaml:9:17",
        "p.yaml:11:3",
        "p.yaml:12:9",
        "p.yaml:13:28",
        "p.yaml:14:1",
    ]
    said = [message for _, _, message in found]
    for message, part in zip(
        said,
        [
            "did you mean auto?",
            "rules[0].spread.min is 0; it must be at least 2",
            "rules[2] contradicts the rule in line 5",
            "rules[3].forbid lacks clouds; add it: the clouds that they never enter",
            "'no' in quotes",
            "12.0/day is not a price per hour; write it as in 12.0/h",
            "unknown key elective.cooldwon; did you mean cooldown?",
            "-10m is negative",
            "bits or bytes",
            "price is here twice (first in line 9)",
        ],
        strict=True,
    ):
        assert part in message


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "mode: auto",
            "p.yaml:1:1: the file lacks policy; add it: the policy's name, unique among",
        ),
        ("policy: 12", "p.yaml:1:9: policy is 12; it must be a text: quote it, as '12'"),
        ("policy: ''", "p.yaml:1:9: policy: '' is no name"),
        ("policy: p\nprice: {}", "p.yaml:2:8: price: nothing is said; write budget, payback or"),
        (
            "policy: p\nlatency: {worth: 0.1/h}",
            "p.yaml:2:18: latency.worth: 0.1/h is not a worth of a millisecond; write it as in 0.001/GB/ms",
        ),
        ("policy: p\nprice: {payback: 0s}", "p.yaml:2:18: price.payback: 0 is too short"),
        (
            "policy: p\nrules:\n  - {}",
            "p.yaml:3:5: rules[0]: no rule; begin each rule with its own",
        ),
        (
            "policy: p\nrules:\n  - pin: {vm: a, cloud: b}\n    together: {vm: a}",
            "p.yaml:3:5: rules[0]: pin and together in one entry; begin each rule",
        ),
        (
            "policy: p\nrules:\n  - pin:",
            "p.yaml:3:5: pin has no value; write one, or remove the key",
        ),
        (
            "policy: p\ndeadline: {at: 2030-01-01T18:00, work: 1h}",
            "p.yaml:2:16: deadline.at: 2030-01-01T18:00 has no time zone",
        ),
        (
            "policy: p\ndeadline: {at: 2030-01-01T18:00Z, work: 1h, changeover: mesured}",
            "p.yaml:2:57: deadline.changeover: mesured is not a duration",
        ),
        (
            "policy: p\ndeadline: {at: 2030-01-01T18:00Z, work: 1h, progress: {redis: a, job: b}}",
            "p.yaml:2:55: deadline.progress: write either redis or job",
        ),
        (
            "policy: p\nrules:\n  - ordered: {vm: a, clouds: [b, c, b]}",
            "p.yaml:3:30: rules[0].ordered.clouds: b is here twice; keep the place",
        ),
        (
            "policy: p\nelective: {budget: [{moves: 0, between: [08:00, '18:00']}]}",
            "p.yaml:2:42: 08:00 is a number to base 60 to some readers of YAML; for a text quote it",
        ),
        (
            "policy: p\nelective: {budget: [{moves: 0, between: ['8:00', '18:00']}]}",
            "p.yaml:2:42: elective.budget[0].between[0]: 8:00 is no time of day; write it as in '08:00'",
        ),
        (
            "policy: p\nelective: {budget: [{moves: 0, between: ['18:00']}]}",
            "p.yaml:2:41: elective.budget[0].between has 1 entries; it must have at least 2",
        ),
        (
            "policy: p\nelective: {budget: [{moves: 0, between: ['18:00', '18:00']}]}",
            "p.yaml:2:21: elective.budget[0]: between is empty; for the whole day write",
        ),
        (
            "policy: p\nelective: {budget: [{moves: 0, per: 1h, between: ['08:00', '18:00']}]}",
            "p.yaml:2:21: elective.budget[0]: write either per (any stretch of time) or between",
        ),
        (
            "policy: p\nelective: {budget: [{per: 1h}]}",
            "p.yaml:2:21: elective.budget[0]: nothing is bounded; write moves, bytes or dollars",
        ),
        (
            "policy: p\nelective: {budget: [{moves: 1, per: 1h, days: [mon]}]}",
            "p.yaml:2:21: elective.budget[0]: days and timezone belong to between",
        ),
        (
            "policy: p\nelective: {budget: [{moves: 0, between: ['08:00', '18:00'], days: [mo]}]}",
            "p.yaml:2:68: elective.budget[0].days[0] is mo; did you mean mon?",
        ),
        (
            "policy: p\nelective: {budget: [{moves: 0, between: ['08:00', '18:00'], timezone: Rome}]}",
            "p.yaml:2:71: elective.budget[0].timezone: 'Rome' is no time zone that is known here",
        ),
        (
            "policy: p\nrules:\n  - any_of: {vm: a, clouds: []}",
            "p.yaml:3:29: rules[0].any_of.clouds has 0 entries; it must have at least 1",
        ),
        (
            "policy: p\nafter: {expect: [cut], within: 1h, else: redo}",
            "p.yaml:2:42: after.else is redo",
        ),
        (
            "policy: p\nafter: {expect: [cut], within: 1h, otherwise: undo}",
            "p.yaml:2:36: unknown key after.otherwise; known here: else, expect, within",
        ),
    ],
    ids=lambda text: text.replace("\n", " ")[10:60],
)
def test_a_mistake_says_where_what_and_what_to_do(text, found):
    (mistake,) = mistakes(text)
    assert mistake.startswith(found)


def test_a_deadline_in_the_past_is_a_warning_only():
    file = parse_policy(b"policy: p\ndeadline: {at: 2030-01-01T18:00Z, work: 1h}", "p.yaml")
    assert file.warnings(datetime(2029, 1, 1, tzinfo=UTC)) == ()
    (warning,) = file.warnings(datetime(2031, 1, 1, tzinfo=UTC))
    assert str(warning).startswith("p.yaml:2:16: deadline.at is in the past (2030-01-01T18:00Z)")
    assert "moves hold it up, and hardly any is made for money" in str(warning)


class TestFiles:
    def test_a_directory_stands_for_its_yaml_in_order(self, tmp_path):
        for name in ("b.yaml", "a.yaml"):
            (tmp_path / name).write_text(f"policy: {name[0]}")
        (tmp_path / "notes.txt").write_text("not a policy")
        (tmp_path / "single").write_text("policy: c")
        found = load_policies([tmp_path, tmp_path / "single", tmp_path / "a.yaml"])
        assert [policy.name for policy in found] == ["a", "b", "c"]

    def test_two_policies_of_one_name_are_a_mistake_in_the_second(self, tmp_path):
        (tmp_path / "a.yaml").write_text("policy: p")
        (tmp_path / "b.yaml").write_text("mode: auto\npolicy: p")
        with pytest.raises(InvalidFile) as refused:
            load_policies([tmp_path])
        (mistake,) = refused.value.mistakes
        assert str(mistake).startswith(f"{tmp_path / 'b.yaml'}:2:9: {tmp_path / 'a.yaml'} holds")

    def test_mistakes_of_all_files_come_at_once(self, tmp_path):
        (tmp_path / "a.yaml").write_text("policy: ''")
        (tmp_path / "b.yaml").write_text("policy: p\nmode: x")
        empty = tmp_path / "empty"
        empty.mkdir()
        with pytest.raises(InvalidFile) as refused:
            load_policies([tmp_path, empty, tmp_path / "missing.yaml"])
        assert len(refused.value.mistakes) == 4

    def test_one_file_is_one_policy(self, tmp_path):
        path = tmp_path / "p.yaml"
        path.write_text("policy: p")
        assert load_policy(path).source == str(path)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_valid_and_called_like_their_files(path):
    assert load_policy(path).name == path.stem


def test_the_examples_can_be_in_force_together():
    assert len(load_policies([EXAMPLES[0].parent])) == 3


def test_the_example_of_the_tutorial_acts_by_itself_on_every_vm():
    (path,) = (path for path in EXAMPLES if path.stem == "cheap-but-on-time")
    policy = load_policy(path)
    assert (policy.mode, policy.applies_to) == (Mode.AUTO, EVERYTHING)
    assert (policy.elective.min_gain, policy.elective.hold_seconds) == (0.05, 0.0)
    assert policy.keep_together is not None


def test_every_key_has_a_description():
    schema = json_schema(PolicySchema)
    for record in (schema, *schema["$defs"].values()):
        assert record["description"]
        for key, inner in record["properties"].items():
            assert inner.get("description"), key


@given(st.text())
def test_any_text_is_a_policy_or_an_invalid_file(text):
    assert_policy_or_invalid(text.encode())


@given(st.binary())
def test_any_bytes_are_a_policy_or_an_invalid_file(raw):
    assert_policy_or_invalid(raw)


SOURCES = [WHOLE, *(path.read_text("utf-8") for path in EXAMPLES)]
PIECES = st.sampled_from(
    [
        *"{}[]:,-#&*!|>'\"\n\t ~0\u00e9",
        "no",
        "12:30",
        "5%",
        "-1",
        "null",
        "<<",
        "{}",
        "[]",
        "a: b",
        "9" * 30,
    ]
)


@given(st.data())
def test_any_mutation_of_a_policy_is_a_policy_or_an_invalid_file(data):
    text = data.draw(st.sampled_from(SOURCES))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 12)))
        text = text[:start] + data.draw(PIECES) + text[end:]
    assert_policy_or_invalid(text.encode())


def assert_policy_or_invalid(raw):
    try:
        found = parse_policy(raw, "p.yaml").policy
    except InvalidFile as refused:
        told = refused.mistakes
    else:
        assert isinstance(found, Policy)
        return
    assert told
    assert all(m.line >= 1 and m.column >= 1 and m.message for m in told)
