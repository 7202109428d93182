"""The YAML of a policy, as pydantic models: what may be written, and what each key means.

Only `loader` uses them: it turns them into the records of `model` at once. The JSON Schema for editors and
the reference page are generated from the descriptions here.
"""

from datetime import UTC, datetime, tzinfo
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from transhume.located_yaml import Quantity
from transhume.quantities import (
    parse_bytes,
    parse_dollars_per_gb_ms,
    parse_dollars_per_hour,
    parse_duration,
    parse_instant,
    parse_rate,
    parse_share,
    parse_time_of_day,
)

_MIDNIGHT = 24 * 60
"""The end of a day, in minutes."""


def _name(text: str) -> str:
    if not text or not text.isprintable() or text != text.strip():
        raise ValueError(f"{text!r} is no name; write one or more printable characters")
    return text


def _more_than_nothing(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("0 is too short; write more than 0s")
    return seconds


def _each_once(names: list[str]) -> list[str]:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is here twice; keep the place that is meant")
    return names


def _timezone(text: str) -> tzinfo:
    try:
        return UTC if text == "UTC" else ZoneInfo(text)
    except (LookupError, ValueError, OSError) as error:
        raise ValueError(
            f"{text!r} is no time zone that is known here; write one such as Europe/Rome or UTC "
            "(if that is one, install tzdata)"
        ) from error


def _changeover(text: str) -> float | None:
    if text == "measured":
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ValueError(f"{error}; or write measured") from error


Name = Annotated[str, AfterValidator(_name)]
Names = Annotated[list[Name], Field(min_length=1)]
Duration = Annotated[float, Quantity(parse_duration, "45m")]
Stretch = Annotated[Duration, AfterValidator(_more_than_nothing)]
Rate = Annotated[float, Quantity(parse_rate, "20MB/s")]
DollarsPerHour = Annotated[float, Quantity(parse_dollars_per_hour, "12.0/h")]
DollarsPerGbMs = Annotated[float, Quantity(parse_dollars_per_gb_ms, "0.001/GB/ms")]
Share = Annotated[float, Quantity(parse_share, "5%")]
Instant = Annotated[datetime, Quantity(parse_instant, "2030-01-01T18:00Z")]
Bytes = Annotated[int, Quantity(parse_bytes, "20GB")]
TimeOfDay = Annotated[int, Quantity(parse_time_of_day, "08:00")]
DayName = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Timezone = Annotated[tzinfo, Quantity(_timezone, "Europe/Rome")]
Changeover = Annotated[float | None, Quantity(_changeover, "measured")]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SelectorSchema(_Record):
    """Which VMs are meant: all that match any of these keys."""

    model_config = ConfigDict(title="Selector")

    vm: Name | None = Field(
        default=None, description="one VM by name, or several by pattern: `web-*`"
    )
    vms: Names | None = Field(default=None, description="several VMs, by names or patterns")
    tag: Name | None = Field(default=None, description="the VMs with this tag")
    tags: Names | None = Field(default=None, description="the VMs with any of these tags")
    cluster: Name | None = Field(default=None, description="the VMs of this virtual cluster")
    clusters: Names | None = Field(
        default=None, description="the VMs of any of these virtual clusters"
    )


class SpreadSchema(SelectorSchema):
    """The selected VMs are in at least `min` clouds, so that no single cloud takes them all down."""

    model_config = ConfigDict(title="Rule spread")

    over: Literal["cloud"] = Field(default="cloud", description="what the VMs are spread over")
    min: int = Field(ge=2, description="in how many clouds they are, at least")
    hold: Literal["at-end", "always"] = Field(
        default="at-end",
        description="when it has to be true: when a plan has ended, or at every instant of it",
    )


class TogetherSchema(SelectorSchema):
    """The selected VMs are all in one cloud, whichever."""

    model_config = ConfigDict(title="Rule together")


class PinSchema(SelectorSchema):
    """The selected VMs are in one cloud and nowhere else."""

    model_config = ConfigDict(title="Rule pin")

    cloud: Name = Field(description="the cloud that they stay in")


class ForbidSchema(SelectorSchema):
    """The selected VMs are in none of these clouds."""

    model_config = ConfigDict(title="Rule forbid")

    clouds: Names = Field(description="the clouds that they never enter")
    hold: Literal["at-end", "always"] = Field(
        default="always",
        description="when it has to be true: when a plan has ended, or at every instant of it",
    )


class QuotaSchema(_Record):
    """At most so many of the policy's VMs are in a cloud."""

    model_config = ConfigDict(title="Rule quota")

    cloud: Name = Field(description="the cloud")
    vms: int = Field(ge=0, description="how many of the policy's VMs may be there")


class AnyOfSchema(SelectorSchema):
    """The selected VMs are in some of these clouds and nowhere else."""

    model_config = ConfigDict(title="Rule any_of")

    clouds: Names = Field(description="the clouds that they may be in")


class OrderedSchema(SelectorSchema):
    """The selected VMs are in the first of these clouds that has room, as far as that is worth its price."""

    model_config = ConfigDict(title="Rule ordered")

    clouds: Annotated[Names, AfterValidator(_each_once)] = Field(
        description="the clouds, the best first; a cloud that isn't listed comes last"
    )
    worth: DollarsPerHour = Field(
        default="0.10/h",
        validate_default=True,
        description="what being one place further down weighs, for each VM",
    )


class PythonSchema(BaseModel):
    """A rule that an installed Python package brings. All keys but the name are the rule's own."""

    model_config = ConfigDict(title="Rule python", extra="allow", strict=True, frozen=True)

    name: Name = Field(
        description="the rule's entry point in the group `transhume.policies`; all other keys are "
        "handed to it"
    )


class RuleSchema(_Record):
    """One rule, by its kind. A broken rule is mended by mandatory moves, whatever they cost."""

    model_config = ConfigDict(
        title="Rule", json_schema_extra={"minProperties": 1, "maxProperties": 1}
    )

    spread: SpreadSchema | None = Field(default=None, description="be in several clouds")
    together: TogetherSchema | None = Field(default=None, description="be in one cloud")
    pin: PinSchema | None = Field(default=None, description="be in this cloud")
    forbid: ForbidSchema | None = Field(default=None, description="be in none of these clouds")
    quota: QuotaSchema | None = Field(default=None, description="be few in this cloud")
    any_of: AnyOfSchema | None = Field(default=None, description="be in one of these clouds")
    ordered: OrderedSchema | None = Field(
        default=None, description="be in the first of these clouds that has room"
    )
    python: PythonSchema | None = Field(
        default=None, description="be where a rule of your own, in Python, wants them"
    )

    @model_validator(mode="after")
    def _one_kind(self) -> "RuleSchema":
        kinds = sorted(self.model_fields_set)
        if len(kinds) != 1:
            seen = f"{' and '.join(kinds)} in one entry" if kinds else "no rule"
            raise ValueError(f"{seen}; begin each rule with its own dash: `- pin: …`")
        return self


class KeepTogetherSchema(_Record):
    """Groups that the traffic shows are moved whole rather than split."""

    model_config = ConfigDict(title="Keep together")

    measured: bool = Field(default=True, description="whether groups found in the traffic count")
    cut_above: Rate = Field(
        description="a group is not split where more than this would cross clouds"
    )


class PriceSchema(_Record):
    """What the VMs may cost, and how soon a move has to pay."""

    model_config = ConfigDict(title="Price")

    budget: DollarsPerHour | None = Field(
        default=None, description="what the policy's VMs may cost together"
    )
    payback: Stretch | None = Field(
        default=None, description="a move must have saved what it cost within this time"
    )

    @model_validator(mode="after")
    def _something(self) -> "PriceSchema":
        if not self.model_fields_set:
            raise ValueError("nothing is said; write budget, payback or both")
        return self


class LatencySchema(_Record):
    """What it's worth that VMs which talk are near each other."""

    model_config = ConfigDict(title="Latency")

    worth: DollarsPerGbMs = Field(
        description="what a millisecond of round trip weighs, for each 10^9 bytes that a VM exchanges "
        "with another over it"
    )


class AvailabilitySchema(_Record):
    """Where the VMs are best off, and what happens when a cloud is about to leave."""

    model_config = ConfigDict(title="Availability")

    prefer: list[Name] = Field(default=[], description="clouds to be in where the price is equal")
    evacuate_on_notice: bool = Field(
        default=True,
        description="whether a revocation notice moves the VMs out of that cloud in time",
    )


class ProgressSchema(_Record):
    """Where the progress of a job is read. One of the two."""

    model_config = ConfigDict(
        title="Progress", json_schema_extra={"minProperties": 1, "maxProperties": 1}
    )

    redis: Name | None = Field(default=None, description="the Redis key that the job writes")
    job: Name | None = Field(default=None, description="the job's name, as in `transhume progress`")

    @model_validator(mode="after")
    def _one_source(self) -> "ProgressSchema":
        if len(self.model_fields_set) != 1:
            raise ValueError("write either redis or job")
        return self


class DeadlineSchema(_Record):
    """A job has to be done by an instant."""

    model_config = ConfigDict(title="Deadline")

    at: Instant = Field(description="the instant, with its time zone")
    work: Stretch = Field(description="how long the whole job runs when nothing disturbs it")
    changeover: Changeover = Field(
        default="measured",
        validate_default=True,
        description="how long a move slows the job: `measured` (from past moves), or a duration",
    )
    progress: ProgressSchema | None = Field(
        default=None, description="where the job says how much of it is done"
    )
    strategy: Literal["uniform-progress", "foresight", "greedy", "on-demand"] = Field(
        default="uniform-progress",
        description="when the job may be in revocable clouds; see [deadlines](../deadlines.md)",
    )


class BudgetSchema(_Record):
    """A bound on elective moves: within any stretch of time, or between two times of the day."""

    model_config = ConfigDict(title="Budget of moves")

    moves: int | None = Field(default=None, ge=0, description="how many elective moves")
    bytes: Bytes | None = Field(default=None, description="how much they send")
    dollars: float | None = Field(default=None, ge=0, description="what they cost, once")
    per: Stretch | None = Field(default=None, description="within any stretch of this length")
    between: Annotated[list[TimeOfDay], Field(min_length=2, max_length=2)] | None = Field(
        default=None,
        description="instead of per: each day from one time until another, both in quotes",
    )
    days: Annotated[list[DayName], Field(min_length=1)] | None = Field(
        default=None, description="the days on which the time between begins; without it, all"
    )
    timezone: Timezone | None = Field(
        default=None, description="whose clock the time between is told by; without it, UTC"
    )

    @model_validator(mode="after")
    def _bounds_something(self) -> "BudgetSchema":
        if (self.per is None) == (self.between is None):
            raise ValueError("write either per (any stretch of time) or between (times of day)")
        if self.moves is None and self.bytes is None and self.dollars is None:
            raise ValueError("nothing is bounded; write moves, bytes or dollars")
        if self.between is None and (self.days or self.timezone):
            raise ValueError("days and timezone belong to between; write it, or remove them")
        if self.between and (self.between[0] == self.between[1] or self.between[0] == _MIDNIGHT):
            raise ValueError("between is empty; for the whole day write ['00:00', '24:00']")
        return self


class ElectiveSchema(_Record):
    """What keeps moves that are useful, but not needed, from being made too eagerly."""

    model_config = ConfigDict(title="Elective")

    min_gain: Share = Field(
        default="5%",
        validate_default=True,
        description="the share of the running cost that a plan saves",
    )
    hold: Duration = Field(
        default="0s",
        validate_default=True,
        description="how long the reason for a plan must have lasted",
    )
    cooldown: Duration = Field(
        default="1h",
        validate_default=True,
        description="a VM that moved isn't moved again for this long, unless it must be",
    )
    budget: list[BudgetSchema] = Field(
        default=[], description="bounds on moves by time; all of them hold"
    )


class MigrationSchema(_Record):
    """How VMs may be moved."""

    model_config = ConfigDict(title="Migration")

    pause: Stretch | None = Field(
        default=None, description="how long a guest may stand still at the end of its move"
    )
    at_most: Stretch | None = Field(
        default=None, description="a migration that takes longer is broken off; its VM stays"
    )
    post_copy_after: Stretch | None = Field(
        default=None,
        description="after so long a guest goes on at the destination and fetches what is missing; should the "
        "path break then, it stands still. Without it, that never happens",
    )
    disks: Literal["copy", "stay"] = Field(
        default="stay",
        description="whether disks that only the source has go along; otherwise VMs that have some stay",
    )

    @model_validator(mode="after")
    def _either(self) -> "MigrationSchema":
        if self.post_copy_after is not None and self.disks == "copy":
            raise ValueError("post_copy_after and copied disks exclude each other; remove one")
        return self


class AfterSchema(_Record):
    """What must have come true some time after a plan."""

    model_config = ConfigDict(title="After")

    expect: Annotated[list[Literal["price", "cut"]], Field(min_length=1)] = Field(
        description="what must be as the plan predicted"
    )
    within: Stretch = Field(description="how long after the plan's end it is looked at")
    otherwise: Literal["undo", "keep"] = Field(
        default="undo",
        alias="else",
        description="what happens when it is not so: the VMs go back, or it is only told",
    )


class PolicySchema(_Record):
    """One policy: which VMs it is about, what must hold for them, and what they should cost."""

    model_config = ConfigDict(title="Policy")

    policy: Name = Field(description="the policy's name, unique among all files")
    applies_to: SelectorSchema | None = Field(
        default=None, description="the VMs that the policy governs; without it, all"
    )
    mode: Literal["recommend", "approve", "auto"] = Field(
        default="recommend",
        description="what happens with a plan: it is shown, waits for approval, or is carried out",
    )
    rules: list[RuleSchema] = Field(
        default=[], description="what must hold; a broken rule moves VMs"
    )
    keep_together: KeepTogetherSchema | None = Field(
        default=None, description="don't split groups that talk"
    )
    price: PriceSchema | None = Field(default=None, description="what the VMs may cost")
    latency: LatencySchema | None = Field(
        default=None, description="what it's worth that VMs which talk are near each other"
    )
    availability: AvailabilitySchema | None = Field(
        default=None, description="where the VMs are best off"
    )
    deadline: DeadlineSchema | None = Field(default=None, description="when a job has to be done")
    elective: ElectiveSchema | None = Field(
        default=None, description="limits to moves that aren't needed"
    )
    after: AfterSchema | None = Field(default=None, description="what is looked at after a plan")
    migration: MigrationSchema | None = Field(default=None, description="how the VMs may be moved")
