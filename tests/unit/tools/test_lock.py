"""The lock writer: what it keeps of the resolver's output."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import lock

HASH = "    --hash=sha256:aa"


@pytest.mark.parametrize(
    ("pin", "python", "kept"),
    [
        ("numpy==2.4.6 ; python_full_version < '3.12'", "3.11", "numpy==2.4.6"),
        ("numpy==2.5.5 ; python_full_version >= '3.12'", "3.11", None),
        ("colorama==0.4 ; sys_platform == 'win32'", "3.13", None),
        ("triton==3.9.0 ; sys_platform == 'linux'", "3.12", "triton==3.9.0 ; sys_platform == 'linux'"),
        ("rich==15.0.0", "3.11", "rich==15.0.0"),
    ],
)
def test_pins_are_kept_for_the_platforms_that_take_them(pin: str, python: str, kept: str | None) -> None:
    found = lock.simplified(f"{pin} \\\n{HASH}", python)
    assert found == ("" if kept is None else f"{kept} \\\n{HASH}")


def test_output_is_split_into_packages_and_settings_are_dropped() -> None:
    text = f"--only-binary :all:\na==1 \\\n{HASH} \\\n{HASH}\nb==2 \\\n{HASH}\n"
    blocks = list(lock.blocks_of(text))
    assert [lock.name_of(block) for block in blocks] == ["a", "b"]
    assert blocks[0].count("--hash") == 2


@pytest.mark.parametrize("name", ["torch", "triton", "nvidia-cublas", "nvidia-nccl-cu13", "cuda-bindings"])
def test_cuda_libraries_are_not_part_of_the_cpu_lock(name: str) -> None:
    assert lock.CUDA_ONLY.match(name)


def test_peers_stand_on_the_torch_of_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("accelerate", "nvidia-cublas", "torch", "torchtitan", "torchvision", "triton")
    monkeypatch.setattr(lock, "LOCKS", tmp_path)
    monkeypatch.setattr(lock, "ROOT", tmp_path)
    monkeypatch.setattr(lock, "resolve", lambda *_: [f"{name}==1 \\\n{HASH}" for name in names])
    peers, peers_cpu = lock.write_peers("3.11", [])
    kept = [[lock.name_of(block) for block in lock.blocks_of(path.read_text()) if "==" in block] for path in (peers, peers_cpu)]
    assert kept == [["accelerate", "torchtitan", "torchvision"], ["accelerate", "torchtitan"]]


@pytest.mark.parametrize("name", ["nvidia-ml-py", "numpy", "torchvision", "safetensors", "sympy"])
def test_other_packages_are(name: str) -> None:
    assert not lock.CUDA_ONLY.match(name)
