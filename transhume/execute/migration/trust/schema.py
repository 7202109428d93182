"""The YAML of what a site lets in: the part `admit` of a gateway's configuration, as a pydantic model.

Whoever reads that file turns it into the rules of `admission` at once, by `to_rules`.
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from transhume.deployment.fields import Patterns, more_than_nothing
from transhume.execute.migration.trust.admission import AdmissionRule
from transhume.located_yaml import Quantity
from transhume.quantities import parse_bytes

_Amount = Annotated[int, Quantity(parse_bytes, "64GiB"), AfterValidator(more_than_nothing)]


class AdmitSchema(BaseModel):
    """Migrations that are let in. What no rule admits is refused."""

    model_config = ConfigDict(title="Admit", extra="forbid", strict=True, frozen=True)

    sources: Patterns = Field(description="names or patterns of the sites that may send them")
    vms: Patterns = Field(default=["*"], description="names or patterns of the VMs")
    tenants: Patterns = Field(
        default=["*"], description="names or patterns of the tenants whose VMs they are"
    )
    at_most: _Amount | None = Field(
        default=None,
        description="how much one migration may bring, memory and disks together, and what may cross of a VM "
        "ahead of it; without it, any amount",
    )


def to_rules(written: list[AdmitSchema]) -> tuple[AdmissionRule, ...]:
    """Return the rules that an operator wrote, in their order."""
    return tuple(
        AdmissionRule(
            sources=tuple(rule.sources),
            vms=tuple(rule.vms),
            tenants=tuple(rule.tenants),
            most_bytes=rule.at_most,
        )
        for rule in written
    )
