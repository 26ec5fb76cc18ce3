"""The training loop of one rank.

After each step the ranks agree in one tiny reduction whether to stop or to write a checkpoint, so that a request, a signal or a
timer that one of them saw is acted on by all at the same step.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType

from trimtab.errors import TrimtabError
from trimtab.jobspec import CheckpointPolicy
from trimtab.model import ModelSpec
from trimtab.orders import Progress, RankMessage, RankMessageKind, RunOrder
from trimtab.strategy import Strategy
from trimtab.workload import TrainWorkload
from workers.data.dataset import DataSet
from workers.data.order import share
from workers.data.translation import TranslationData
from workers.training.agreement import Peers
from workers.training.checkpoint import CheckpointStore
from workers.training.engine import Engine
from workers.training.evaluate import INTERIM_BATCHES, baseline_figures, held_out_loss, loss_figures, to_batch
from workers.training.figures import StepTimes, memory_figures, resident_bytes
from workers.training.generate import translate, whole_model
from workers.training.lineage import LOSSES
from workers.training.reports import CommandReader, LineLog, Reporter, Requests
from workers.training.state import Progression, checkpoint_parts, run_state

MEASURED_STEPS = (2, 3)
"""Steps of an attempt, from 1, on which peak tensor bytes are measured: optimizer state is whole from the second on."""
GATHER_EVERY_STEPS = 50
LOG_EVERY_S = 10.0
SAVE_MARGIN = 1.5
"""A last checkpoint is tried only where its time, by the one before, fits the grace this many times."""

Log = Callable[[str], None]


class Ending(StrEnum):
    """How the loop ended."""

    COMPLETED = "completed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """What all ranks do now."""

    stop: bool
    save: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The parts that a loop works with."""

    order: RunOrder
    model: ModelSpec
    train: TrainWorkload
    strategy: Strategy
    policy: CheckpointPolicy
    engine: Engine
    data: DataSet
    peers: Peers
    store: CheckpointStore
    reporter: Reporter
    commands: CommandReader
    data_digest: str
    spec_digest: str
    log: Log


class StopSignal:
    """Remembers SIGTERM and SIGINT."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def install(self) -> None:
        """Catch the signals from now on."""
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, self._note)

    @property
    def asked(self) -> bool:
        """Whether one has come."""
        return self._event.is_set()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._event.set()


class TrainingLoop:
    """Runs from ``progression`` to the last step. ``figures`` holds the plain figures of the end."""

    def __init__(self, setting: Setting, progression: Progression, stop_signal: StopSignal) -> None:
        self.setting = setting
        self.progression = progression
        self.figures: dict[str, float] = {}
        self._stop_signal = stop_signal
        self._times = StepTimes()
        self._losses = LineLog(Path(setting.order.attempt_dir) / LOSSES, setting.log)
        self._peaks: list[tuple[int, int]] = []
        self._steps_here = 0
        self._saved_step = self._tried_step = progression.step if progression.step else -1
        self._last_save_s = time.monotonic()
        self._last_log_s = float("-inf")
        self._saving_s = 0.0
        self._stop_deadline_s: float | None = None
        self._stopped = False

    def run(self) -> Ending:
        """Train, checkpoint, evaluate. All ranks end the same way."""
        started = time.monotonic()
        setting, progression = self.setting, self.progression
        while progression.step < setting.train.num_steps:
            self._step()
            self._report("train")
            agreed = self._agree()
            if agreed.save:
                self._save()
            if agreed.stop:
                return Ending.STOPPED
            if not self._evaluate_if_due():
                return Ending.STOPPED
        trained_s = time.monotonic() - started
        if self._saved_step != progression.step:
            self._save()
        self._gather_memory()
        if not self._evaluate_at_end():
            return Ending.STOPPED
        self._insist_on_saving()
        self.figures |= self._times.figures() | memory_figures(self._peaks)
        self.figures |= {
            "train_loss_final": progression.loss,
            "num_steps": float(progression.step),
            "num_samples": float(progression.position),
            "num_samples_seen_in_epoch": float(progression.guard.num_seen),
            "epochs": progression.position / setting.data.num_train,
            "attempt_steps": float(self._steps_here),
            "train_s": trained_s,
            "checkpoint_s": self._saving_s,
            "seconds": time.monotonic() - started,
        }
        if "step_median_s" in self.figures:
            self.figures["tokens_per_s"] = setting.train.tokens_per_step / self.figures["step_median_s"]
        self._drain()
        return Ending.COMPLETED

    def _step(self) -> None:
        setting, progression = self.setting, self.progression
        began = time.monotonic()
        ids, fingerprint = progression.next_ids()
        mine = share(ids, setting.engine.data_rank, setting.engine.num_data_ranks)
        batch = to_batch(setting.data.train(mine))
        self._steps_here += 1
        measured = self._steps_here in MEASURED_STEPS or setting.train.num_steps == 1
        loss = setting.engine.measured_step(batch) if measured else setting.engine.step(batch)
        progression.finished(loss)
        self._times.add(time.monotonic() - began, typical=not measured)
        if setting.peers.first:
            self._losses.append(
                {"step": progression.step, "loss": repr(loss), "samples": fingerprint, "epoch": progression.guard.epoch}
            )
        if self._steps_here == max(MEASURED_STEPS) or progression.step % GATHER_EVERY_STEPS == 0:
            self._gather_memory()

    def _agree(self) -> Agreed:
        """One reduction over all ranks; [stop, fenced, time is short, checkpoint]."""
        setting = self.setting
        flags = [int(self._stop_signal.asked), 0, 0, 0]
        if setting.peers.first:
            requests = setting.commands.take()
            self._answer(requests)
            if requests.stop or self._stop_signal.asked:
                self._set_deadline(requests)
            asked = self._stop_deadline_s is not None
            flags = [
                int(asked),
                int(requests.fenced),
                int(asked and self._time_is_short()),
                int(requests.checkpoint or self._save_due()),
            ]
        stop, fenced, short, save = setting.peers.highest(flags)
        if fenced:
            setting.log("fenced: another attempt is the current one; stopping at once")
        if stop and not self._stopped:
            setting.log(f"asked to stop at step {self.progression.step}")
        self._stopped = bool(stop or fenced)
        unsaved = self._saved_step != self.progression.step
        wanted = bool(save) or (bool(stop) and not short)
        return Agreed(stop=self._stopped, save=wanted and unsaved and not fenced)

    def _answer(self, requests: Requests) -> None:
        for command in requests.published:
            self.setting.store.published(command.step, accepted=command.accepted)

    def _set_deadline(self, requests: Requests) -> None:
        if self._stop_deadline_s is None:
            grace_s = requests.grace_s if requests.stop and requests.grace_s > 0 else self.setting.order.grace_s
            self._stop_deadline_s = time.monotonic() + grace_s

    def _time_is_short(self) -> bool:
        assert self._stop_deadline_s is not None
        needed_s = self.setting.store.last_save_s
        return needed_s is not None and SAVE_MARGIN * needed_s > self._stop_deadline_s - time.monotonic()

    def _save_due(self) -> bool:
        policy = self.setting.policy
        if self._tried_step == self.progression.step:  # also where the disk refused: the next try is at a later step
            return False
        by_step = policy.every_steps > 0 and self.progression.step % policy.every_steps == 0
        by_time = policy.every_s > 0 and time.monotonic() - self._last_save_s >= policy.every_s
        return by_step or by_time

    def _save(self) -> None:
        setting, progression = self.setting, self.progression
        began = time.monotonic()
        self._tried_step = progression.step
        state = run_state(
            progression,
            data_digest=setting.data_digest,
            digest_of_spec=setting.spec_digest,
            strategy=setting.strategy,
            world_size=setting.peers.world_size,
        )
        result = setting.store.save(state, checkpoint_parts(setting.engine, progression, setting.peers.rank))
        self._last_save_s = time.monotonic()
        self._saving_s += self._last_save_s - began
        if result.note is None:
            setting.log(f"warning: no checkpoint of step {progression.step}: {result.error}; training goes on")
            return
        self._saved_step = progression.step
        note = result.note
        setting.log(f"checkpoint of step {note.step}: {note.num_bytes / 2**20:.1f} MiB in {note.save_s:.2f} s, verified")
        if setting.peers.first:
            setting.reporter.send(RankMessage(kind=RankMessageKind.CHECKPOINT, checkpoint=note))
            if not setting.commands.connected:  # nobody is there to answer
                setting.store.published(note.step, accepted=True)

    def _insist_on_saving(self) -> None:
        """A finished run whose result is nowhere has failed. Raises TrimtabError at every rank."""
        if self._saved_step != self.progression.step:
            self._save()
        if self._saved_step != self.progression.step:
            raise TrimtabError(
                f"the trained model could not be saved in {self.setting.order.checkpoint_dir}; see the warnings above"
            )

    def _evaluate_if_due(self) -> bool:
        """False where a stop came meanwhile."""
        setting, step = self.setting, self.progression.step
        every = setting.train.evaluate_every_steps
        if not every or step % every or step == setting.train.num_steps:
            return True
        found = self._held_out_loss(INTERIM_BATCHES)
        if found is not None:
            loss, count = found
            setting.log(f"step {step}: held-out loss {loss:.4f} nats over {count} targets")
        return found is not None

    def _evaluate_at_end(self) -> bool:
        """Fill in the held-out figures; False where a stop came meanwhile."""
        setting = self.setting
        found = self._held_out_loss(None)
        if found is None:
            return False
        self.figures |= loss_figures(*found)
        if isinstance(setting.data, TranslationData):
            self._report("decode", force=True)
            model = whole_model(setting.engine, setting.model, setting.peers)
            length = setting.train.sequence_length
            outputs = translate(model, setting.data, length, peers=setting.peers, go_on=self._go_on)
            if outputs is None:
                return False
            self.figures["bleu"] = setting.data.bleu(outputs)
        self.figures |= baseline_figures(setting.data, self.figures, setting.peers)
        setting.peers.wait()
        return True

    def _held_out_loss(self, max_batches: int | None) -> tuple[float, int] | None:
        setting = self.setting
        self._report("evaluate", force=True)
        return held_out_loss(
            setting.engine, setting.data, global_batch=setting.train.global_batch, max_batches=max_batches, go_on=self._go_on
        )

    def _go_on(self) -> bool:
        """Between the parts of an evaluation: carry out what was asked; False to stop."""
        agreed = self._agree()
        if agreed.save:
            self._save()
        return not agreed.stop

    def _gather_memory(self) -> None:
        mine = (self.setting.engine.peak_tensor_bytes(), resident_bytes())
        self._peaks = [(tensor_bytes, resident) for tensor_bytes, resident in self.setting.peers.gather(mine)]

    def _report(self, phase: str, *, force: bool = False) -> None:
        setting, progression = self.setting, self.progression
        if not setting.peers.first:
            return
        step_s = self._times.recent_s
        tokens_per_s = setting.train.tokens_per_step / step_s if step_s else 0.0
        if force or setting.reporter.progress_due or progression.step == setting.train.num_steps:
            peaks = tuple(tensor_bytes for tensor_bytes, _ in self._peaks)
            progress = Progress(
                step=progression.step,
                num_steps=setting.train.num_steps,
                loss=progression.loss,
                tokens_per_s=tokens_per_s,
                step_s=step_s,
                num_samples=progression.position,
                phase=phase,
                peak_memory_bytes=peaks if any(peaks) else (),
                resident_bytes=tuple(resident for _, resident in self._peaks),
            )
            setting.reporter.send(RankMessage(kind=RankMessageKind.PROGRESS, progress=progress))
        now = time.monotonic()
        if now - self._last_log_s >= LOG_EVERY_S:
            self._last_log_s = now
            done = f"step {progression.step}/{setting.train.num_steps}"
            setting.log(f"{phase} {done}: loss {progression.loss:.4f}, {tokens_per_s:,.0f} tokens/s, {step_s:.3f} s a step")

    def _drain(self) -> None:
        """Take in the last answers, so that older checkpoints are pruned."""
        if self.setting.peers.first:
            self._answer(self.setting.commands.take())
