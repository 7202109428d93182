"""A pydantic field that is written with its unit and kept as a number.

`Annotated[float, Quantity(parse_duration, "45m")]` takes `45m` and gives 2700.0. What the spellings are is
the business of whoever passes the parser.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True, slots=True)
class Quantity:
    """How a quantity is read, and an example of it for messages and editors."""

    parse: Callable[[str], object]
    example: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._read)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "examples": [self.example]}

    def _read(self, value: object) -> object:
        if isinstance(value, (list, dict, bool)):
            raise ValueError(f"a quantity belongs here; write it as in {self.example}")
        return self.parse(str(value))
