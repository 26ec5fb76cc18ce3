"""Upper limits of the sizes in a ``config.json``: far above any published model, so that a slip is named, not planned for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

MAX_LAYERS = 10_000
MAX_EXPERTS = 100_000
MAX_REPEATS = 1000
"""Blocks in one stage of a convolutional network."""
MAX_ROWS = 100_000_000
"""Rows of a vocabulary."""
MAX_TOKENS = 1_000_000_000
"""Positions, windows and other lengths of a sequence."""
MAX_WIDTH = 10_000_000
"""Everything else: widths, heads, channels, pixels."""

MAX_NESTING = 64
MAX_CONFIG_BYTES = 1_000_000
MAX_KEYS = 20_000

_BY_NAME: Mapping[str, int] = MappingProxyType(
    {
        r"repeats$": MAX_REPEATS,
        r"vocab|num_labels": MAX_ROWS,
        r"position|n_ctx|seq_len|window(?!s)|chunk|max_source|max_target": MAX_TOKENS,
        r"experts$|experts_per|moe_k$|topk$": MAX_EXPERTS,
        r"layers?$|depths?$|n_layer|blocks$": MAX_LAYERS,
    }
)


def limit(key: str) -> int:
    """The largest value that the key may have."""
    return next((high for pattern, high in _BY_NAME.items() if re.search(pattern, key)), MAX_WIDTH)
