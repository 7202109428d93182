import pytest

from transhume.deployment.addresses import GATEWAY_PORT, Address, parse_address


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("192.0.2.1:80", Address("192.0.2.1", 80)),
        ("gateway.example", Address("gateway.example", GATEWAY_PORT)),
        ("[2001:db8::1]:8000", Address("2001:db8::1", 8000)),
    ],
)
def test_an_address_is_a_host_and_a_port_or_the_usual_one(text: str, found: Address) -> None:
    assert parse_address(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "192.0.2.1:",
        "host:http",
        "host:0",
        "host:70000",
        "2001:db8::1",
        "2001:db8::1:8000",
        "[2001:db8::1]",
    ],
)
def test_a_port_that_is_none_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(ValueError, match="write one such as"):
        parse_address(text)
