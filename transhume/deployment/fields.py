"""What may stand in a field of a deployment file: names, addresses, quantities; each says what is wrong."""

import posixpath
import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from transhume.knowledge.urls import SCHEMES, without_password
from transhume.located_yaml import Quantity
from transhume.quantities import parse_duration, parse_rate, parse_share

_LONGEST_DEVICE_NAME = 15

Amount = TypeVar("Amount", int, float)


def _name(text: str) -> str:
    if not text or not text.isprintable() or set(text) & set(" /*?[]"):
        raise ValueError(
            f"{text!r} is no name; leave out spaces, slashes and the signs of patterns"
        )
    return text


def _pattern(text: str) -> str:
    if not text.strip():
        raise ValueError("an empty pattern matches nothing; write a name, or a pattern as web-*")
    return text


def _device(text: str) -> str:
    if len(text.encode()) > _LONGEST_DEVICE_NAME:
        raise ValueError(f"{text} is no name of a device; Linux allows 15 characters")
    return _name(text)


def _mac(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{2}(:[0-9a-f]{2}){5}", text.lower()):
        raise ValueError(f"{text!r} is no MAC address; write six pairs: 52:54:00:12:34:56")
    return text.lower()


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError(f"{text} is no IP address; write one such as 172.31.66.1") from None


def _ipv4(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except ValueError:
        raise ValueError(f"{text} is no IPv4 address; write one such as 10.66.0.1") from None


def _ipv6(text: str) -> str:
    try:
        address = IPv6Address("" if "%" in text else text)
    except ValueError:
        raise ValueError(f"{text} is no IPv6 address; write one such as fd66::1") from None
    if address.is_link_local or address.is_multicast or address.is_loopback or int(address) == 0:
        raise ValueError(f"{text} isn't known beyond one link; write one such as fd66::1")
    return str(address)


def _web_url(text: str) -> str:
    try:
        found = urlsplit(text).scheme
    except ValueError:
        found = ""
    if found not in ("http", "https"):
        shown = without_password(text)
        raise ValueError(f"{shown} is no URL that works here; begin it with http or https")
    return text


def _redis_url(text: str) -> str:
    if not text.startswith(SCHEMES):
        shown = without_password(text)
        raise ValueError(f"{shown} is no URL that works here; begin it with {' or '.join(SCHEMES)}")
    return text


def _libvirt_uri(text: str) -> str:
    if ":" not in text:
        raise ValueError(f"{text} is no libvirt URI; write one such as qemu+tls://host/system")
    return text


def _absolute_path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError(f"{text} is meant at every host; write it whole, from / on")
    plain = posixpath.normpath("/" + text.lstrip("/"))
    if plain == "/":
        raise ValueError(f"{text} would be everything; name what is meant")
    if plain != text:
        raise ValueError(f"{text} goes a roundabout way; write {plain}")
    return text


def more_than_nothing(amount: Amount) -> Amount:
    """Refuse an amount that isn't above 0 (ValueError)."""
    if amount <= 0:
        raise ValueError("0 is too little; write more")
    return amount


Name = Annotated[str, AfterValidator(_name)]
Patterns = Annotated[list[Annotated[str, AfterValidator(_pattern)]], Field(min_length=1)]
Device = Annotated[str, AfterValidator(_device)]
Address = Annotated[str, AfterValidator(_address)]
Ipv4 = Annotated[str, AfterValidator(_ipv4)]
Ipv6 = Annotated[str, AfterValidator(_ipv6)]
Mac = Annotated[str, AfterValidator(_mac)]
WebUrl = Annotated[str, AfterValidator(_web_url)]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
LibvirtUri = Annotated[str, AfterValidator(_libvirt_uri)]
AbsolutePath = Annotated[str, AfterValidator(_absolute_path)]
FilePath = Annotated[str, Field(min_length=1)]
Stretch = Annotated[float, Quantity(parse_duration, "30s"), AfterValidator(more_than_nothing)]
Share = Annotated[float, Quantity(parse_share, "5%"), AfterValidator(more_than_nothing)]
Latency = Annotated[float, Quantity(parse_duration, "20ms")]
Rate = Annotated[float, Quantity(parse_rate, "100mbit"), AfterValidator(more_than_nothing)]


class Record(BaseModel):
    """A part of the file; what isn't listed is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
