"""Writes ``docs/export.md`` from the tables of the exporters.

``python tools/write_export.py`` writes the page, with ``--check`` it only says whether the page is current.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from planner.export import TARGETS, Rule, TargetRules
from planner.export.types import nothing
from tools.pages import write_or_check

PAGE = Path(__file__).resolve().parents[1] / "docs" / "export.md"

_INTRODUCTION = """\
# Exports

This page is made from `planner/export/` by `tools/write_export.py`; a test checks that it is current.

`trimtab export PLAN --to TARGET` writes the strategy of a plan as another trainer or launcher reads it. Nothing is started and
no server is needed. PLAN is a job file, which is planned now, or what `trimtab plan FILE -o json` printed, with `--job FILE`; the
id of a plan that the control process keeps works as well.

```console
$ trimtab export job.yaml --inventory inventory.yaml --to megatron --out run/
$ trimtab plan job.yaml --inventory inventory.yaml -o json > plan.json
$ trimtab export plan.json --job job.yaml --inventory inventory.yaml --to torchtitan --out run/ --main-address node-0
$ sh run/start.sh 0                              # on every node, with its number
```

What a target cannot express is refused by the name of its dimension (exit code 2) where it would change what is trained or what
it needs; what the target does in its own way, or leaves to your program, is said in a note. No dimension is dropped silently: a
test varies every dimension and looks for another text, a note or a refusal. The exports are read by the targets' own parsers in
`tests/contract/export/`, which also check that the degrees fill the world and that their batch arithmetic gives the planned
global batch. Two are in no package and cannot be asked: the argument parser of Megatron-LM's `pretrain_gpt.py` (its configuration
classes are asked, and the other arguments compared with a list of that version) and MaxText (its keys are compared with a list of
that commit). Both source trees were asked once by hand, and took every case of those tests that needs no GPU library.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([_INTRODUCTION, *(_section(rules) for rules in TARGETS.values())])


def _section(rules: TargetRules) -> str:
    lines = [f"## {rules.target}\n", f"For {rules.version}.\n", "| Dimension | Keys | Takes | Otherwise |", "|---|---|---|---|"]
    return "\n".join([*lines, *(_row(rule) for rule in rules.rules), ""])


def _row(rule: Rule) -> str:
    keys = ", ".join(f"`{key}`" for key in rule.keys)
    handling = [word for word, told in (("refused", rule.refuse), ("noted", rule.remark)) if told is not nothing]
    return f"| `{rule.dimension}` | {keys} | {rule.limits or 'any value'} | {' or '.join(handling)} |"


def main(argv: list[str] | None = None) -> int:
    """Write or check the page; returns the exit status for the shell."""
    parser = argparse.ArgumentParser(description="Writes docs/export.md from the tables of the exporters.")
    parser.add_argument("--check", action="store_true", help="only say whether the page is current")
    options = parser.parse_args(argv)
    return write_or_check(PAGE, page(), script="write_export.py", check=options.check)


if __name__ == "__main__":
    sys.exit(main())
