"""Writes ``docs/models.md`` from the tables of the reader of ``config.json`` and the presets.

``python tools/write_models.py`` writes the page, with ``--check`` it only says whether the page is current.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from planner.models.counts import model_parameters
from tools.pages import write_or_check
from trimtab.spec import PRESETS
from trimtab.spec.huggingface import RULES, release
from trimtab.spec.huggingface.towers import VISION
from trimtab.spec.published import PUBLISHED

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"

_INTRODUCTION = """\
# Models

This page is made by `tools/write_models.py` from the tables in the code; a test checks that it is current. A job file names its
model in one of four ways:

```yaml
model: llama-3.1-8b                      # a preset of the list below
model: {config: path/to/config.json}     # a Hugging Face configuration, or the folder that it lies in
model: {document: mine.json}             # a torch module of your own, measured by `trimtab trace` (docs/tracing.md)
model: {family: decoder, layers: 12, hidden_size: 768, heads: 12, feed_forward_size: 3072, vocab_size: 32000}
```

The keys of explicit fields stand in [job-file.md](job-file.md).

"""
_COUNTING = """\
## What is counted

A model is a sequence of stacks (runs of equal layers), an embedding, a head and **parts**: whatever else has parameters, such as
patches, convolutions, poolers, tables of positions or a whole stage of a convolutional network. A part says its parameters, its
FLOPs and what it keeps for the backward pass, per token or per sample.

- Trainable parameters, each once: tied weights once, frozen tables (sinusoidal positions) and buffers (the correction of a
  router) not at all. The tests build every class of the table with transformers on the meta device and compare exactly, with the
  default configuration and with random ones.
- `architectures` in the config chooses the class; without it the first class of the table counts, as such models are usually
  trained. `id2label` (or `num_labels`) sizes a head of classes.
- Keys that a config leaves out have the defaults of the configuration classes of transformers {release}.
- Layers whose kinds take turns (local and global attention, dense ones and those of experts) become one stack per kind when there
  are more than four runs of them: sums are the same, their order is lost, and the stack says that it alternates.
- Pictures have the `image_size` of the config, 224 x 224 where a convolutional network names none, 448 x 448 where a tower takes
  any size. Whisper's encoder has `max_source_positions` frames. One sample has one picture.
- What changes no count but what a model computes (parallel blocks, scaled embeddings, rotary positions in a part of each head) is
  a **trait**: the planner does not need it, and the built-in trainer refuses what it does not make.

A value that is wrong is an error with its key, its line, what is allowed and the nearest valid choice, before anything is
counted. Files are at most 1 MB of UTF-8, nested at most 64 deep; sizes have upper limits (10000 layers, 100 million words, 10
million of any width).

"""


def page() -> str:
    """The whole page."""
    parts = [_INTRODUCTION, _COUNTING.replace("{release}", release()), "## Presets\n", _presets()]
    parts += ["\n## Model types of a config.json\n", _types(), "\n## Towers in a nested configuration\n", _towers()]
    return "\n".join(parts) + "\n"


def _presets() -> str:
    lines = ["| Preset | Parameters | From |", "|---|---|---|"]
    for name, spec in PRESETS.items():
        published = PUBLISHED.get(name)
        source = "paper or release" if published is None else f"{published.source} (`{published.model_type}`)"
        lines.append(_row([f"`{name}`", f"{model_parameters(spec).total:,}", source]))
    return "\n".join(lines)


def _types() -> str:
    lines = [
        f"{len(RULES)} model types. The count rule of each comes from the module of that type in transformers {release()}.\n",
        "| model_type | Class without `architectures` | Further classes | Count rule |",
        "|---|---|---|---|",
    ]
    for name, rule in sorted(RULES.items()):
        further = ", ".join(f"`{rule.class_of(head)}`" for head in rule.heads(name)[1:])
        lines.append(_row([f"`{name}`", f"`{rule.class_of(rule.all_heads[0])}`", further, rule.layout]))
    return "\n".join(lines)


def _towers() -> str:
    return "A `vision_config` or `audio_config` may be of these types: " + ", ".join(f"`{name}`" for name in sorted(VISION)) + "."


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when the page is not current")
    return write_or_check(PAGE, page(), script=Path(__file__).name, check=parser.parse_args().check)


if __name__ == "__main__":
    sys.exit(main())
