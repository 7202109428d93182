"""Of several signs of the same thing, the first is enough: a hypervisor alone announces a VM five times.

Pure; the time is given. A sign passes again once the time is over, so that what was overlooked is told again;
one that tells more (an IP address) passes at once, and so does one at another port.
"""

from transhume.execute.overlay.sightings.sighting import Sighting
from transhume.knowledge.model import IpAddress, MacAddress

_MANY = 1024


class Damper:
    """Which sightings are news."""

    def __init__(self, within_seconds: float) -> None:
        self._within_seconds = within_seconds
        self._many = _MANY
        self._told: dict[MacAddress, tuple[float, str, frozenset[IpAddress]]] = {}

    def passes(self, sighting: Sighting, now_seconds: float) -> bool:
        """Say whether a sighting is to be told; if it is, those like it aren't for a while."""
        told_at, port, ips = self._told.get(sighting.mac, (0.0, "", frozenset()))
        new_ip = frozenset() if sighting.ip is None else frozenset({sighting.ip}) - ips
        recent = port == sighting.port and now_seconds - told_at < self._within_seconds
        if recent and not new_ip:
            return False
        self._told[sighting.mac] = (
            now_seconds,
            sighting.port,
            new_ip | (ips if recent else new_ip),
        )
        if len(self._told) > self._many:
            self._drop_old(now_seconds)
        return True

    def forget(self, mac: MacAddress) -> None:
        """Let the next sighting of an address pass: it has gone, so that each sign of it is news."""
        self._told.pop(mac, None)

    def _drop_old(self, now_seconds: float) -> None:
        self._told = {
            mac: told
            for mac, told in self._told.items()
            if now_seconds - told[0] < self._within_seconds
        }
        # With very many at once there is nothing to drop, each time that it's looked for.
        self._many = max(_MANY, 2 * len(self._told))
