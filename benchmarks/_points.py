"""Reads files of published training measurements: YAML in the format that ``data/training_published.dev.yaml`` states at its top.

Whatever is wrong in a file is named with row, field and line. Keys that are not known here are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks._point_fields import Fields, mapping
from benchmarks._point_flops import step_from_flops
from benchmarks._point_models import model_of_row, read_model
from benchmarks._point_types import HardwareFacts, Points, ReplicaInput, Row, RowInput, RowTruth, StageInput
from trimtab.errors import Problem, SpecError
from trimtab.model import ModelSpec

DATA = Path(__file__).with_name("data")
TRAINING_POINTS = DATA / "training_published.dev.yaml"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_BYTES = 64 << 20
_FACTS = (
    "bf16_tflops",
    "fp8_tflops",
    "nvfp4_tflops",
    "int8_tops",
    "hbm_gb",
    "hbm_gbs",
    "intra_gbs_per_dir",
    "inter_gbs_per_dir",
    "ici_gbs_per_link_oneway",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What rows refer to; a model is None where its entry is wrong, which was noted then."""

    models: Mapping[str, ModelSpec | None]
    hardware: Mapping[str, HardwareFacts]
    sources: Mapping[str, str]


def read_points(path: Path) -> Points:
    """Read a file of points. Raises SpecError that names row, field and line of everything that is wrong."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SpecError([Problem(path="", message=f"cannot be read: {error.strerror}")], source=str(path)) from error
    if len(data) > _MAX_BYTES:
        raise SpecError([Problem(path="", message="larger than 64 MiB", allowed="a smaller file")], source=str(path))
    try:
        text = data.decode("utf-8")
        document = yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe loader, the one in C where it is there
    except (UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        first_line = str(error).splitlines()[0]
        raise SpecError([Problem(path="", message=f"not YAML in UTF-8: {first_line}")], source=str(path)) from error
    problems: list[Problem] = []
    points = points_of(document, problems)
    if problems:
        raise SpecError(_with_lines(text, problems), source=str(path))
    return points


def points_of(document: object, problems: list[Problem]) -> Points:
    """The points of a document that was read; what is wrong is added to ``problems``."""
    root = mapping(document, path="", label="the file", problems=problems)
    shared = _read_shared(root, problems)
    rows = [
        _row(Fields(values=values, path=path, label=label, problems=problems), shared)
        for path, label, values in _entries(root, "points", problems)
    ]
    if not rows:
        problems.append(Problem(path="points", message="no row", allowed="at least one"))
    memory_rows = [
        _memory_row(Fields(values=values, path=path, label=label, problems=problems), shared)
        for path, label, values in _entries(root, "memory_points", problems)
        if "peak_memory_gb" in values or "outcome" in values
    ]
    sound = [row for row in rows if row is not None]
    return Points(rows=tuple(sound), memory_rows=tuple(row for row in memory_rows if row is not None))


def _entries(root: Mapping[str, Any], name: str, problems: list[Problem]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Path, label and fields of every row of a list."""
    rows = root.get(name, [])
    if not isinstance(rows, list):
        problems.append(Problem(path=name, message=f"found {type(rows).__name__}", allowed="a list of rows"))
        return []
    out = []
    for index, value in enumerate(rows):
        path = f"{name}[{index}]"
        values = mapping(value, path=path, label="row", problems=problems)
        if values:
            out.append((path, f"row {str(values.get('id', index))!r}", values))
    return out


def _read_shared(root: Mapping[str, Any], problems: list[Problem]) -> _Shared:
    tables: dict[str, dict[str, Fields]] = {}
    for table, kind in (("models", "model"), ("hardware", "device type")):
        entries = mapping(root.get(table), path=table, label="the file", problems=problems)
        tables[table] = {}
        for name, value in entries.items():
            path, label = f"{table}.{name}", f"{kind} {str(name)!r}"
            values = mapping(value, path=path, label=label, problems=problems)
            tables[table][str(name)] = Fields(values=values, path=path, label=label, problems=problems)
    sources = mapping(root.get("sources"), path="sources", label="the file", problems=problems)
    return _Shared(
        models={name: read_model(fields) for name, fields in tables["models"].items()},
        hardware={name: _hardware(name, fields) for name, fields in tables["hardware"].items()},
        sources={str(name): str(entry) for name, entry in sources.items()},
    )


def _hardware(key: str, fields: Fields) -> HardwareFacts:
    return HardwareFacts(
        key=key,
        vendor=fields.text("vendor"),
        ici_links=fields.integer("ici_links"),
        devices_per_node=fields.integer("devices_per_node"),
        nvlink_domain=fields.integer("nvlink_domain"),
        **{name: fields.number(name) for name in _FACTS},
    )


def _row(fields: Fields, shared: _Shared) -> Row | None:
    num_before = len(fields.problems)
    for name in ("tag", "framework", "precision", "recompute", "zero", "devices_per_node", "cp", "ep"):
        if not fields.has(name):
            fields.fail(name, "is missing")
    seen, truth = _input(fields, shared), _truth(fields, shared)
    if seen is None or len(fields.problems) > num_before:
        return None
    from_flops = step_from_flops(seen, fields.number("tflops_per_device"), fields.text("flops_convention"))
    return Row(input=seen, truth=replace(truth, step_s=_step_s(fields, seen), step_from_flops_s=from_flops))


def _memory_row(fields: Fields, shared: _Shared) -> Row | None:
    """A row of ``memory_points``: what it leaves out is one context and expert group, and accumulation times data parallel."""
    num_before = len(fields.problems)
    seen, truth = _input(fields, shared), _truth(fields, shared)
    if seen is None or len(fields.problems) > num_before:
        return None
    degrees = (seen.tp or 1) * (seen.pp or 1) * seen.cp
    dp = seen.dp or max(1, seen.devices // degrees)
    accumulation = fields.integer("grad_accum")
    batch = accumulation * dp * seen.micro_batch if accumulation and seen.micro_batch else seen.global_batch
    return Row(input=replace(seen, dp=dp, global_batch=batch), truth=truth)


def _known(fields: Fields, name: str) -> str | None:
    value = fields.text(name)
    return None if value == "unknown" else value


def _input(fields: Fields, shared: _Shared) -> RowInput | None:
    for name in ("model", "hardware"):
        if not fields.has(name):
            fields.fail(name, "is missing")
    model = shared.models.get(fields.choice("model", shared.models) or "")
    hardware = shared.hardware.get(fields.choice("hardware", shared.hardware) or "")
    if model is None or hardware is None:
        return None
    seq_len, devices = fields.need_integer("seq_len"), fields.need_integer("devices")
    others: dict[str, Any] = {name: fields.integer(name) for name in _INTEGERS}
    others |= {name: fields.text(name) for name in _TEXTS} | {name: fields.flag(name) for name in _FLAGS}
    return RowInput(
        model=model_of_row(model, seq_len=seq_len),
        hardware=hardware,
        devices=devices,
        seq_len=seq_len,
        devices_per_node=fields.integer("devices_per_node") or hardware.devices_per_node or devices,
        cp=fields.integer("cp") or 1,
        ep=fields.integer("ep") or 1,
        precision=_known(fields, "precision"),
        recompute=_known(fields, "recompute"),
        zero=fields.integer("zero", least=0),
        placement=fields.integers("placement"),
        layers_per_stage=fields.integers("layers_per_stage"),
        pool=_pool(fields),
        stages=_stages(fields),
        **others,
    )


_INTEGERS = (
    "tp", "pp", "dp", "etp", "vpp", "fsdp_size", "dp_replicas", "micro_batch", "global_batch", "slices", "chips_per_slice"
)  # fmt: skip
_TEXTS = ("mixed_precision_mode", "amp", "remat_policy", "framework", "overlap", "network", "pp_schedule")
_FLAGS = ("sequence_parallel", "async_tp", "compile", "mtp")


def _pool(fields: Fields) -> tuple[tuple[str, int], ...] | None:
    if not fields.has("pool"):
        return None
    values = mapping(fields.values["pool"], path=f"{fields.path}.pool", label=fields.label, problems=fields.problems)
    inner = replace(fields, values=values, path=f"{fields.path}.pool")
    return tuple(sorted((str(name), inner.need_integer(name)) for name in values))


def _stages(fields: Fields) -> tuple[StageInput, ...] | None:
    if not fields.has("stages"):
        return None
    stages = []
    for path, values in _listed(fields, "stages"):
        stage = replace(fields, values=values, path=path)
        replicas = tuple(_replica(replace(fields, values=item, path=place)) for place, item in _listed(stage, "replicas"))
        stages.append(StageInput(layers=stage.need_integer("layers"), replicas=replicas))
    return tuple(stages)


def _replica(fields: Fields) -> ReplicaInput:
    return ReplicaInput(device=fields.need_text("gpu"), tp=fields.need_integer("tp"))


def _listed(fields: Fields, name: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Path and fields of every mapping in the list ``name``."""
    value = fields.values.get(name)
    if not isinstance(value, list) or not value:
        fields.fail(name, f"found {type(value).__name__}", allowed="a list of mappings, not empty")
        return []
    places = [(f"{fields.path}.{name}[{index}]", item) for index, item in enumerate(value)]
    return [(place, mapping(item, path=place, label=fields.label, problems=fields.problems)) for place, item in places]


def _truth(fields: Fields, shared: _Shared) -> RowTruth:
    fields.need_text("source")
    source = shared.sources.get(fields.choice("source", shared.sources) or "", "")
    return RowTruth(
        id=fields.need_text("id"),
        source=source,
        publisher=(source.split() or [""])[0],
        model_name=str(fields.values.get("model")),
        hardware=str(fields.values.get("hardware")),
        framework=str(fields.values.get("framework")),
        tag=fields.text("tag") or "",
        suspect=bool(fields.values.get("suspect")),
        sweep_group=fields.text("sweep_group"),
        step_s=None,
        step_from_flops_s=None,
        tokens_per_s_per_device=fields.number("norm_tokens_per_s_per_device"),
        memory_gib=fields.number("memory_gib"),
        memory_gb_reported=fields.number("mem_gb_reported") or fields.number("peak_memory_gb"),
        out_of_memory=str(fields.values.get("outcome", "")).lower() in ("oom", "out of memory"),
        competitor=fields.text("competitor"),
        competitor_step_s=fields.number("competitor_pred_step_s"),
        competitor_memory_gib=fields.number("competitor_pred_mem_gib"),
    )


def _step_s(fields: Fields, seen: RowInput) -> float | None:
    """The measured step: as printed, as derived by the collection, or from the rate of tokens."""
    printed = fields.number("step_time_s") or fields.number("derived_step_time_s")
    rate = fields.number("norm_tokens_per_s_per_device")
    if printed is not None or rate is None or seen.global_batch is None:
        return printed
    return seen.global_batch * seen.seq_len / (rate * seen.devices)


def _with_lines(text: str, problems: list[Problem]) -> list[Problem]:
    """The problems with the lines of the innermost parts of their paths that the text has."""
    root = yaml.compose(text, Loader=_LOADER)
    return [replace(problem, line=_line(root, problem.path)) for problem in problems]


def _line(node: Any, path: str) -> int | None:
    """The line where ``path`` stands below ``node``; keys may hold dots."""
    line = None
    while path:
        if isinstance(node, yaml.SequenceNode) and path.startswith("["):
            index, _, path = path[1:].partition("]")
            node = node.value[int(index)]
        elif isinstance(node, yaml.MappingNode):
            found = [(name.value, value) for name, value in node.value if re.match(re.escape(name.value) + r"(\.|\[|$)", path)]
            if not found:
                return line
            name, node = max(found, key=lambda pair: len(pair[0]))
            path = path[len(name) :]
        else:
            return line
        line, path = node.start_mark.line + 1, path.removeprefix(".")
    return line
