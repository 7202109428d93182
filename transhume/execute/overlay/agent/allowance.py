"""How often something may happen to an address that nobody asked for (RFC 7432, section 15.1). Pure."""

from transhume.knowledge.model import MacAddress


class Allowance:
    """So many times within so long, for each address.

    Args:
        most: how often.
        window_seconds: within how long.
    """

    def __init__(self, most: int, window_seconds: float) -> None:
        self._most, self._window_seconds = most, window_seconds
        self._times: dict[MacAddress, list[float]] = {}

    def take(self, mac: MacAddress, now: float) -> bool:
        """Say whether it may happen once more, and take note that it does."""
        if self.is_used_up(mac, now):
            return False
        self._times[mac] = [*self._recent(mac, now), now]
        return True

    def is_used_up(self, mac: MacAddress, now: float) -> bool:
        """Say whether it may not happen to an address for now."""
        return len(self._recent(mac, now)) >= self._most

    def used_up(self, now: float) -> tuple[MacAddress, ...]:
        """Return the addresses to which it may not happen for now."""
        return tuple(mac for mac in self._times if self.is_used_up(mac, now))

    def forget(self, mac: MacAddress) -> None:
        """Begin anew with an address."""
        self._times.pop(mac, None)

    def _recent(self, mac: MacAddress, now: float) -> list[float]:
        return [at for at in self._times.get(mac, ()) if now - at < self._window_seconds]
