"""Who may send which VM where: certificates of a small authority, admission policies, and one-time tickets.

Names are imported when they are first used: tickets need no certificates, and certificates need the extra
[gateway].
"""

from typing import TYPE_CHECKING, Final

from transhume.errors import ExtraMissing
from transhume.names_on_demand import names_on_demand

if TYPE_CHECKING:
    from transhume.execute.migration.trust.admission import (
        AdmissionPolicy,
        AdmissionRequest,
        AdmissionRule,
        Refusal,
        TenantName,
    )
    from transhume.execute.migration.trust.authority import (
        Authority,
        init_authority,
        load_authority,
    )
    from transhume.execute.migration.trust.certificates import (
        CertificateFacts,
        Standing,
        facts_of,
        read_certificate,
    )
    from transhume.execute.migration.trust.identity import (
        Identity,
        expect_kind,
        expect_peer,
        load_identity,
        peer_of,
    )
    from transhume.execute.migration.trust.peers import Peer, PeerKind
    from transhume.execute.migration.trust.schema import AdmitSchema, to_rules
    from transhume.execute.migration.trust.tickets import (
        Admission,
        AdmissionId,
        Admissions,
        Ticket,
    )

_MODULES: Final = {
    "admission": (
        "AdmissionPolicy",
        "AdmissionRequest",
        "AdmissionRule",
        "Refusal",
        "TenantName",
    ),
    "authority": ("Authority", "init_authority", "load_authority"),
    "certificates": ("CertificateFacts", "Standing", "facts_of", "read_certificate"),
    "identity": ("Identity", "expect_kind", "expect_peer", "load_identity", "peer_of"),
    "peers": ("Peer", "PeerKind"),
    "schema": ("AdmitSchema", "to_rules"),
    "tickets": ("Admission", "AdmissionId", "Admissions", "Ticket"),
}

__all__ = [
    "Admission",
    "AdmissionId",
    "AdmissionPolicy",
    "AdmissionRequest",
    "AdmissionRule",
    "Admissions",
    "AdmitSchema",
    "Authority",
    "CertificateFacts",
    "Identity",
    "Peer",
    "PeerKind",
    "Refusal",
    "Standing",
    "TenantName",
    "Ticket",
    "expect_kind",
    "expect_peer",
    "facts_of",
    "init_authority",
    "load_authority",
    "load_identity",
    "peer_of",
    "read_certificate",
    "to_rules",
]

_on_demand = names_on_demand(__name__, _MODULES)


def __getattr__(name: str) -> object:
    """Import a name's module; say which extra it needs where that isn't installed."""
    try:
        return _on_demand(name)
    except ModuleNotFoundError as error:
        if error.name != "cryptography":
            raise
        raise ExtraMissing("gateway", "working with certificates") from error
