"""Regenerate the hash-locked requirements under requirements/lock/ from requirements/*.in.

Run as `make lock`. For each Python and each line of PuLP that works there, three sets are resolved for Linux and
macOS at once: `dev` (all that tests and benchmarks need), `base` (what the product imports) and `build`; and for
each Python `runtime` (torch as the index ships it) and `runtime-cpu` (the same without torch and its CUDA
libraries, for machines whose index offers a CPU build). On top of `runtime` comes `peers` (other trainers, for the
contract tests), without torch itself, and `peers-cpu`, also without torchvision, which has CPU builds of its own.
`base`, `build` and `runtime` are held to the versions of `dev`, and `peers` to both, so that any sets can be installed
into one environment.

The resolver is uv; nothing but this script uses it. What it writes names no index, so that each machine takes
the files from the index that its own pip is configured for, and the hashes decide whether they are the right ones.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from packaging.markers import Marker

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "requirements"
LOCKS = SOURCES / "lock"
PULP_LINES: dict[str, tuple[str, ...]] = {"3.11": ("3",), "3.12": ("3", "4"), "3.13": ("3", "4")}
PULP_CONSTRAINTS = {"3": "pulp>=3.3.2,<4", "4": "pulp>=4,<5"}
CUDA_ONLY = re.compile(r"^(torch|triton|cuda-\w+|nvidia-(?!ml-py)[\w-]+)$")
CUDA_LINKED = re.compile(r"^torchvision$")
SOURCE_ONLY = ("deepspeed",)
PLATFORMS = (("linux", "Linux", "x86_64"), ("linux", "Linux", "aarch64"), ("darwin", "Darwin", "arm64"))
HEADER = "# Made by `make lock` from requirements/*.in. Do not edit.\n"


def main() -> int:
    """Write every lock file; returns the exit status for the shell."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    wanted: set[Path] = set()
    for python, pulp_lines in PULP_LINES.items():
        for pulp in pulp_lines:
            dev = LOCKS / f"dev-py{python}-pulp{pulp}.txt"
            base = LOCKS / f"base-py{python}-pulp{pulp}.txt"
            write(dev, resolve("dev", python, [PULP_CONSTRAINTS[pulp]]))
            write(base, resolve("base", python, [dev]))
            wanted |= {dev, base}
        pins = LOCKS / f"dev-py{python}-pulp{pulp_lines[0]}.txt"
        build, runtime = LOCKS / f"build-py{python}.txt", LOCKS / f"runtime-py{python}.txt"
        write(build, resolve("build", python, [pins]))
        blocks = resolve("runtime", python, [pins])
        write(runtime, blocks)
        runtime_cpu = LOCKS / f"runtime-cpu-py{python}.txt"
        write(runtime_cpu, [block for block in blocks if not CUDA_ONLY.match(name_of(block))])
        wanted |= {build, runtime, runtime_cpu, *write_peers(python, [pins, runtime])}
    for stale in set(LOCKS.glob("*.txt")) - wanted:
        stale.unlink()
    return 0


def write_peers(python: str, pins: list[str | Path]) -> tuple[Path, Path]:
    """The two locks of `peers` for one Python; torch and its libraries are those of `runtime`, so they are not named."""
    peers, peers_cpu = LOCKS / f"peers-py{python}.txt", LOCKS / f"peers-cpu-py{python}.txt"
    blocks = [block for block in resolve("peers", python, pins) if not CUDA_ONLY.match(name_of(block))]
    write(peers, blocks)
    write(peers_cpu, [block for block in blocks if not CUDA_LINKED.match(name_of(block))])
    return peers, peers_cpu


def resolve(source: str, python: str, constraints: list[str | Path]) -> list[str]:
    """Resolve one .in file for one Python; returns one block of lines per pinned package, markers simplified."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [uv(), "pip", "compile", str(SOURCES / f"{source}.in"), "--universal", "--quiet"]
        command += ["--python-version", python, "--generate-hashes", "--no-emit-index-url", "--no-annotate"]
        command += ["--no-header", "--no-config", "--only-binary", ":all:"]
        command += [part for name in SOURCE_ONLY for part in ("--no-binary", name)]
        for num, constraint in enumerate(constraints):
            path = constraint if isinstance(constraint, Path) else Path(scratch) / f"{num}.txt"
            if not isinstance(constraint, Path):
                path.write_text(constraint + "\n")
            command += ["--constraint", str(path)]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"lock: {source} for Python {python} did not resolve:\n{done.stderr}")
    return [kept for block in blocks_of(done.stdout) if (kept := simplified(block, python))]


def uv() -> str:
    """The resolver beside the running interpreter, else the one on the path."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else "uv"


def blocks_of(text: str) -> Iterator[str]:
    """Split a compiled file into one block per package: the pin and the lines of its hashes."""
    block: list[str] = []
    for line in text.splitlines():
        if line.startswith("-"):
            # The only-binary setting comes back as a line; the installer passes its own.
            continue
        if not line.startswith(" ") and block:
            yield "\n".join(block)
            block = []
        block.append(line)
    if block:
        yield "\n".join(block)


def simplified(block: str, python: str) -> str:
    """Drop a pin that no supported platform takes, and the marker of one that every platform takes."""
    head, _, hashes = block.partition("\n")
    pin, _, marker = head.rstrip("\\ ").partition(" ; ")
    if not marker:
        return block
    taken = [Marker(marker).evaluate(environment(python, *platform)) for platform in PLATFORMS]
    if not any(taken):
        return ""
    return f"{pin} \\\n{hashes}" if all(taken) else block


def environment(python: str, sys_platform: str, system: str, machine: str) -> dict[str, str]:
    """The marker environment of CPython `python` on one platform."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "sys_platform": sys_platform,
        "platform_system": system,
        "platform_machine": machine,
        "platform_release": "",
        "platform_version": "",
        "extra": "",
    }


def name_of(block: str) -> str:
    """The package that a block pins."""
    return block.split("==", 1)[0].strip()


def write(path: Path, blocks: list[str]) -> None:
    """Write one lock file and say so."""
    path.write_text(HEADER + "\n".join(blocks) + "\n")
    print(f"lock: {path.relative_to(ROOT)}: {len(blocks)} packages", flush=True)


if __name__ == "__main__":
    sys.exit(main())
