"""WireGuard's private key of a site: made once, and nobody else's to read."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from transhume.errors import OverlayError, UsageError
from transhume.execute.migration.trust.folders import SECRET, replace

KEY_BYTES = 32


def private_key(path: Path) -> bytes:
    """Return the key in a file; a new one is made where there is no file.

    Raises:
        OverlayError: others may read it, it is no key, or it can't be read or written.
    """
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace(path, X25519PrivateKey.generate().private_bytes_raw(), SECRET)
        mode = path.stat().st_mode & 0o777
        found = path.read_bytes()
    except (OSError, UsageError) as error:
        raise OverlayError(f"{path}: the key of the underlay can't be used ({error})") from error
    if mode & 0o077:
        raise OverlayError(
            f"{path}: others may read or change this key (mode {mode:04o}); remove it, and another is made"
        )
    if len(found) != KEY_BYTES:
        raise OverlayError(
            f"{path}: this is no key of the underlay; remove it, and another is made"
        )
    return found


def public_key(private: bytes) -> bytes:
    """Return the public key that goes with a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
