"""The names that identify things: one type a kind, so that a host is never passed for a cloud."""

from typing import NewType

CloudName = NewType("CloudName", str)
HostName = NewType("HostName", str)
VmName = NewType("VmName", str)
ClusterName = NewType("ClusterName", str)
GroupId = NewType("GroupId", str)
PlanId = NewType("PlanId", str)
StepId = NewType("StepId", str)
JobName = NewType("JobName", str)
MacAddress = NewType("MacAddress", str)
IpAddress = NewType("IpAddress", str)
NetworkName = NewType("NetworkName", str)
VirtualNetworkName = NewType("VirtualNetworkName", str)
"""One of the overlay's networks."""
ONLY_NETWORK = VirtualNetworkName("overlay")
"""What the overlay's network is called where there is one, to which nobody gave a name."""
SiteName = NewType("SiteName", str)
"""A site of the overlay: a cloud's name, or a gateway site's own."""
