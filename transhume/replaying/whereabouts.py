"""Where VMs run in a replay, and what follows from it: what that costs an hour, and which rules it breaks.

Owns the placement and its version. What follows is reckoned anew only where the placement or the facts that it
depends on have changed: it's asked for at every instant at which time passes.
"""

from collections.abc import Mapping

from transhume.knowledge.model import CloudName, EgressTariff, HostName, Resources, VmName
from transhume.policies.model import Policy
from transhume.replaying.broken import broken_rules
from transhume.replaying.tally import Outflow, Rates, outflow_of, rates_of, used_by_cloud
from transhume.replaying.trace import Facts, Traffic


class Whereabouts:
    """The host of each VM that runs. Whoever changes `host_of` says so by `changed`."""

    def __init__(self, host_of: Mapping[VmName, HostName]) -> None:
        self.host_of: dict[VmName, HostName] = dict(host_of)
        self.version = 0
        self._rates: tuple[int, Facts, Rates] | None = None
        self._flows: tuple[int, Traffic | None, tuple[Outflow, float]] | None = None
        self._used: tuple[int, dict[CloudName, Resources]] | None = None
        self._broken: tuple[int, frozenset[str]] | None = None

    def changed(self) -> None:
        """Take note that VMs are elsewhere now."""
        self.version += 1

    def by_host(self) -> dict[HostName, list[VmName]]:
        """Return the VMs of each host that has any."""
        found: dict[HostName, list[VmName]] = {}
        for vm, host in self.host_of.items():
            found.setdefault(host, []).append(vm)
        return found

    def rates(self, facts: Facts) -> Rates:
        """Return what holds by these facts."""
        known = self._rates
        if known is None or known[0] != self.version or known[1] is not facts:
            out, cut = self._outflow(facts)
            tariff = EgressTariff(clouds=facts.clouds, prices=facts.prices)
            rates = rates_of(self._use(facts), out, cut, tariff)
            known = self._rates = (self.version, facts, rates)
        return known[2]

    def broken(self, policies: tuple[Policy, ...], facts: Facts) -> frozenset[str]:
        """Return which of the policies' rules don't hold, always the same policies'."""
        if self._broken is None or self._broken[0] != self.version:
            found = broken_rules(policies, facts.vms, self._cloud_of(facts))
            self._broken = (self.version, found)
        return self._broken[1]

    def _use(self, facts: Facts) -> dict[CloudName, Resources]:
        if self._used is None or self._used[0] != self.version:
            needs = {vm: facts.vms[vm].needs for vm in self.host_of}
            self._used = (self.version, used_by_cloud(needs, self._cloud_of(facts)))
        return self._used[1]

    def _outflow(self, facts: Facts) -> tuple[Outflow, float]:
        known = self._flows
        if known is None or known[0] != self.version or known[1] is not facts.traffic:
            flows = outflow_of(facts.traffic, self._cloud_of(facts), sorted(facts.clouds))
            known = self._flows = (self.version, facts.traffic, flows)
        return known[2]

    def _cloud_of(self, facts: Facts) -> dict[VmName, CloudName]:
        return {vm: facts.hosts[host].cloud for vm, host in self.host_of.items()}
