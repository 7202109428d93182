"""Whose each IP address is, where several addresses are known by one: that of the newest word. Pure.

Neighbours can be told one of them only. All sites find the same one, once the register has what they offer.
"""

from collections import defaultdict

from transhume.knowledge.model import Binding, BindingState, IpAddress, MacAddress

OFFERED = float("inf")
"""The revision of what the register hasn't taken yet: newer than all that it has."""

_Age = tuple[float, int, MacAddress]


class Owners:
    """The IP addresses that the bindings of a network name, and whose they are."""

    def __init__(self) -> None:
        self._named: dict[MacAddress, tuple[IpAddress, ...]] = {}
        self._naming: dict[IpAddress, dict[MacAddress, _Age]] = defaultdict(dict)
        self._rivals: set[MacAddress] = set()

    def enter(self, binding: Binding, revision: float) -> None:
        """Take an address's binding, in place of an earlier one, and the revision of its being taken."""
        mac = binding.mac
        self.forget(mac)
        if binding.state is BindingState.GONE:
            return
        self._named[mac] = binding.ips
        for ip in binding.ips:
            self._rivals |= self._naming[ip].keys()
            self._naming[ip][mac] = revision, binding.sequence, mac

    def forget(self, mac: MacAddress) -> None:
        """Leave an address out."""
        for ip in dict.fromkeys(self._named.pop(mac, ())):
            del self._naming[ip][mac]
            self._rivals |= self._naming[ip].keys()
            if not self._naming[ip]:
                del self._naming[ip]

    def owned(self, binding: Binding) -> tuple[IpAddress, ...]:
        """Return those of a binding's that are its own."""
        return tuple(ip for ip in binding.ips if self._owner(ip) == binding.mac)

    def take_rivals(self) -> frozenset[MacAddress]:
        """Return the addresses whose own may have changed since the last time because others came or went."""
        rivals, self._rivals = frozenset(self._rivals), set()
        return rivals & self._named.keys()

    def _owner(self, ip: IpAddress) -> MacAddress:
        *_, mac = max(self._naming[ip].values())
        return mac
