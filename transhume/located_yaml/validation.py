"""Data against a pydantic model: every mistake of a file at once, each where it is in the file.

Owns the wording of mistakes: what, what was seen, what to do.
"""

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from transhume.errors import InvalidFile, Mistake
from transhume.located_yaml.reading import KeyPath, Located
from transhume.located_yaml.schema import json_schema, schema_at

Model = TypeVar("Model", bound=BaseModel)
Check: TypeAlias = Callable[[Located], Iterable[Mistake]]

_KINDS = {
    "string_type": "a text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}


def validate(model: type[Model], located: Located, *checks: Check) -> Model:
    """Return the file as an instance of `model`.

    `checks` find what a model can't tell (one part contradicts another). They see the data as read, and
    run even where the model has found mistakes, so that a user sees all of them in one go.

    Raises:
        InvalidFile: with every mistake of the file, those from reading it included.
    """
    mistakes = list(located.mistakes)
    found: Model | None = None
    try:
        found = model.model_validate(located.data)
    except ValidationError as error:
        mistakes += _mistakes(error, model, located)
    for check in checks:
        mistakes += check(located)
    if mistakes or found is None:
        raise InvalidFile(tuple(dict.fromkeys(mistakes)))
    return found


def dotted(path: KeyPath) -> str:
    """Write a path as a person would: `rules[2].pin.cloud`."""
    words = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return words.removeprefix(".")


def _mistakes(
    error: ValidationError, model: type[BaseModel], located: Located
) -> Iterable[Mistake]:
    schema = json_schema(model)
    for detail in error.errors(include_url=False):
        path = _path_in_file(detail["loc"], located)
        if not any(path[:size] in located.doubtful for size in range(1, len(path) + 1)):
            yield _mistake(detail, path, schema, located)


def _path_in_file(loc: KeyPath, located: Located) -> KeyPath:
    """Leave out of a location what isn't in the file: a union's tag, pydantic's mark for a key."""
    path: KeyPath = ()
    for part in loc:
        if (*path, part) in located.values:
            path = (*path, part)
    return path


def _mistake(
    detail: ErrorDetails, path: KeyPath, schema: dict[str, Any], located: Located
) -> Mistake:
    kind, loc = detail["type"], detail["loc"]
    if kind == "missing":
        return located.mistake(path, _missing(loc, path, schema), at_key=True)
    if kind == "extra_forbidden":
        return located.mistake(path, _unknown(loc, path, schema), at_key=True)
    about_key = bool(loc) and loc[-1] == "[key]"
    return located.mistake(path, _wrong(detail, path, located), at_key=about_key)


def _missing(loc: KeyPath, path: KeyPath, schema: dict[str, Any]) -> str:
    where = dotted(path) or "the file"
    meaning = schema_at(schema, loc[:-1]).get("properties", {}).get(loc[-1], {}).get("description")
    return f"{where} lacks {loc[-1]}; add it" + (f": {meaning}" if meaning else "")


def _unknown(loc: KeyPath, path: KeyPath, schema: dict[str, Any]) -> str:
    known = sorted(schema_at(schema, loc[:-1]).get("properties", {}))
    return f"unknown key {dotted(path)}; {_suggestion(str(loc[-1]), known)}"


def _suggestion(seen: str, known: list[str]) -> str:
    near = get_close_matches(seen, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"


def _wrong(detail: ErrorDetails, path: KeyPath, located: Located) -> str:
    kind, name, context = detail["type"], dotted(path) or "the file", detail.get("ctx", {})
    seen = _seen(path, located)
    if kind == "value_error":
        return f"{name}: {context['error']}"
    if kind in _KINDS:
        return f"{name} is {seen}; it must be {_KINDS[kind]}{_hint(kind, path, located)}"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"{name} is {seen}; it must be {words} {context[key]}"
    if kind == "literal_error":
        return f"{name} is {seen}; {_choice(seen, context['expected'])}"
    if kind in ("too_short", "too_long"):
        bound = (
            f"at least {context.get('min_length')}"
            if kind == "too_short"
            else f"at most {context.get('max_length')}"
        )
        return f"{name} has {context['actual_length']} entries; it must have {bound}"
    return f"{name} is {seen}; {detail['msg']}"


def _choice(seen: str, expected: str) -> str:
    choices = re.findall(r"'([^']*)'", expected)
    near = get_close_matches(seen, choices, n=1)
    listed = f"write {' or '.join(choices)}"
    return f"did you mean {near[0]}? ({listed})" if near else listed


def _seen(path: KeyPath, located: Located) -> str:
    value = located.get(path)
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, list):
        return "a list"
    text = located.value_at(path).text
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    return shown if shown and shown.isprintable() and " " not in shown else repr(shown)


def _hint(kind: str, path: KeyPath, located: Located) -> str:
    value = located.get(path)
    if kind == "string_type" and isinstance(value, (bool, int, float)):
        return f": quote it, as '{_seen(path, located)}'"
    if kind in ("int_type", "bool_type") and isinstance(value, str) and value:
        return ", without quotes"
    if kind == "list_type" and isinstance(value, str):
        return f", such as [{_seen(path, located)}]"
    return ""
