"""Who a certificate speaks for: a site's gateway, the relay of one of its hosts, or an operator.

Owns the one name that counts in a certificate, a URI such as `transhume://site/rennes`. Host names and
addresses mean nothing here: a gateway may move, and stays the same site.
"""

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote, unquote

_SCHEME = "transhume://"
_LONGEST = 128
_SIGNS = frozenset(" /*?[]")


class PeerKind(StrEnum):
    """What somebody may do."""

    SITE = "site"
    """A gateway: sends and receives migrations on behalf of its site."""
    HOST = "host"
    """A relay: carries what its site's gateway and its host's hypervisors have for each other."""
    OPERATOR = "operator"
    """A daemon or a person: asks gateways to admit, to begin and to end migrations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Somebody who can prove who they are.

    >>> Peer(kind=PeerKind.SITE, name="rennes").uri
    'transhume://site/rennes'
    >>> str(Peer.from_uri("transhume://operator/anne"))
    'operator anne'
    """

    kind: PeerKind
    name: str

    def __post_init__(self) -> None:
        """Refuse what can't be a name in a deployment file either (ValueError)."""
        if not self.name or not self.name.isprintable() or _SIGNS & set(self.name):
            raise ValueError(
                f"{self.name!r} is no name; leave out spaces, slashes and the signs of patterns"
            )
        if len(self.name) > _LONGEST:
            raise ValueError(f"a name of {len(self.name)} characters; {_LONGEST} are the most")

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def uri(self) -> str:
        """The name as it stands in certificates; what isn't plain in a URI is escaped."""
        return f"{_SCHEME}{self.kind}/{quote(self.name, safe='')}"

    @classmethod
    def from_uri(cls, uri: str) -> "Peer":
        """Return whom a URI names; only the one spelling that `uri` gives is taken.

        Raises:
            ValueError: it names nobody.
        """
        kind, _, name = uri.removeprefix(_SCHEME).partition("/")
        peer = cls(kind=PeerKind(kind), name=unquote(name, errors="strict"))
        if peer.uri != uri:
            raise ValueError(f"{uri} isn't spelt as {peer.uri}")
        return peer
