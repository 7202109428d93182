"""Reference tables in Markdown from the descriptions in a model, so that the pages can't drift from it."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from transhume.located_yaml.schema import json_schema

BEGIN = "<!-- generated from the schema: begin -->\n"
END = "<!-- generated from the schema: end -->\n"


def renewed(page: str, model: type[BaseModel]) -> str:
    """Return a page with the tables between its two marks as they should be."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page lacks the marks {BEGIN.strip()} and {END.strip()}")
    return f"{before}{begin}\n{reference_tables(model)}\n{end}{after}"


def reference_tables(model: type[BaseModel]) -> str:
    """Return one section a record of the file: its keys, what they take, their defaults and meaning."""
    root = json_schema(model)
    records = {"": root, **root.get("$defs", {})}
    return "\n".join(line for name in records for line in _section(name, records[name], root))


def _section(name: str, record: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    yield f"### {_heading(name, root)}"
    yield ""
    yield record.get("description", "").replace("\n", " ")
    yield ""
    yield "| key | takes | default | meaning |"
    yield "|---|---|---|---|"
    for key, schema in record.get("properties", {}).items():
        yield _row(key, schema, key in record.get("required", ()), root)
    yield ""


def _row(key: str, schema: dict[str, Any], required: bool, root: dict[str, Any]) -> str:
    default = f"`{_plain(schema['default'])}`" if "default" in schema else ""
    cells = ("required" if required else default) or "–"
    meaning = schema.get("description", "").replace("\n", " ")
    return f"| `{key}` | {_takes(schema, root)} | {cells} | {meaning} |"


def _takes(schema: dict[str, Any], root: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        heading = _heading(name, root)
        return f"[{heading}](#{heading.lower().replace(' ', '-')})"
    if choices := schema.get("enum") or ([schema["const"]] if "const" in schema else []):
        return ", ".join(f"`{_plain(choice)}`" for choice in choices)
    if forms := schema.get("anyOf"):
        return " or ".join(_takes(form, root) for form in forms)
    if schema.get("type") == "array":
        return f"list of {_takes(schema['items'], root)}"
    if schema.get("type") == "object":
        return f"by name: {_takes(schema['additionalProperties'], root)}"
    words = {"string": "text", "integer": "whole number", "boolean": "`true` or `false`"}
    examples = "".join(f", such as `{_plain(example)}`" for example in schema.get("examples", ()))
    return words.get(schema.get("type", ""), "number") + examples


def _heading(name: str, root: dict[str, Any]) -> str:
    record = root["$defs"][name] if name else root
    return str(record.get("title", name))


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
