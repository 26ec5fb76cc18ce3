"""What the writers of pages share: write a page that is made from data, or say whether it is current."""

from __future__ import annotations

from pathlib import Path


def write_or_check(path: Path, text: str, *, script: str, check: bool) -> int:
    """Write ``text`` to ``path``; with ``check`` only compare and say so. Returns the exit status for the shell."""
    if check:
        current = path.is_file() and path.read_text(encoding="utf-8") == text
        print(f"{path.name} is {'current' if current else f'not current: run python tools/{script}'}")
        return 0 if current else 1
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return 0
