"""Code that fails, hangs, lies or shouts: one line says what is wrong, and nothing is left behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from trimtab.processes import marked
from trimtab.spec.model_document import load_document

pytestmark = pytest.mark.runtime
pytest.importorskip("torch", reason="torch is not installed (extra: runtime)")

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def run(folder: Path, *arguments: str, mark: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "workers.trace", *arguments, "--out", str(folder / "model.json")],
        cwd=HERE,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "TRIMTAB_TEST_TRACE": mark},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def refusal(folder: Path, target: str, *arguments: str, shape: str = "x=Bx4", code: int = 1) -> str:
    """The one line that is said."""
    done = run(folder, "--module", target, "--input", shape, *arguments)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert not (folder / "model.json").exists()
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("hostile:raising", ("building the model raised ValueError: no width", "hostile.py:", "model.json.log")),
        ("hostile:leaving", ("building the model raised SystemExit: 3", "hostile.py:")),
        ("hostile:vanishing", ("exit code 7",)),
        ("hostile:nothing", ("gave a int", "torch.nn.Module")),
        ("hostile:number", ("has 'number', which is a int, no callable",)),
        ("hostile:Smalll", ("no callable 'Smalll'", "did you mean 'Small'?")),
        ("hostile.py:Smalll", ("no callable 'Smalll'", "did you mean 'Small'?")),
        ("not_there:Small", ("no module 'not_there'",)),
        ("not_there.py:Small", ("no file", "not_there.py")),
        ("hostile:Branch", ("data-dependent", "in the model (Branch)", "hostile.py:")),
        ("hostile:Wrapped", ("data-dependent", "in 'body.1' (Branch)", "hostile.py:")),
    ],
)
def test_one_line_says_what_is_wrong(target: str, words: tuple[str, ...], tmp_path: Path) -> None:
    said = refusal(tmp_path, target)
    for word in words:
        assert word in said
    assert len(said) < 600


def test_the_traceback_of_the_users_code_is_in_the_log(tmp_path: Path) -> None:
    refusal(tmp_path, "hostile:raising")
    log = (tmp_path / "model.json.log").read_text()
    assert "Traceback (most recent call last)" in log
    assert 'raise ValueError("no width' in log


def test_wrong_shapes_name_the_layer(tmp_path: Path) -> None:
    said = refusal(tmp_path, "hostile:Wrapped", shape="x=Bx5")
    assert "x=2x5:float32 failed in 'stem' (Linear)" in said


@pytest.mark.parametrize(
    ("shape", "more", "words"),
    [
        ("y=Bx4", (), "--input y: forward of Small has no input of that name; allowed: x"),
        ("x=Bx4:flaot32", (), "did you mean 'float32'?"),
        ("x=4x4", (), "no input has a batch dimension"),
        ("x=BxS", (), "--length: missing"),
        ("x=Bx4", ("--length", "8"), "no input has a sequence dimension"),
        ("x=Bx-4", (), "found the dimension '-4'"),
        ("x=Bx4", ("--config", "=3"), "--config: found '=3'"),
        ("x=Bx4", ("--batch", "0"), "--batch: found '0'"),
        ("x=Bx4", ("--batch", "9" * 5000), "a whole number from 1 to"),
        ("x=Bx4", ("--time-limit", "5"), "a duration with its unit"),
        ("x=Bx4", ("--memory-limit", "1B"), "--memory-limit: found '1B'"),
        ("x=Bx4", ("--device", "tpu"), "allowed: cpu, gpu"),
    ],
)
def test_bad_use_is_2(shape: str, more: tuple[str, ...], words: str, tmp_path: Path) -> None:
    assert words in refusal(tmp_path, "hostile:Small", *more, shape=shape, code=2)


def test_an_unknown_keyword_is_the_callables_own_complaint(tmp_path: Path) -> None:
    said = refusal(tmp_path, "hostile:Small", "--config", "widthh=8")
    assert "TypeError" in said
    assert "widthh" in said


def test_what_never_ends_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    begin, mark = time.monotonic(), tmp_path.name
    done = run(tmp_path, "--module", "hostile:endless", "--input", "x=Bx4", "--time-limit", "8s", mark=mark)
    assert done.returncode == 1
    assert done.stderr.startswith("not done after 8 s, so it was ended; --time-limit gives it more")
    assert time.monotonic() - begin < 30
    assert "this takes a while" in (tmp_path / "model.json.log").read_text()
    assert not marked({"TRIMTAB_TEST_TRACE": mark})


def test_memory_is_bounded(tmp_path: Path) -> None:
    said = refusal(tmp_path, "hostile:greedy", "--memory-limit", "4GB")  # it wants 80 GB
    assert "needs more memory than --memory-limit" in said


def test_noise_does_not_reach_the_document(tmp_path: Path) -> None:
    done = run(tmp_path, "--module", "hostile:Loud", "--input", "x=Bx4", "--config", "width=4", "--name", "quiet")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    document = load_document(tmp_path / "model.json")
    assert document.model.name == "quiet"
    assert document.origin.config == {"width": "4"}
    assert sum(entry.num_parameters for entry in document.measures) == 20
    assert not (tmp_path / "model.json.log").exists()
