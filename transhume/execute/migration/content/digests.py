"""What tells pages apart: the full SHA-256 of each.

Shorter digests could be made to collide by a guest. A substitution would still be found, by the check of its
frame, but the migration would fail.
"""

from hashlib import sha256

from transhume.execute.migration.splitting import PAGE_BYTES, Offsets

Digest = bytes
DIGEST_BYTES = 32

ZERO_PAGE = sha256(bytes(PAGE_BYTES)).digest()


def digest_of(page: bytes | memoryview) -> Digest:
    """Return the digest of a page."""
    return sha256(page).digest()


def digests_of(raw: bytes | memoryview, pages: Offsets) -> list[Digest]:
    """Return the digest of each page that begins at these offsets; other threads run meanwhile."""
    view = memoryview(raw)
    return [sha256(view[at : at + PAGE_BYTES]).digest() for at in pages.tolist()]
