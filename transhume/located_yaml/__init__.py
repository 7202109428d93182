"""YAML whose every key and value knows its line and column, so that a mistake is reported where it is.

`read` turns text into plain data with positions and refuses what YAML readers disagree about; `validate`
checks the data against a pydantic model and reports all mistakes of the file at once.
"""

from transhume.located_yaml.quantity import Quantity
from transhume.located_yaml.reading import (
    KeyPath,
    Located,
    Place,
    Value,
    decode,
    read,
    read_bytes,
    read_file,
)
from transhume.located_yaml.reference import reference_tables, renewed
from transhume.located_yaml.schema import json_schema
from transhume.located_yaml.shorthand import Shorthand
from transhume.located_yaml.tables import read_table
from transhume.located_yaml.validation import Check, dotted, validate

__all__ = [
    "Check",
    "KeyPath",
    "Located",
    "Place",
    "Quantity",
    "Shorthand",
    "Value",
    "decode",
    "dotted",
    "json_schema",
    "read",
    "read_bytes",
    "read_file",
    "read_table",
    "reference_tables",
    "renewed",
    "validate",
]
