"""Make the environment `.venv` from the hash-locked requirements: run as `make env`, standard library only.

The lock is chosen by the running Python and by --pulp. Packages are installed by pip with --require-hashes, from
whatever index the machine's own pip configuration names. A stamp in the environment, keyed on the digest of all
that went in, makes the second run a matter of milliseconds.

torch (set `runtime`) is large. Where no NVIDIA GPU is found, pip is asked whether the machine's index offers a CPU
build of the locked version; its hash is not in the lock, because only that index knows it, so this one wheel is
taken on the word of the index and the script says so. Otherwise the locked wheel is installed. The set `peers` (other
trainers, for the contract tests) stands on `runtime`: beside a CPU build of torch goes the CPU build of torchvision.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements" / "lock"
SUPPORTED = ((3, 11), (3, 12), (3, 13))
SETS = ("base", "dev", "runtime", "peers")
STAMP_NAME = "trimtab-env.json"
STAMP_FORMAT = 1
TORCH_DISK_BYTES = 5_400_000_000
TORCH_NOTE = "about 3 GB to download, 5.4 GB on disk"
TORCH_CPU_NOTE = "about 0.2 GB to download, 0.9 GB on disk"
INDEX_QUESTION_TIMEOUT_S = 30
PEERS_NOTE = "other trainers, for the contract tests: about 0.2 GB to download, 0.6 GB on disk"
SOURCE_ONLY = ("deepspeed",)
"""Packages that are published as a source archive alone. Their build scripts run without a compiler and without a GPU."""
SOURCE_ENVIRONMENT = {"DS_BUILD_OPS": "0", "DS_ACCELERATOR": "cpu"}


class SetupError(Exception):
    """Something that the reader of the message has to put right; the message says how."""


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, make the environment; returns the exit status for the shell."""
    options = parse(argv)
    started_s = time.monotonic()
    try:
        check_python()
        changed = make_env(
            Path(options.venv), sets=options.sets, pulp=options.pulp, torch=options.torch, editable=options.editable
        )
    except SetupError as error:
        print(f"env: {error}", file=sys.stderr)
        return 1
    took_s = time.monotonic() - started_s
    say(f"{options.venv} {'ready' if changed else 'is up to date'} ({took_s:.1f} s)")
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--venv", default=str(ROOT / ".venv"), help="where the environment goes (default: .venv)")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["dev"], help="what goes in (default: dev)")
    parser.add_argument("--pulp", choices=("3", "4"), default="3", help="line of PuLP; 4 needs Python 3.12")
    parser.add_argument(
        "--torch",
        choices=("auto", "cpu", "index"),
        default=os.environ.get("TRIMTAB_TORCH", "auto"),
        help="which torch: a CPU build if the index offers one and no GPU is found (auto), always that, or the "
        "index's ordinary wheel; TRIMTAB_TORCH sets the default",
    )
    parser.add_argument("--no-editable", dest="editable", action="store_false", help="leave the checkout itself out")
    return parser.parse_args(argv)


def check_python() -> None:
    """Refuse a Python that is not supported, or one that cannot make environments, with the way out."""
    found = platform.python_version()
    if sys.version_info[:2] not in SUPPORTED:
        wanted = ", ".join(".".join(map(str, pair)) for pair in SUPPORTED)
        raise SetupError(
            f"Python {found} ({sys.executable}) does not work here; supported: {wanted}. "
            "Name another one with: make env PYTHON=/path/to/python3.11"
        )
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        raise SetupError(
            f"Python {found} ({sys.executable}) lacks its module {missing[0]}. On Debian and Ubuntu: apt install python3-venv"
        )


def make_env(venv: Path, *, sets: list[str], pulp: str, torch: str, editable: bool) -> bool:
    """Bring the environment to what is asked; returns whether anything had to be done.

    A set that is already in at the same digest stays; asking for less than is in removes nothing.
    """
    check_venv_python(venv)
    stamp_path = venv / STAMP_NAME
    stamp = {name: digest for name, digest in read_stamp(stamp_path).items() if not of_other_pulp(name, pulp)}
    held = set(stamp.items()) | covered_by_dev(stamp, pulp)
    todo = dict(step for step in steps(sets, pulp=pulp, editable=editable) if step not in held)
    if not todo:
        return False
    if not python_of(venv).exists():
        say(f"making {venv} with Python {platform.python_version()}")
        run([sys.executable, "-m", "venv", str(venv)], "the environment could not be made")
    for name, digest in todo.items():
        if name == "project":
            install_project(venv)
        elif name.startswith("runtime"):
            install_runtime(venv, torch=torch)
        elif name.startswith("peers"):
            install_peers(venv)
        else:
            install_lock(venv, LOCKS / f"{name}.txt")
        stamp[name] = digest
        stamp_path.write_text(json.dumps(stamp, indent=1))
    return True


def steps(sets: list[str], *, pulp: str, editable: bool) -> list[tuple[str, str]]:
    """The ordered steps with the digest of what each installs: lock files first, the checkout itself last."""
    python = f"py{sys.version_info[0]}.{sys.version_info[1]}"
    names = [f"dev-{python}-pulp{pulp}"] if "dev" in sets else [f"base-{python}-pulp{pulp}", f"build-{python}"]
    if "runtime" in sets or "peers" in sets:
        names.append(f"runtime-{python}")
    if "peers" in sets:
        names.append(f"peers-{python}")
    for name in names:
        if not (LOCKS / f"{name}.txt").exists():
            offered = ", ".join(sorted(path.stem for path in LOCKS.glob(f"*{python}*.txt"))) or "none"
            hint = "PuLP 4 needs Python 3.12 or later" if name.endswith("pulp4") else "run make lock"
            raise SetupError(f"no lock file {name}.txt ({hint}); for this Python there are: {offered}")
    found = [(name, digest_of(LOCKS / f"{name}.txt")) for name in names]
    if editable:
        found.append(("project", digest_of(ROOT / "pyproject.toml")))
    return found


def covered_by_dev(stamp: dict[str, str], pulp: str) -> set[tuple[str, str]]:
    """The base and build steps of an environment that holds the current `dev`, which contains both."""
    python = f"py{sys.version_info[0]}.{sys.version_info[1]}"
    dev = LOCKS / f"dev-{python}-pulp{pulp}.txt"
    if not dev.exists() or stamp.get(dev.stem) != digest_of(dev):
        return set()
    return set(steps(["base"], pulp=pulp, editable=False))


def of_other_pulp(name: str, pulp: str) -> bool:
    """Whether a step belongs to the other line of PuLP, which this one replaces."""
    return "-pulp" in name and not name.endswith(f"-pulp{pulp}")


def digest_of(path: Path) -> str:
    """Digest of one file together with the format of the stamp and the place of the checkout."""
    seed = f"{STAMP_FORMAT}:{ROOT}:".encode()
    return hashlib.sha256(seed + path.read_bytes()).hexdigest()


def check_venv_python(venv: Path) -> None:
    """Refuse to mix two Pythons in one environment."""
    config = venv / "pyvenv.cfg"
    if not config.exists():
        return
    match = re.search(r"^version(?:_info)?\s*=\s*(\d+)\.(\d+)", config.read_text(), re.MULTILINE)
    if match and (int(match[1]), int(match[2])) != sys.version_info[:2]:
        raise SetupError(
            f"{venv} was made with Python {match[1]}.{match[2]}, this is {platform.python_version()}. "
            f"Remove it (rm -r {venv}) or name another place: make env VENV=.venv-{sys.version_info[1]}"
        )


def read_stamp(path: Path) -> dict[str, str]:
    """What the environment holds, by step; empty when it was never finished or is not ours."""
    try:
        held = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return {}
    return {str(name): str(digest) for name, digest in held.items()} if isinstance(held, dict) else {}


def install_lock(venv: Path, lock: Path, *, source_only: tuple[str, ...] = ()) -> None:
    """Install one lock file; pip shows its own progress. Wheels only, but for the packages named in ``source_only``.

    Those come last, built without isolation: nothing that the lock does not name is downloaded for their build.
    """
    say(f"installing {lock.relative_to(ROOT)} (hashes checked)")
    arguments = ["install", "--require-hashes", "--no-deps", "--only-binary", ":all:"]
    if not source_only:
        pip(venv, [*arguments, "-r", str(lock)])
        return
    blocks = re.split(r"\n(?=\S)", lock.read_text())
    with tempfile.TemporaryDirectory() as scratch:
        for kept in (False, True):
            part = Path(scratch) / "part.txt"
            part.write_text("\n".join(b for b in blocks if (b.split("==", 1)[0] in source_only) == kept) + "\n")
            built = [word for name in source_only for word in ("--no-binary", name)] if kept else []
            pip(venv, [*arguments, *built, *(["--no-build-isolation"] if kept else []), "-r", str(part)])


def install_runtime(venv: Path, *, torch: str) -> None:
    """Install torch and what it needs, by the choice described at the top of this file."""
    python = f"py{sys.version_info[0]}.{sys.version_info[1]}"
    full, cpu = LOCKS / f"runtime-{python}.txt", LOCKS / f"runtime-cpu-{python}.txt"
    locked = locked_version(full, "torch")
    if is_installed(venv, f"torch-{locked}"):
        install_lock(venv, full)
        return
    cpu_version = f"{locked}+cpu"
    if torch == "cpu" or (torch == "auto" and sys.platform == "linux" and not has_nvidia_gpu()):
        if offers(venv, "torch", cpu_version):
            say(f"torch {cpu_version}: no NVIDIA GPU found and the index offers a CPU build ({TORCH_CPU_NOTE});")
            say("its hash is known to that index alone, so this one wheel is taken on its word")
            install_lock(venv, cpu)
            pip(venv, ["install", "--no-deps", "--only-binary", ":all:", f"torch=={cpu_version}"])
            return
        if torch == "cpu":
            raise SetupError(f"the configured package index offers no torch {cpu_version}; use --torch index")
        say(f"no NVIDIA GPU found, and the configured index offers no CPU build of torch {locked}")
    if sys.platform == "linux":
        check_disk(venv)
        say(f"torch {locked} with its CUDA libraries: {TORCH_NOTE}; this takes several minutes")
    install_lock(venv, full)


def install_peers(venv: Path) -> None:
    """Install what the contract tests ask, beside the torch that is there; torchvision must be of the same build as torch."""
    python = f"py{sys.version_info[0]}.{sys.version_info[1]}"
    full, cpu = LOCKS / f"peers-{python}.txt", LOCKS / f"peers-cpu-{python}.txt"
    say(PEERS_NOTE)
    torch_version = locked_version(LOCKS / f"runtime-{python}.txt", "torch")
    if not is_installed(venv, f"torch-{torch_version}+cpu"):
        install_lock(venv, full, source_only=SOURCE_ONLY)
        return
    vision_version = f"{locked_version(full, 'torchvision')}+cpu"
    if not offers(venv, "torchvision", vision_version):
        raise SetupError(
            f"the configured package index offers a CPU build of torch but no torchvision {vision_version}; "
            "set TRIMTAB_TORCH=index and make the environment again in a new place"
        )
    install_lock(venv, cpu, source_only=SOURCE_ONLY)
    pip(venv, ["install", "--no-deps", "--only-binary", ":all:", f"torchvision=={vision_version}"])


def locked_version(lock: Path, name: str) -> str:
    """The version that a lock pins; raises SetupError where it pins none."""
    match = re.search(rf"^{re.escape(name)}==(\S+)", lock.read_text(), re.MULTILINE)
    if match is None:
        raise SetupError(f"{lock} pins no {name}; run make lock")
    return match[1]


def is_installed(venv: Path, name_version: str) -> bool:
    """Whether the environment already holds exactly this version, so that no long download is ahead."""
    return any((venv / "lib").glob(f"python*/site-packages/{name_version}.dist-info"))


def has_nvidia_gpu() -> bool:
    """Whether the NVIDIA driver is loaded on this machine."""
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists()


def offers(venv: Path, name: str, version: str) -> bool:
    """Ask pip's configured index whether it has this exact version. No answer counts as no."""
    command = [str(python_of(venv)), "-m", "pip", "index", "versions", name, "--disable-pip-version-check"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INDEX_QUESTION_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        say(f"the package index did not say within {INDEX_QUESTION_TIMEOUT_S} s which versions of {name} it has")
        return False
    return version in re.split(r"[\s,()]+", done.stdout)


def check_disk(venv: Path) -> None:
    """Refuse before a long download when the disk cannot hold what it unpacks to."""
    free_bytes = shutil.disk_usage(venv).free
    if free_bytes < TORCH_DISK_BYTES:
        raise SetupError(
            f"torch needs {TORCH_DISK_BYTES / 1e9:.1f} GB in {venv}, {free_bytes / 1e9:.1f} GB are free. "
            "A plan needs no torch: make demo-plan"
        )


def install_project(venv: Path) -> None:
    """Put the checkout itself into the environment, in place, with its command."""
    say("installing the checkout in place (command: trimtab)")
    pip(venv, ["install", "--no-deps", "--no-build-isolation", "--quiet", "--editable", str(ROOT)])


def pip(venv: Path, arguments: list[str]) -> None:
    """Run the environment's own pip, its output shown."""
    command = [str(python_of(venv)), "-m", "pip", "--disable-pip-version-check", *arguments]
    run(command, "pip did not succeed; its own message is above")


def run(command: list[str], problem: str) -> None:
    """Run one command with its output shown; failure is a message for the reader."""
    if subprocess.run(command, check=False, env={**os.environ, **SOURCE_ENVIRONMENT}).returncode != 0:
        raise SetupError(f"{problem} (command: {' '.join(command)})")


def python_of(venv: Path) -> Path:
    """The interpreter of the environment."""
    return venv / "bin" / "python"


def say(text: str) -> None:
    """One line of progress, at once."""
    print(f"env: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
