"""What a site lets in: nothing, unless a rule admits it."""

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from pydantic import BaseModel, ConfigDict

from transhume.errors import InvalidFile, Refused
from transhume.execute.migration.trust import (
    AdmissionPolicy,
    AdmissionRequest,
    AdmissionRule,
    AdmitSchema,
    Refusal,
    TenantName,
    to_rules,
)
from transhume.execute.migration.trust.admission import ANY_AMOUNT
from transhume.knowledge.model import VmName
from transhume.located_yaml import read, validate

FOLDER = PurePosixPath("/run/transhume/gateway")
REQUEST = AdmissionRequest(
    vm=VmName("web-1"),
    tenant=TenantName("shop"),
    source="b",
    sockets=(FOLDER / "web-1.sock", FOLDER / "nbd" / "web-1.sock"),
    most_bytes=4_000_000_000,
)
RULE = AdmissionRule(
    sources=("b", "rented-*"), vms=("web-*",), tenants=("shop",), most_bytes=4_000_000_000
)


def check(*rules: AdmissionRule, request: AdmissionRequest = REQUEST) -> None:
    AdmissionPolicy(rules=rules, socket_folders=(FOLDER,)).admit(request)


def refused(*rules: AdmissionRule, request: AdmissionRequest = REQUEST) -> Refused:
    with pytest.raises(Refused) as caught:
        check(*rules, request=request)
    return caught.value


def test_what_fits_a_rule_in_every_respect_is_let_in() -> None:
    check(RULE)
    check(RULE, request=replace(REQUEST, source="rented-7", vm=VmName("web-")))


def test_where_nobody_says_how_much_comes_the_most_that_a_rule_allows_may() -> None:
    asked = replace(REQUEST, most_bytes=None)

    def admitted(*rules: AdmissionRule) -> int:
        return AdmissionPolicy(rules=rules, socket_folders=(FOLDER,)).admit(asked)

    assert admitted(RULE) == RULE.most_bytes
    larger, others = replace(RULE, most_bytes=9), replace(RULE, sources=("c",), most_bytes=None)
    assert admitted(larger, RULE, others) == RULE.most_bytes
    assert admitted(RULE, replace(RULE, most_bytes=None)) == ANY_AMOUNT


def test_without_a_rule_nothing_is_let_in() -> None:
    error = refused()
    assert error.reason is Refusal.NO_RULE
    assert "there is no rule at all, write one under admit" in str(error)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        pytest.param({"source": "c"}, "its sources are b, rented-*", id="site"),
        pytest.param({"vm": VmName("db-1")}, "its vms are web-*", id="vm"),
        pytest.param({"vm": VmName("WEB-1")}, "its vms are web-*", id="vm in capitals"),
        pytest.param({"tenant": TenantName("bank")}, "its tenants are shop", id="tenant"),
        pytest.param(
            {"most_bytes": 5_000_000_000},
            "5 GB were asked for, and its at_most is 4 GB",
            id="size",
        ),
    ],
)
def test_one_respect_that_doesnt_fit_is_enough_to_refuse(changed, told) -> None:
    error = refused(RULE, request=replace(REQUEST, **changed))
    assert error.reason is Refusal.NO_RULE
    assert f"of rule 1, the nearest, {told}: widen it, or add one" in str(error)


def test_the_rule_that_lacks_least_is_the_one_told_of() -> None:
    far = replace(RULE, sources=("z",), vms=("z",))
    near = replace(RULE, tenants=("z",))
    assert "of rule 2, the nearest, its tenants are z" in str(refused(far, near))


def test_two_rules_dont_add_up_to_one() -> None:
    refused(replace(RULE, sources=("z",)), replace(RULE, vms=("z",)))


def test_one_rule_of_several_is_enough() -> None:
    check(replace(RULE, sources=("z",)), RULE)


@pytest.mark.parametrize(
    "socket",
    [
        "/run/docker.sock",
        "/run/transhume/gateway",
        "/run/transhume/gateway/../../docker.sock",
        "/run/transhume/gateway-of-another/web-1.sock",
        "run/transhume/gateway/web-1.sock",
        "",
    ],
)
def test_a_socket_that_isnt_the_gateways_own_is_refused(socket) -> None:
    """An operator's key mustn't make a gateway speak to whatever listens on its machine."""
    request = replace(REQUEST, sockets=(*REQUEST.sockets, PurePosixPath(socket)))
    error = refused(RULE, request=request)
    assert error.reason is Refusal.SOCKET
    assert "which are in /run/transhume/gateway" in str(error)


class Configuration(BaseModel):
    """A file with nothing but what is let in."""

    model_config = ConfigDict(extra="forbid", strict=True)

    admit: list[AdmitSchema] = []


def written(text: str) -> tuple[AdmissionRule, ...]:
    return to_rules(validate(Configuration, read(text, "gateway.yaml")).admit)


def test_rules_are_read_as_they_are_written() -> None:
    rules = written(
        "admit:\n"
        "  - {sources: [b, rented-*], vms: [web-*], tenants: [shop], at_most: 4GB}\n"
        "  - sources: [c]\n"
    )
    assert rules == (RULE, AdmissionRule(sources=("c",)))


@pytest.mark.parametrize(
    ("rule", "place"),
    [
        pytest.param("{vms: [web-*]}", "2:5", id="no source"),
        pytest.param("{sources: []}", "2:15", id="empty list"),
        pytest.param("{sources: ['']}", "2:16", id="empty pattern"),
        pytest.param("{sources: b}", "2:15", id="no list"),
        pytest.param("{sources: [b], at_most: 0GB}", "2:29", id="nothing"),
        pytest.param("{sources: [b], at_most: 4}", "2:29", id="no unit"),
        pytest.param("{sources: [b], vm: [web-*]}", "2:20", id="unknown key"),
    ],
)
def test_a_mistake_in_a_rule_is_told_with_its_place(rule, place) -> None:
    with pytest.raises(InvalidFile, match=f"gateway.yaml:{place}: "):
        written(f"admit:\n  - {rule}\n")


def test_the_threat_model_names_each_reason_to_refuse() -> None:
    page = Path(__file__).parents[5] / "docs" / "threat-model.md"
    told = re.findall(r"^\| .* \| `(\w+)` \|$", page.read_text("utf-8"), re.MULTILINE)
    assert told == list(Refusal)
