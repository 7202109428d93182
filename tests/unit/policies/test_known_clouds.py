"""Names of clouds in policies, against those that a deployment has."""

from pathlib import Path

import pytest

from transhume.policies.book import PolicyBook
from transhume.policies.known_clouds import unknown_clouds
from transhume.policies.loader import parse_policy

CLOUDS = {"campus", "rented"}


def doubts(text: str) -> list[str]:
    located = parse_policy(f"policy: p\n{text}".encode(), "p.yaml").located
    return [str(mistake) for mistake in unknown_clouds(located, CLOUDS)]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        pytest.param("rules:\n  - pin: {vm: a, cloud: capmus}", "3:25", id="pin"),
        pytest.param("rules:\n  - quota: {cloud: capmus, vms: 1}", "3:20", id="quota"),
        pytest.param("rules:\n  - forbid: {vm: a, clouds: [rented, capmus]}", "3:38", id="forbid"),
        pytest.param("rules:\n  - any_of: {vm: a, clouds: [capmus]}", "3:30", id="any_of"),
        pytest.param("rules:\n  - ordered: {vm: a, clouds: [capmus]}", "3:31", id="ordered"),
        pytest.param("availability: {prefer: [capmus]}", "2:25", id="prefer"),
    ],
)
def test_a_cloud_that_is_not_there_is_told_with_its_place(text: str, place: str) -> None:
    (found,) = doubts(text)
    assert found == (
        f"p.yaml:{place}: there is no cloud capmus; did you mean campus? "
        "(known here: campus, rented)"
    )


def test_clouds_that_are_there_are_no_mistake() -> None:
    assert doubts("rules:\n  - any_of: {vm: a, clouds: [campus, rented]}") == []


def test_a_policy_that_names_a_cloud_of_elsewhere_is_doubted_and_in_force(tmp_path: Path) -> None:
    """One file may serve several deployments."""
    path = tmp_path / "p.yaml"
    path.write_text("policy: p\nrules:\n  - pin: {vm: a, cloud: mars}")

    book = PolicyBook([path], CLOUDS)

    assert [policy.name for policy in book.policies] == ["p"]
    assert [doubt.line for doubt in book.doubts] == [3]
    path.write_text("policy: p\nrules:\n  - pin: {vm: a, cloud: campus}")
    book.refresh()
    assert book.doubts == ()
