"""A policy in plain English."""

import pytest

from transhume.policies.loader import parse_policy
from transhume.policies.summary import summarize


def summary(text):
    return summarize(parse_policy(f"policy: p\n{text}".encode(), "p.yaml").policy)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "p governs all VMs; plans are only shown."),
        ("mode: auto", "plans are carried out without asking"),
        ("applies_to: {vm: a, tags: [t, u]}", "p governs VM a or tag t or u;"),
        (
            "rules:\n  - spread: {tag: t, min: 2}",
            "tag t in at least 2 clouds, when a plan has ended",
        ),
        ("rules:\n  - forbid: {tag: t, clouds: [a, b]}", "tag t never in a or b, at every instant"),
        ("rules:\n  - quota: {cloud: a, vms: 4}", "at most 4 of its VMs in a"),
        ("rules:\n  - any_of: {tag: t, clouds: [a, b]}", "is broken: tag t only in a or b."),
        (
            "rules:\n  - ordered: {tag: t, clouds: [a, b]}",
            "It has tag t in the first of a, b that has room, unless a later one is cheaper by more "
            "than $0.10/h a place.",
        ),
        ("price: {budget: 12.0/h}", "should cost at most $12.00/h"),
        ("price: {payback: 45m}", "if that pays for the moves within 45m"),
        (
            "latency: {worth: 0.001/GB/ms}",
            "A millisecond between VMs that talk weighs $0.001 for each GB that they exchange.",
        ),
        ("availability: {evacuate_on_notice: false}", "A revocation notice moves nothing."),
        ("mode: recommend", "On a revocation notice it only shows how its VMs would leave"),
        ("mode: approve", "On a revocation notice its VMs leave that cloud once a person has"),
        ("mode: auto", "A revocation notice moves its VMs out of that cloud in time."),
        ("availability: {prefer: [a, b]}", "it prefers a or b"),
        ("keep_together: {cut_above: 20MB/s}", "not split where more than 20 MB/s"),
        ("elective: {hold: 10m}", "once the reason has lasted 10m"),
        ("elective: {cooldown: 6h}", "no VM again within 6h"),
        ("elective: {budget: [{moves: 3, per: 1h}]}", "with at most 3 moves per 1h"),
        (
            "elective: {budget: [{moves: 0, between: ['08:00', '18:00'], days: [mon]}]}",
            "with no moves from 08:00 to 18:00 on mon (UTC), and no VM again within 1h.",
        ),
        (
            "elective: {budget: [{bytes: 20GB, dollars: 3, per: 1d}]}",
            "at most 20 GB and $3.00 per 1d",
        ),
        ("elective: {budget: [{moves: 0, per: 1h}]}", "It makes no other moves."),
        (
            "after: {expect: [price], within: 15m}",
            "undone unless its effect on price is there 15m after it.",
        ),
        (
            "after: {expect: [cut], within: 15m, else: keep}",
            "It is told where a plan's effect on cut isn't",
        ),
        (
            "deadline: {at: 2030-01-01T18:00Z, work: 48h, changeover: 12m, progress: {job: j}}",
            "By 2030-01-01 18:00 UTC 2d of work must be done, of which j tells how much is done; "
            "a move is expected to slow it for 12m.",
        ),
    ],
    ids=lambda text: text.replace("\n", " ")[:40],
)
def test_a_summary_tells_each_thing_that_a_policy_says(text, said):
    assert said in summary(text)
