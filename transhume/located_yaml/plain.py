"""What an unquoted word of YAML means, where all readers agree; and what to write where they don't.

YAML 1.1 reads `no` as false, `12:30` as 750 and `012` as 10; YAML 1.2 reads them as text, text and 12. A
person meant one of the two, and guessing wrong moves machines: such words are refused with the remedy.
"""

import re

_LONGEST_NUMBER = 18

_NULL = re.compile(r"|~|null|Null|NULL")
_TRUTH = re.compile(r"(true|True|TRUE)|false|False|FALSE")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?")

_OTHER_TRUTH = re.compile(r"(yes|on)|no|off", re.IGNORECASE)
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+(\.[0-9_]*)?")
_ODD_NUMBER = re.compile(
    r"[-+]?(0[xob][0-9a-f_]+|\.(inf|nan)|([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(e[-+]?[0-9]+)?)",
    re.IGNORECASE,
)


def interpret(word: str) -> str | int | float | bool | None:
    """Return what an unquoted word means.

    Raises:
        ValueError: readers of YAML disagree about the word; the message says what to write.
    """
    if _NULL.fullmatch(word):
        return None
    if found := _TRUTH.fullmatch(word):
        return bool(found[1])
    if found := _NUMBER.fullmatch(word):
        if len(word) > _LONGEST_NUMBER:
            raise ValueError(f"{word[:20]}… is too long a number; if it is a text, quote it")
        return float(word) if found[1] else int(word)
    _refuse_what_readers_disagree_about(word)
    return word


def _refuse_what_readers_disagree_about(word: str) -> None:
    if found := _OTHER_TRUTH.fullmatch(word):
        truth = "true" if found[1] else "false"
        raise ValueError(
            f"{word} is {truth} to some readers of YAML and text to others; "
            f"write {truth}, or '{word}' in quotes for the text"
        )
    if _BASE_60.fullmatch(word):
        raise ValueError(
            f"{word} is a number to base 60 to some readers of YAML; "
            f"for a text quote it: '{word}', for a duration write units: 12h 30m"
        )
    if _LEADING_ZERO.fullmatch(word):
        raise ValueError(
            f"{word} is an octal number to some readers of YAML; "
            f"write {word.lstrip('+-0') or '0'}, or '{word}' in quotes for the text"
        )
    if _ODD_NUMBER.fullmatch(word):
        raise ValueError(
            f"{word} is a number to some readers of YAML and text to others; "
            "write it out in plain digits, or quote it"
        )
