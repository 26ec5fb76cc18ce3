"""Target ``torchrun``: a program of one's own, with the strategy in its variables."""

from __future__ import annotations

from planner.export import documents
from planner.export.models import tf32_environment, variables
from planner.export.types import Dimension, ExportCase, ExportFile, ExportTarget, Launch, Rule, TargetRules, Written
from trimtab.wire import encode


def _write(case: ExportCase) -> Written:
    shape = case.shape
    head = documents.torchrun(shape.num_nodes, shape.devices_per_node, address=case.main_address, port=case.main_port)
    launch = Launch(argv=(*head, case.script), environment={**variables(case), **tf32_environment(case)})
    strategy = ExportFile(name="strategy.json", text=documents.to_json(encode(case.strategy)))
    return Written(files=(strategy, documents.start_script(launch, shape.num_nodes)), launch=launch)


TORCHRUN = TargetRules(
    target=ExportTarget.TORCHRUN,
    version="torch 2.6 and later",
    rules=tuple(Rule(dimension=d, keys=(f"TRIMTAB_{d.upper()}",), limits="read by your program") for d in Dimension),
    beyond=lambda _case: (),
    remarks=lambda case: (
        f"{case.script} is yours: it has to read the variables TRIMTAB_* (or strategy.json) and do as they say",
    ),
    write=_write,
)
