"""The JSON Schema of a file, for editors, for reference pages and for finding what is known at a path."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema


class _WithoutNull(GenerateJsonSchema):
    """Our files hold no null: what is optional is left out."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        if found.get("default", ...) is None:
            del found["default"]
        return found

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of the files that `model` describes."""
    found = model.model_json_schema(schema_generator=_WithoutNull)
    return {"$schema": GenerateJsonSchema.schema_dialect, **found}


def schema_at(root: dict[str, Any], loc: tuple[str | int, ...]) -> dict[str, Any]:
    """Return the part of a schema at a location as pydantic gives it; empty where there is none."""
    here = _resolved(root, root)
    for part in loc:
        here = _in_full(root, _resolved(root, _inner(here, part)))
    return here


def _in_full(root: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return the form with keys of what may be written shorter."""
    forms = (_resolved(root, form) for form in schema.get("anyOf", ()))
    return next((form for form in forms if "properties" in form), schema)


def _inner(schema: dict[str, Any], part: str | int) -> dict[str, Any]:
    if isinstance(part, int):
        found = schema.get("items")
    elif "discriminator" in schema:
        found = {"$ref": schema["discriminator"]["mapping"].get(part, "")}
    else:
        found = schema.get("properties", {}).get(part) or schema.get("additionalProperties")
    return found if isinstance(found, dict) else {}


def _resolved(root: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref")
    return root.get("$defs", {}).get(name.rpartition("/")[2], {}) if name else schema
