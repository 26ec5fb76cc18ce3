"""Run every benchmark in full, one after the other: run as `make bench`.

Tables go to the terminal, figures to .out/bench/NAME.json. A benchmark that did not run fails the command; a
figure that misses its goal does not.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(argv: list[str] | None = None) -> int:
    """Run the named benchmarks, or all; returns the exit status for the shell."""
    parser = argparse.ArgumentParser(description="Run benchmarks and keep their figures.")
    parser.add_argument("names", nargs="*", help="file names without .py; all when none is given")
    parser.add_argument("--smoke", action="store_true", help="the short form, which proves only that each runs")
    options = parser.parse_args(argv)
    found = benchmarks(ROOT)
    unknown = sorted(set(options.names) - {path.stem for path in found})
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(path.stem for path in found)}")
    out = ROOT / ".out" / "bench"
    out.mkdir(parents=True, exist_ok=True)
    failed = []
    for path in found:
        if options.names and path.stem not in options.names:
            continue
        print(f"bench: {path.stem}", flush=True)
        started_s = time.monotonic()
        command = [sys.executable, str(path), "--json", str(out / f"{path.stem}.json")]
        status = subprocess.run([*command, "--smoke"] if options.smoke else command, cwd=ROOT, check=False).returncode
        took_min = (time.monotonic() - started_s) / 60
        print(f"bench: {path.stem}: {'ran' if status == 0 else f'exit status {status}'} in {took_min:.1f} min\n", flush=True)
        failed += [path.stem] if status != 0 else []
    print(f"bench: {'did not run: ' + ', '.join(failed) if failed else 'all ran'}; figures in {out.relative_to(ROOT)}/")
    return 1 if failed else 0


def benchmarks(root: Path) -> list[Path]:
    """The benchmark scripts: Python files of benchmarks/ with a `main`, those with a leading underscore left out."""
    scripts = sorted(path for path in (root / "benchmarks").glob("*.py") if not path.name.startswith("_"))
    return [path for path in scripts if re.search(r"^def main\(", path.read_text(), re.MULTILINE)]


if __name__ == "__main__":
    sys.exit(main())
