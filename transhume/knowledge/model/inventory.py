"""What the hypervisors said last: what is to be believed of one that gives no answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from transhume.knowledge.model.market import CapacityReport
from transhume.knowledge.model.names import HostName, VmName
from transhume.knowledge.model.topology import Placement, Vm


@dataclass(frozen=True, slots=True, kw_only=True)
class LastInventory:
    """What the hypervisors said last, and where moves have left VMs since.

    A VM on its way counts as being where it set out. A host that never told may lack a report.
    """

    vms: Mapping[VmName, Vm] = field(default_factory=dict)
    placement: Placement = field(default_factory=Placement)
    capacity: Mapping[HostName, CapacityReport] = field(default_factory=dict)
    arrivals: Mapping[str, bytes] = field(default_factory=dict)
    """Which moves those are, as they are stored, by VM."""
