"""Compares text with a file; TRIMTAB_WRITE_GOLDEN=1 writes the file instead, for a change that is meant."""

from __future__ import annotations

import difflib
import os
from pathlib import Path


def check_golden(text: str, path: Path) -> None:
    """Fail with a diff where ``text`` is not what ``path`` holds."""
    if os.environ.get("TRIMTAB_WRITE_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    assert path.exists(), f"{path} is missing; TRIMTAB_WRITE_GOLDEN=1 writes it"
    wanted = path.read_text(encoding="utf-8")
    diff = "\n".join(difflib.unified_diff(wanted.splitlines(), text.splitlines(), "golden", "now", lineterm=""))
    assert text == wanted, f"{path.name} changed; if that is meant: TRIMTAB_WRITE_GOLDEN=1\n{diff}"
