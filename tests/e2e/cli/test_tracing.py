"""``trimtab trace`` as a program: a document from a file of one's own, and a job that names it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Shell, shell
from trimtab.spec.model_document import load_document

pytestmark = pytest.mark.runtime
pytest.importorskip("torch", reason="torch is not installed (extra: runtime)")

INVENTORY = Path(__file__).resolve().parents[3] / "examples" / "known-model" / "inventory.yaml"
MODEL = """\
from torch import nn

print("noise")

class Net(nn.Module):
    def __init__(self, width=64, depth=6):
        super().__init__()
        self.embed = nn.Embedding(1000, width)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(width, 4, batch_first=True) for _ in range(depth))
        self.head = nn.Linear(width, 1000)

    def forward(self, tokens):
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)
"""
JOB = """\
kind: train
name: traced
model: {document: net.json}
data: {kind: stdlib}
workload: {steps: 10, sequence_length: 64, global_batch: 8}
"""


@pytest.fixture
def sh() -> Iterator[Shell]:
    with shell() as own:
        (own.cwd / "net.py").write_text(MODEL)
        (own.cwd / "job.yaml").write_text(JOB)
        yield own


def test_a_traced_model_is_shown_kept_and_refused_by_its_rule(sh: Shell) -> None:
    asked = ("net.py:Net", "--input", "tokens=BxS:int64", "--length", "64", "--config", "width=32", "--out", "net.json")
    done = sh("trace", *asked)
    assert done.returncode == 0, done.stderr
    assert "6 × TransformerEncoderLayer" in done.stdout
    assert "layers.0 .. 5" in done.stdout
    assert "noise" not in done.stdout
    assert "square of the length" in done.stderr
    document = load_document(sh.cwd / "net.json")
    assert [part.name for part in document.model.parts] == ["embed", *(f"layers.{i}" for i in range(6)), "head"]
    again = sh("trace", *asked, "-o", "json")
    assert json.loads(again.stdout) == json.loads((sh.cwd / "net.json").read_text())
    for verb in ("estimate", "plan"):
        refused = sh(verb, "job.yaml", "--inventory", str(INVENTORY))
        assert refused.returncode == 3, refused.stderr
        assert "framework-builds-model" in refused.stdout + refused.stderr
        assert "Traceback" not in refused.stderr


def test_what_cannot_be_traced_is_one_line_and_an_exit_code(sh: Shell) -> None:
    done = sh("trace", "net.py:Nett", "--input", "tokens=Bx8:int64", "--out", "net.json")
    assert done.returncode == 1
    assert done.stderr.startswith("error: net.py:Nett: net.py has no callable 'Nett'; did you mean 'Net'?")
    done = sh("trace", "net.py:Net", "--input", "tokens=BxS:int64", "--out", "net.json")
    assert done.returncode == 2
    assert "--length: missing" in done.stderr
    done = sh("trace", "net.py:Net", "--input", "tokens=Bx8:int64", "--out", "no/such/net.json")
    assert done.returncode == 2
    assert "--out" in done.stderr
