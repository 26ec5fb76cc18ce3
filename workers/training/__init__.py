"""The training worker: engine, loop, checkpoints."""
