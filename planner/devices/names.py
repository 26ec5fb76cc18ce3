"""Device names: compared by their exact normalised form, never by a part of it (an L40 is not an L4)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

_NOT_ALPHANUMERIC = re.compile(r"[^a-z0-9]+")


def normalised(name: str) -> str:
    """Lower case without separators: ``A100-SXM4-80GB`` and ``a100 sxm4 80gb`` are the same name."""
    return _NOT_ALPHANUMERIC.sub("", name.lower())


def tokens(name: str) -> frozenset[str]:
    """The words of a name: ``NVIDIA H100 80GB HBM3`` -> nvidia, h100, 80gb, hbm3."""
    return frozenset(token for token in _NOT_ALPHANUMERIC.split(name.lower()) if token)


def resolve(name: str, known: Mapping[str, Iterable[str]]) -> str | None:
    """The known name whose own or whose aliases' normalised form equals that of ``name``; None where there is none.

    ``known`` maps each canonical name to its aliases.
    """
    wanted = normalised(name)
    for canonical, aliases in known.items():
        if wanted == normalised(canonical) or any(wanted == normalised(alias) for alias in aliases):
            return canonical
    return None


def nearest(name: str, known: Mapping[str, Iterable[str]]) -> str | None:
    """The name to suggest for an unknown one: most whole words in common, else the closest spelling, else None.

    Words are compared whole, so that ``A10`` never suggests ``A100``.
    """
    wanted = tokens(name)
    shared = {
        canonical: max(len(wanted & tokens(spelling)) for spelling in (canonical, *aliases))
        for canonical, aliases in known.items()
    }
    best = max(shared.values(), default=0)
    if best > 0:
        return min(canonical for canonical, count in shared.items() if count == best)
    spellings = {
        normalised(spelling): canonical for canonical, aliases in sorted(known.items()) for spelling in (canonical, *aliases)
    }
    close = difflib.get_close_matches(normalised(name), spellings, n=1, cutoff=0.75)
    return spellings[close[0]] if close else None
