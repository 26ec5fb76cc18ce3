"""Check the documents: relative links and anchors lead somewhere. Part of `make docs`.

Pages that are generated from the code are written by `tools/write_*.py`; tests compare them with the code.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def main() -> int:
    """Print each dead link; returns the exit status for the shell."""
    pages = documents(ROOT)
    problems = [problem for page in pages for problem in dead_links(page)]
    for problem in problems:
        print(problem)
    print(f"docs: {len(pages)} pages, {len(problems)} dead links")
    return 1 if problems else 0


def documents(root: Path) -> list[Path]:
    """The Markdown files that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return [root / name for name in done.stdout.splitlines() if (root / name).is_file()]


def dead_links(page: Path) -> list[str]:
    """The relative links of one page that lead to no file, or to no heading of a file."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    dead = []
    for match in LINK.finditer(text):
        target = match[1] or match[2]
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        missing_heading = anchor and path.suffix == ".md" and path.is_file() and anchor not in anchors(path)
        if not path.exists() or missing_heading:
            dead.append(f"{page}: dead link {target}")
    return dead


def anchors(page: Path) -> set[str]:
    """The anchors that the headings of a page make."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


if __name__ == "__main__":
    sys.exit(main())
