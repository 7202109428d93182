"""What the files of a folder of traces look like: the federation, and the rows of each table.

`trace_files` reads them; what they mean is in `replaying.trace`.
"""

import math
import re
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from transhume.deployment.fields import Name, Share, Stretch
from transhume.deployment.schema import CapacitySchema, LinkSchema
from transhume.located_yaml import Quantity
from transhume.quantities import parse_bytes, parse_instant, parse_moment, parse_rate


def _number(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < math.inf:
        raise ValueError(f"{text!r} is no amount; write a number that is 0 or more, such as 120")
    return found


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError(f"{text!r} is no count; write a whole number that is 0 or more, such as 8")
    return int(text)


Moment = Annotated[timedelta | datetime, Quantity(parse_moment, "45m")]
Memory = Annotated[int, Quantity(parse_bytes, "4GiB")]
Count = Annotated[int, Quantity(_count, "8")]
Number = Annotated[float, Quantity(_number, "120")]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TracedCloudSchema(_Record):
    """A cloud, and what its hosts have."""

    model_config = ConfigDict(title="Cloud of a trace")

    provider: str = Field(default="", description="whose it is, in any words")
    region: str = Field(default="", description="where it is, in any words")
    revocable: bool = Field(
        default=False, description="true where its machines may be taken back at any time (spot)"
    )
    networks: list[Name] | None = Field(
        default=None,
        description="those of the overlay's networks that it has; without it, VMs of all may come",
    )
    hosts: Annotated[dict[Name, CapacitySchema], Field(min_length=1)] = Field(
        description="its hypervisors, and what they have for our VMs"
    )


class TracedVmSchema(_Record):
    """A VM, and where it is at first."""

    model_config = ConfigDict(title="VM of a trace")

    host: Name = Field(description="where it is at the start")
    vcpus: int = Field(ge=1, description="virtual CPUs")
    memory: Memory = Field(description="memory")
    dirty: Annotated[float, Quantity(parse_rate, "10MB/s")] | None = Field(
        default=None, description="how fast it rewrites its memory, where that was measured"
    )
    disks: Memory = Field(
        default="0B",
        validate_default=True,
        description="what those of its disks hold that are its host's own",
    )
    cluster: Name | None = Field(default=None, description="the virtual cluster that it is part of")
    tags: list[Name] = Field(default=[], description="its tags")
    networks: list[Name] = Field(
        default=[], description="those of the overlay's networks that it is on"
    )


class FederationSchema(_Record):
    """What there is, where it is at first, and when that was."""

    model_config = ConfigDict(title="Trace")

    start: Annotated[datetime, Quantity(parse_instant, "2030-01-01T00:00Z")] = Field(
        description="the instant at which the trace begins, with its time zone"
    )
    lasts: Stretch | None = Field(
        default=None,
        description="how long it is; without it, up to the last instant of `looks.csv`",
    )
    clouds: Annotated[dict[Name, TracedCloudSchema], Field(min_length=1)] = Field(
        description="the clouds"
    )
    vms: Annotated[dict[Name, TracedVmSchema], Field(min_length=1)] = Field(description="the VMs")
    links: list[LinkSchema] = Field(default=[], description="the paths between clouds")
    tick: Stretch = Field(
        default="1m", validate_default=True, description="how often decisions are taken"
    )
    restart: Stretch = Field(
        default="5m",
        validate_default=True,
        description="how long a lost VM is down after its host is back",
    )
    deduplication: Share | None = Field(
        default=None,
        description="the share of a move's bytes that need not be sent; recorded moves tell better",
    )
    notice: Stretch | None = Field(
        default=None,
        description="how long before its end a cloud of `availability/` gives notice; without, never",
    )


class LookRow(_Record):
    """An instant up to which the trace is complete."""

    at: Moment


class CapacityRow(_Record):
    """What a host has from a moment on."""

    host: Name
    at: Moment
    vcpus: Count
    memory: Memory


class NoticeRow(_Record):
    """A cloud's, or a host's, word that it will be gone, and until when it was."""

    cloud: Name
    host: Name | None = None
    at: Moment
    deadline: Moment
    until: Moment | None = None


class ProgressRow(_Record):
    """How far a job was."""

    job: str
    at: Moment
    done: Number
    total: Number


class TrafficRow(_Record):
    """Which matrix holds from a moment on."""

    at: Moment
    matrix: str


class PairRow(_Record):
    """What one VM sends to another, or to outside."""

    source: str
    destination: str
    rate: Annotated[float, Quantity(parse_rate, "2MB/s")]
