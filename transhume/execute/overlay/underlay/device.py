"""A site's WireGuard device: what is asked of one, whoever carries it out.

Two do: the kernel (`kernel_device`), and where it can't, the program wireguard-go (`userspace_device`). Owns
the records that both understand. All calls block, and belong in one thread that lives as long as the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

KIND = "wireguard"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSetting:
    """How a device is to treat a peer."""

    public_key: str
    """In base64."""
    allowed_ips: tuple[str, ...]
    """Networks that are sent to it, and taken from it; no two peers may have the same."""
    endpoint: str | None = None
    """Where to send; None leaves what the device has learnt."""
    keepalive_seconds: int = 0
    """0: none."""
    insists: bool = False
    """Set the endpoint again, although it is the same: a late packet has made the device forget it."""
    afresh: bool = False
    """Forget its session first, so that the next packet begins another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerReport:
    """What a device says of a peer."""

    public_key: str
    allowed_ips: tuple[str, ...] = ()
    endpoint: str | None = None
    """Where its last packet that was proved to be its own came from, or where to send."""
    keepalive_seconds: int = 0
    handshake_at: float = 0.0
    """The latest, in seconds since 1970; 0: never."""
    received_bytes: int = 0
    sent_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSetting:
    """What a device needs besides peers."""

    private_key: bytes = field(repr=False)
    listen_port: int


class Device(Protocol):
    """One WireGuard device in a network namespace. What fails is an OSError, or an OverlayError."""

    @property
    def kind(self) -> str:
        """Whose it is, for people."""

    def ensure(self) -> bool:
        """Have the device; True where it had to be made, and has neither keys, addresses nor peers."""

    def configure(self, setting: DeviceSetting) -> None:
        """Set the private key and the port."""

    def change(self, peers: Sequence[PeerSetting], gone: Sequence[str] = ()) -> None:
        """Set peers, and remove those whose public keys are in `gone`; others stay as they are."""

    def peers(self) -> tuple[PeerReport, ...]:
        """Return what it has."""

    def remove(self) -> None:
        """Take it away; what isn't there is no error."""
