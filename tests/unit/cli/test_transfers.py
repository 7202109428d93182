from transhume.cli.views.transfers import saved
from transhume.knowledge.model import Transfer


def test_what_was_saved_is_told_with_its_reasons_the_most_frequent_first() -> None:
    transfer = Transfer(
        raw_bytes=100 * 4096,
        wire_bytes=10 * 4096,
        zero_pages=7,
        own_pages=10,
        cluster_pages=50,
        site_pages=20,
        new_pages=20,
        new_wire_bytes=0,
    )
    told = saved(transfer)
    assert "90% saved: the cluster's 50%, the site's 20%, compression 20%, the VM's own 10%" in told
    assert told.endswith("7 zero pages")


def test_a_transfer_of_nothing_has_nothing_to_tell() -> None:
    assert saved(Transfer()).endswith("– saved: nothing")
