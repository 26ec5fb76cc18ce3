"""torchrun's own parser reads what is started, and the program finds the strategy in its variables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from planner.export import ExportTarget, export
from tests.contract.export.conftest import Laid
from tests.support.exporting import case
from trimtab.strategy import Precision, Recompute, Strategy
from trimtab.wire import decode

pytestmark = pytest.mark.runtime

STRATEGY = Strategy(
    dp=2, fsdp=2, zero_stage=3, tp=2, pp=2, micro_batch=2, num_micro_batches=4, recompute=Recompute.FULL, precision=Precision.BF16
)


@pytest.mark.parametrize("target", [ExportTarget.TORCHRUN, ExportTarget.TORCHTITAN, ExportTarget.MEGATRON])
def test_the_parser_of_torchrun_takes_the_command_of_every_node(target: ExportTarget) -> None:
    from torch.distributed.run import config_from_args, get_args_parser

    strategy = replace(STRATEGY, zero_stage=1) if target is ExportTarget.MEGATRON else STRATEGY
    found = export(case(strategy, num_nodes=4, main_address="first", main_port=1234), target)
    for node in range(found.num_nodes):
        argv = found.launch.on(node)
        assert argv[0] == "torchrun"
        parsed = get_args_parser().parse_args(list(argv[1:]))
        launch, _, rest = config_from_args(parsed)
        assert launch.min_nodes == launch.max_nodes == 4
        assert launch.nproc_per_node * launch.max_nodes == STRATEGY.world_size
        assert launch.rdzv_configs["rank"] == node
        assert (parsed.master_addr, parsed.master_port, launch.rdzv_backend) == ("first", 1234, "static")
        assert any("train" in part for part in rest)


def test_the_start_script_gives_the_program_its_strategy(laid: Laid, tmp_path: Path) -> None:
    found, folder = laid(case(STRATEGY, num_nodes=2), ExportTarget.TORCHRUN)
    assert decode(Strategy, json.loads(found.file("strategy.json").text)) == STRATEGY
    # In the place of torchrun stands a program that says what it was given.
    shim = tmp_path / "bin" / "torchrun"
    shim.parent.mkdir()
    shim.write_text(f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps([sys.argv[1:], dict(os.environ)]))\n")
    shim.chmod(0o755)
    environment = {**os.environ, "PATH": f"{shim.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", str(folder / "start.sh"), "1"], env=environment, capture_output=True, text=True, check=True)
    argv, variables = json.loads(done.stdout)
    assert tuple(argv) == found.launch.on(1)[1:]
    wanted = {"TRIMTAB_DP": "2", "TRIMTAB_TP": "2", "TRIMTAB_RECOMPUTE": "full", "TRIMTAB_STAGE_LAYERS": "4,4"}
    assert wanted.items() <= variables.items()
    assert variables["TRIMTAB_GLOBAL_BATCH"] == str(STRATEGY.global_batch)
    refused = subprocess.run(["sh", str(folder / "start.sh")], env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "the number of this node" in refused.stderr
