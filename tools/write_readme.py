"""Put the plan that `make demo-plan` prints, as far as its comparison, into README.md. Part of `make docs`.

A test compares the two, so that no figure in README.md is written by hand.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- begin: tools/write_readme.py -->", "<!-- end: tools/write_readme.py -->"
EXAMPLE = "examples/known-model"
WIDTH = 100


def main() -> None:
    """Rewrite the marked part of README.md."""
    README.write_text(with_plan(README.read_text(encoding="utf-8"), printed_plan()), encoding="utf-8")


def printed_plan() -> str:
    """What the example prints, from its first line to the end of the comparison, without its changing id."""
    command = [str(Path(sys.executable).with_name("trimtab")), "plan", f"{EXAMPLE}/job.yaml"]
    command += ["--inventory", f"{EXAMPLE}/inventory.yaml"]
    with TemporaryDirectory() as home:  # what was measured or priced on this machine is not the reader's
        environment = os.environ | {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TRIMTAB_HOME": home}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    shown = done.stdout.partition("\nMEMORY OF A RANK")[0]
    return re.sub(r"\bplan_\w+", "plan_...", shown).rstrip()


def with_plan(readme: str, plan: str) -> str:
    """The text of README.md with the marked part replaced. Raises ValueError where the marks are not there."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n```console\n$ make demo-plan\n{plan}\n...\n```\n{END}{after}"


if __name__ == "__main__":
    main()
