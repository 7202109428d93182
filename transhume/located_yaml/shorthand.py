"""A record that may be written as the value of one of its keys: `2GiB` for `{bytes: 2GiB}`."""

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True, slots=True)
class Shorthand:
    """Which key a value alone is for, and an example of it for editors and reference pages."""

    key: str
    example: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._in_full, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "examples": [self.example]}, handler(schema)]}

    def _in_full(self, value: object) -> object:
        return value if isinstance(value, dict) else {self.key: value}
