"""`transhume store`: what it prints of what a gateway tells."""

import io
from dataclasses import asdict

from rich.console import Console

from transhume.cli.store import show_store
from transhume.knowledge.model import Transfer

GIB = 1 << 30
SENT = Transfer(
    raw_bytes=18 * GIB,
    wire_bytes=263_000_000,
    zero_pages=2_000_000,
    own_pages=1_000_000,
    cluster_pages=1_200_000,
    site_pages=150_000,
    new_pages=100_000,
    new_wire_bytes=250_000_000,
)
STATUS = {
    "site": "campus",
    "domains": [
        {
            "peer": "rented",
            "tenant": "default",
            "memory_bytes": GIB,
            "disk_bytes": GIB // 2,
            "sent_pages": 200_000,
            "received_pages": 199_600,
            "sent": asdict(SENT),
        }
    ],
    "images": [],
    "warming": [],
    "routes": [],
}


def test_figures_and_reasons_are_whole_on_a_narrow_screen() -> None:
    told = io.StringIO()
    show_store(STATUS, Console(file=told, width=80))
    text = told.getvalue()
    assert "…" not in text
    for word in ("rented", "default", "1.07 GB", "537 MB", "399,600", "19.3 GB", "263 MB", "99%"):
        assert word in text
    assert "saved of what went to rented for default: the cluster's 50%, the VM's own 42%" in text
