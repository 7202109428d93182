"""One price as it is written, in a schedule or in a server's answer: a cloud, a moment, what it asks."""

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from transhume.knowledge.model import CloudName, PriceTick
from transhume.located_yaml import Quantity
from transhume.quantities import (
    parse_dollars_per_gb,
    parse_dollars_per_gib_hour,
    parse_dollars_per_hour,
    parse_moment,
)


class PriceRow(BaseModel):
    """What a cloud asks from a moment on."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, title="Price")

    cloud: Annotated[str, Field(min_length=1)] = Field(description="the cloud")
    at: Annotated[timedelta | datetime, Quantity(parse_moment, "45m")] = Field(
        description="from when on: since the schedule's start, or an instant with its time zone"
    )
    vcpu: Annotated[float, Quantity(parse_dollars_per_hour, "0.04/h")] = Field(
        description="dollars for a virtual CPU and hour"
    )
    memory: Annotated[float, Quantity(parse_dollars_per_gib_hour, "0.005/GiB/h")] = Field(
        default="0/GiB/h",
        validate_default=True,
        description="dollars for 2^30 bytes of memory and hour",
    )
    egress: Annotated[float, Quantity(parse_dollars_per_gb, "0.09/GB")] = Field(
        default="0/GB",
        validate_default=True,
        description="dollars for 10^9 bytes that leave the cloud",
    )
    egress_within_region: Annotated[float | None, Quantity(parse_dollars_per_gb, "0.01/GB")] = (
        Field(
            default=None,
            description="the same, to other clouds of its provider and region; without it, `egress`",
        )
    )
    egress_within_provider: Annotated[float | None, Quantity(parse_dollars_per_gb, "0.02/GB")] = (
        Field(
            default=None,
            description="the same, to its provider's clouds in other regions; without it, `egress`",
        )
    )

    def begins(self, start: datetime) -> datetime:
        """Return the instant from which the price holds, in a schedule that begins at `start`."""
        return self.at if isinstance(self.at, datetime) else start + self.at

    def tick(self, start: datetime) -> PriceTick:
        """Return the price as a record, in a schedule that begins at `start`."""
        return PriceTick(
            cloud=CloudName(self.cloud),
            at=self.begins(start),
            dollars_per_vcpu_hour=self.vcpu,
            dollars_per_gib_hour=self.memory,
            egress_dollars_per_gb=self.egress,
            egress_within_region_dollars_per_gb=self.egress_within_region,
            egress_within_provider_dollars_per_gb=self.egress_within_provider,
        )
