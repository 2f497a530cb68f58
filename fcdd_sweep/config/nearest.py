"""The nearest valid name to a name that does not exist: misspelled, abbreviated, or a key without its section."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

_LEAST_ALIKE = 0.5
"""Least similarity of a misspelled name, by `difflib`."""
_LEAST_PREFIX = 2
"""Fewest letters that are taken for the beginning of a name."""


def closest(found: object, allowed: Iterable[str], cutoff: float = _LEAST_ALIKE) -> str:
    """Return `Closest: 'bottle'` for a name that does not exist, or an empty string when no name is near.

    Args:
        found: the name.
        allowed: the names that exist.
        cutoff: least similarity of a misspelled name, 0..1, as `difflib` measures it.
    """
    near = nearest(str(found), list(allowed), cutoff)
    return f"Closest: '{near}'" if near else ""


def nearest(found: str, allowed: Sequence[str], cutoff: float = _LEAST_ALIKE) -> str | None:
    """Return the allowed name that was probably meant, or None.

    Of dotted keys each part is looked up in its section; a key without its section, or in a wrong one, in all of them.
    """
    if not any("." in name for name in allowed):
        return _nearest_word(found, allowed, cutoff)
    keys = sorted(allowed, key=lambda name: (name.count("."), name))
    if "." in found:
        return _in_sections(found.split("."), keys) or _anywhere(found.rpartition(".")[2], keys)
    top = [name for name in keys if "." not in name]
    return _abbreviated(found, top) or _anywhere(found, keys) or _nearest_word(found, keys)


def _in_sections(parts: Sequence[str], allowed: Sequence[str], above: str = "") -> str | None:
    """Return the allowed key whose parts are nearest to `parts`, or None where one of them resembles nothing."""
    below = [name.removeprefix(above) for name in allowed if name.startswith(above)]
    near = _nearest_word(parts[0], list(dict.fromkeys(name.split(".")[0] for name in below)))
    if near is None:
        return None
    name = above + near
    if len(parts) > 1:
        return _in_sections(parts[1:], allowed, f"{name}.")
    return name if name in allowed else None


def _anywhere(found: str, keys: Sequence[str]) -> str | None:
    """Return the key whose last part is `found`, or which `found` abbreviates; the one in the outermost section."""
    whole = [name for name in keys if name.endswith(f".{found}")]
    short = [name for name in keys if _abbreviates(found, name.rpartition(".")[2])]
    return next(iter([*whole, *short]), None)


def _nearest_word(found: str, allowed: Sequence[str], cutoff: float = _LEAST_ALIKE) -> str | None:
    """Return the name itself, one that it abbreviates, or else the one most like it."""
    alike = difflib.get_close_matches(found, allowed, n=1, cutoff=cutoff)
    return found if found in allowed else _abbreviated(found, allowed) or next(iter(alike), None)


def _abbreviated(found: str, allowed: Sequence[str]) -> str | None:
    """Return the allowed name that `found` abbreviates; of several the shortest."""
    return min((name for name in allowed if _abbreviates(found, name)), key=len, default=None)


def _abbreviates(found: str, name: str) -> bool:
    """Return whether `found` is the beginning of a name, or its initials: `batch` and `bs` of `batch_size`."""
    plain, words = found.casefold(), [word for word in re.split(r"[^a-z0-9]+", name.casefold()) if word]
    initials = "".join(word[0] for word in words)
    if len(words) > 1 and re.sub(r"[^a-z0-9]", "", plain) == initials:
        return True
    return len(plain) >= _LEAST_PREFIX and name.casefold().startswith(plain)
