"""Names from outside, such as those of files and classes: as one line of text, and as parts of a path."""

from __future__ import annotations

import hashlib
import re
import unicodedata

_NOT_IN_A_LINE = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories of control characters, of bytes that are not UTF-8 (lone surrogates), of line ends."""
_MOST_BYTES = 248
"""Of a slug: file systems allow 255, and the folder of a class adds `normal_`."""
_BYTE_BASE = 0xDC00
"""Python decodes a byte of a file's name that is not UTF-8 as this plus the byte."""


def normal_form(name: str) -> str:
    """Return `name` in NFC: some systems store an ä as two characters, and names must be equal on all of them."""
    return unicodedata.normalize("NFC", name)


def name_share(name: str) -> float:
    """Return a number in [0, 1) that depends on the name only, for splits that do not depend on other files."""
    head = hashlib.sha256(normal_form(name).encode(errors="surrogateescape")).digest()[:8]
    return int.from_bytes(head, "big") / 2**64


def printable(name: str) -> str:
    r"""Return `name` as one line that any UTF-8 file can hold; nearly all names are unchanged.

    A byte that is not UTF-8 becomes `\xff`, a control character `\n` or `\x1b`, a line separator `\u2028`.
    """
    return name if name.isprintable() else "".join(map(_in_a_line, name))


def is_text(name: str) -> bool:
    """Return whether `name` can be written as UTF-8; the name of a file may have bytes that cannot."""
    return not any(unicodedata.category(char) == "Cs" for char in name)


def _in_a_line(char: str) -> str:
    if unicodedata.category(char) not in _NOT_IN_A_LINE:
        return char
    byte = ord(char) - _BYTE_BASE
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else char.encode("unicode_escape").decode()


def slug(text: str, most_bytes: int = _MOST_BYTES) -> str:
    """Return `text` as a file name of at most `most_bytes` in UTF-8; changed text gets a suffix that is unique.

    Of ASCII it keeps letters, digits, `.`, `_` and `-`, of other scripts letters with their marks, digits and pictorial
    symbols, in NFC.
    """
    kept = "".join(char if _is_kept(char) else "\0" for char in normal_form(text))
    plain = re.sub("\0+", "-", kept).strip("-.")
    if plain == text and len(plain.encode()) <= most_bytes:
        return plain
    suffix = f"-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:6]}"
    return f"{cut_to_bytes(plain, most_bytes - len(suffix)) or 'x'}{suffix}"


def _is_kept(char: str) -> bool:
    if char.isascii():
        return char.isalnum() or char in "._-"
    category = unicodedata.category(char)
    return category[0] in "LMN" or category in ("So", "Sk")


def cut_to_bytes(text: str, most: int) -> str:
    """Return the longest beginning of `text` that has at most `most` bytes in UTF-8."""
    return text.encode()[:most].decode(errors="ignore")
