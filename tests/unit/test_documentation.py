"""Pages are right where a machine can tell: their YAML loads, their commands, targets and links are there.

The policies of `docs/policies` are looked at in `policies/test_docs.py`, which plans by them.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from transhume.cli import group
from transhume.cli.inventory_files import load_networks, load_vms
from transhume.deployment.loader import load_deployment
from transhume.execute.migration.gateway.configuration import GatewaySchema, load_gateway
from transhume.execute.migration.relaying.configuration import load_relay
from transhume.located_yaml import read
from transhume.monitor.clouds.inventory import parse_domain
from transhume.monitor.clouds.prices import load_prices
from transhume.policies.loader import load_policies
from transhume.policies.schema import PolicySchema

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
TOLD_IN = (*PAGES, ROOT / "CHANGELOG.md", *sorted((ROOT / "policies").glob("*.yaml")))

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
AFTER_IT = re.compile(r"\s{2,}|[|>]|&&")
"""What ends a command in a line."""


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return [text for each, text in BLOCK.findall(page.read_text("utf-8")) if each == language]


# --- files ---------------------------------------------------------------------------------------


def load(text: str, folder: Path) -> object:
    """Read a file as a page has it, or what a part of one becomes when the rest is there too."""
    text = text.replace("{…}", "{}")
    for name, load_named in (("vms", load_vms), ("networks", load_networks)):
        if text.startswith(f"# {name}.yaml"):
            return load_named(written(folder, text))
    if text.startswith("  gateway:"):
        site = "overlay: {bridge: br0, underlay: eth1, vtep: 192.0.2.1, uplink: eth0}"
        whole = f"clouds: {{campus: {{{site}}}}}\noverlay:\n  vni: 66\n  agents: true\n{text}"
        return load_deployment(written(folder, whole))
    keys = read(text, "a page").data.keys()
    for marks, load_whole in WHOLE.items():
        if marks <= keys:
            return load_whole(written(folder, text))
    if keys <= PolicySchema.model_fields.keys():
        return load_policies([written(folder, f"policy: a-page\n{text}")])
    if keys <= GatewaySchema.model_fields.keys():
        rest = "site: campus\nlisten: 192.0.2.1\nidentity: identity\n"
        return load_gateway(written(folder, rest + text))
    raise AssertionError(f"nobody reads a file with the keys {', '.join(keys)}")


WHOLE: dict[frozenset[str], Callable[[Path], object]] = {
    frozenset({"policy"}): lambda path: load_policies([path]),
    frozenset({"site", "listen"}): load_gateway,
    frozenset({"site", "gateway"}): load_relay,
    frozenset({"clouds"}): load_deployment,
    frozenset({"prices"}): load_prices,
}
"""By the keys that a file of a kind has."""


def written(folder: Path, text: str, name: str = "page.yaml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


SNIPPETS = [
    pytest.param(text, id=f"{named(page)}-{number}")
    for page in PAGES
    if page.parent != DOCS / "policies"
    for number, text in enumerate(blocks(page, "yaml"), 1)
]


@pytest.mark.parametrize("text", SNIPPETS)
def test_the_yaml_of_a_page_loads(text: str, tmp_path: Path) -> None:
    load(text, tmp_path)


def test_a_snippet_that_is_wrong_does_not_load(tmp_path: Path) -> None:
    """Else the test above would say nothing."""
    for wrong in ("hosts: [campus2]\nimages: [{file: /a.qcow2}]", "deadline: {work: 48h}", "a: 1"):
        with pytest.raises(Exception, match=r"file|at|keys a"):
            load(wrong, tmp_path)


def test_the_price_tables_of_a_page_load(tmp_path: Path) -> None:
    for text in blocks(DOCS / "reference" / "prices.md", "csv"):
        assert load_prices(written(tmp_path, text, "prices.csv")).rows


# --- commands ------------------------------------------------------------------------------------


def typed(page: Path) -> Iterator[str]:
    """Yield the command lines that a page has its reader type."""
    for text in blocks(page, "console"):
        for line in re.sub(r"\\\n\s*", "", text).splitlines():
            if line.startswith("$ "):
                parts = (part.strip() for part in re.split(r"&&|[|>]", line[2:]))
                yield from (part for part in parts if part.startswith("transhume "))


def mentioned(page: Path) -> Iterator[str]:
    """Yield the command lines that a page speaks of, which may lack some of what they need."""
    text = BLOCK.sub("", page.read_text("utf-8"))
    for line in re.findall(r"`(transhume [^`]+)`|^#\s+(transhume .*)$", text, re.MULTILINE):
        yield AFTER_IT.split("".join(line))[0]


def of_helps(command: click.Command, path: str = "transhume") -> Iterator[str]:
    """Yield the examples in the help of a command and all below it."""
    for line in map(str.strip, (command.help or "").splitlines()):
        if line.startswith("transhume "):
            yield AFTER_IT.split(line)[0]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from of_helps(inner, f"{path} {name}")


def command_of(words: Sequence[str]) -> tuple[click.Command, list[str]]:
    """Return which command is meant, and what is left for it."""
    command: click.Command = group
    left = list(words)
    while isinstance(command, click.Group) and left and not left[0].startswith("-"):
        found = command.get_command(click.Context(command), left[0])
        assert found is not None, f"there is no command {left[0]}"
        command, left = found, left[1:]
    return command, left


def options_of(command: click.Command) -> dict[str, click.Parameter]:
    parameters = command.get_params(click.Context(command, help_option_names=["-h", "--help"]))
    return {name: each for each in parameters for name in each.opts if name.startswith("-")}


def parsed(line: str) -> tuple[click.Command, list[str], list[str]]:
    """Return the command of a line, the options that are given to it, and its arguments."""
    command, left = command_of(shlex.split(line, comments=True)[1:])
    options = options_of(command)
    given, arguments = [], []
    words = iter(left)
    for word in words:
        if not word.startswith("--"):
            arguments.append(word)
            continue
        assert word in options, f"{command.name} has no option {word}"
        given.append(word)
        option: Any = options[word]
        if not option.is_flag:
            next(words, None)
    return command, given, arguments


COMMANDS = [
    *((line, named(page), True) for page in PAGES for line in typed(page)),
    *((line, named(page), False) for page in TOLD_IN for line in mentioned(page)),
    *((line, "its help", True) for line in of_helps(group)),
]


@pytest.mark.parametrize(
    ("line", "where", "is_whole"), COMMANDS, ids=[f"{where}: {line}" for line, where, _ in COMMANDS]
)
def test_a_command_of_a_page_is_one(line: str, where: str, is_whole: bool) -> None:
    command, given, arguments = parsed(line)
    if not is_whole or isinstance(command, click.Group):
        return
    lacking = [
        parameter.opts[0]
        for parameter in command.params
        if isinstance(parameter, click.Option)
        if parameter.required and not {*parameter.opts} & {*given}
    ]
    assert not lacking, f"{where} leaves out {lacking}"
    takes = [each for each in command.params if isinstance(each, click.Argument)]
    least = sum(each.required for each in takes)
    most = float("inf") if any(each.nargs < 0 for each in takes) else len(takes)
    assert least <= len(arguments) <= most, f"{command.name} takes {takes}, not {arguments}"


def test_a_command_that_is_wrong_is_found() -> None:
    """Else the test above would say nothing."""
    for line in ("transhume cap hv1", "transhume capture hv1 --methods ring"):
        with pytest.raises(AssertionError, match=r"there is no command|has no option"):
            parsed(line)
    with pytest.raises(AssertionError, match="leaves out"):
        test_a_command_of_a_page_is_one("transhume ca issue --site a", "this", True)


def test_what_pages_have_made_can_be_made() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    asked = {
        (named(page), target)
        for page in (*PAGES, ROOT / "CHANGELOG.md")
        for target in re.findall(
            r"(?:`|\$ |^)make ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE
        )
    }
    assert len(asked) > 10
    assert {each for each in asked if each[1] not in targets} == set()


# --- what is said beside -------------------------------------------------------------------------


def test_what_a_page_writes_into_a_vms_metadata_is_read_from_there() -> None:
    (metadata,) = blocks(DOCS / "reference" / "deployment.md", "xml")
    interface = "<interface><mac address='52:54:00:00:00:01'/></interface>"
    domain = f"<domain><name>db-1</name>{metadata}<devices>{interface}</devices></domain>"
    vm = parse_domain(domain)
    assert vm.cluster == "blast"
    assert vm.tags == {"gdpr", "db"}
    assert [each.ips for each in vm.interfaces] == [("10.66.0.11", "fd66::11")]


def anchors(page: Path) -> set[str]:
    """Return a page's headings as links name them."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", page.read_text("utf-8")), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=named)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = BLOCK.sub("", page.read_text("utf-8"))
    astray = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if link.startswith("https://"):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            astray.append(link)
    assert astray == []
