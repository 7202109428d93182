"""Tables of packet rules that are known again by a seal: then what is as it should be is left alone.

The seal is a digest of what is between the table's braces, and stands in its comment; nftables prints rules
otherwise than they were written, so that the rules themselves can't be compared.
"""

import re
from hashlib import blake2b

_SEALED = re.compile(r'^\s*comment "(\w+)"$', re.MULTILINE)


def seal(body: str) -> str:
    """Return the seal of a table with this between its braces."""
    return "transhume" + blake2b(body.encode(), digest_size=8).hexdigest()


def seals(script: str) -> tuple[str, ...]:
    """Return the seals in a script, or in a listing."""
    return tuple(_SEALED.findall(script))


def removing(family: str, table: str) -> str:
    """Return the script after which there is no such table, whether or not there was one."""
    return f"add table {family} {table}\ndelete table {family} {table}\n"


def replacing(family: str, table: str, body: str) -> str:
    """Return the script that puts a sealed table in place of the one that was there."""
    return f'{removing(family, table)}table {family} {table} {{\ncomment "{seal(body)}"\n{body}}}\n'
