"""URLs of a Redis, as redis-py takes them: how they begin, and how they are shown, without passwords."""

SCHEMES = ("redis://", "rediss://", "unix://")


def without_password(url: str) -> str:
    """Return a URL as it may be shown, though it be none, or signs in its password end a host's part."""
    secret, at, place = url.rpartition("@")
    scheme, colon, _ = secret.partition("://")
    begin = f"{scheme}{colon}" if colon else ""
    return f"{begin}***@{place}" if at else url


def why_unreadable(url: str, error: ValueError) -> str:
    """Say why a URL can't be read, without a part of its password."""
    secret = url.partition("://")[2].rpartition("@")[0]
    if not set(secret).isdisjoint("/?#[]"):
        return "write / in its password as %2F, ? as %3F, # as %23, [ as %5B and ] as %5D"
    return str(error)
