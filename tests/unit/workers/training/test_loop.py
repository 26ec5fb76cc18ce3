"""The training loop of one rank in this process: real data, engine, checkpoints and pipes."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from tests.support.training_runs import (  # noqa: E402
    RunFolder,
    make_order,
    next_attempt,
    small_decoder,
    small_translator,
    text_workload,
    write_texts,
)
from trimtab import wire  # noqa: E402
from trimtab.errors import CheckpointError, SpecError, TrimtabError  # noqa: E402
from trimtab.jobspec import CheckpointPolicy  # noqa: E402
from trimtab.orders import (  # noqa: E402
    RankCommand,
    RankCommandKind,
    RankMessage,
    RankMessageKind,
    RunOrder,
)
from trimtab.strategy import Strategy  # noqa: E402
from trimtab.workload import DataKind, DataSpec, TrainWorkload  # noqa: E402
from workers.data.language import LanguageData  # noqa: E402
from workers.data.order import SampleOrderError  # noqa: E402
from workers.data.translation import TranslationData  # noqa: E402
from workers.data.words import END_ID, PAD_ID  # noqa: E402
from workers.training import main as program  # noqa: E402
from workers.training.checkpoint_manifest import list_checkpoints, verify  # noqa: E402
from workers.training.distributed import RankInfo  # noqa: E402
from workers.training.evaluate import held_out_loss  # noqa: E402
from workers.training.generate import greedy, translate, whole_model  # noqa: E402
from workers.training.lineage import digest_of, joined_losses  # noqa: E402
from workers.training.loop import Ending, StopSignal, TrainingLoop  # noqa: E402
from workers.training.reports import CommandReader, Reporter  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workers.data.dataset import Samples
    from workers.data.order import IntArray

pytestmark = pytest.mark.runtime

NEVER = CheckpointPolicy(every_steps=0, every_s=0, keep=3)
RANK = RankInfo(rank=0, local_rank=0, world_size=1, device=torch.device("cpu"))


class Run:
    """One attempt in this process, with pipes in the place of an agent."""

    def __init__(self, order: RunOrder) -> None:
        self.order = order
        self.lines: list[str] = []
        self.signal = StopSignal()
        self._read, report = os.pipe()
        command, self._write = os.pipe()
        self._descriptors = (self._read, report, self._write)
        log = program.RankLog(0)
        log.always = self.lines.append  # type: ignore[method-assign]
        self.setting, self.progression = program._prepare(order, RANK, Reporter(report, self.lines.append), log)
        self.setting = replace(self.setting, commands=CommandReader(command, self.lines.append))
        self.loop = TrainingLoop(self.setting, self.progression, self.signal)

    def before_step(self, step: int, act: Callable[[], None]) -> None:
        """Do something while the batch of a step is read."""
        data = self.setting.data
        original = data.train

        def train(ids: IntArray) -> Samples:
            if self.progression.step + 1 == step:
                act()
            return original(ids)

        data.train = train  # type: ignore[method-assign]

    def command(self, command: RankCommand) -> None:
        """What the agent sends; waits until the reader has it."""
        os.write(self._write, wire.dumps(command).encode() + b"\n")
        reader = self.setting.commands
        for _ in range(1000):
            with reader._lock:
                if reader._commands:
                    return
            signal.sigtimedwait([], 0.005)
        raise AssertionError("the command did not arrive")

    def messages(self) -> list[RankMessage]:
        """What rank 0 has sent."""
        os.set_blocking(self._read, False)
        return [wire.loads(RankMessage, line) for line in os.read(self._read, 1 << 20).splitlines()]

    def close(self) -> None:
        """Close the pipes."""
        for descriptor in self._descriptors:
            os.close(descriptor)


@pytest.fixture
def runs() -> Iterator[Callable[[RunOrder], Run]]:
    made: list[Run] = []

    def make(order: RunOrder) -> Run:
        made.append(Run(order))
        return made[-1]

    yield make
    for run in made:
        run.close()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    write_texts(tmp_path / "texts")
    return RunFolder(root=tmp_path)


def _order(folder: RunFolder, policy: CheckpointPolicy = NEVER, **changes: int) -> RunOrder:
    train = replace(text_workload(folder.root / "texts"), **changes)
    order = make_order(folder, small_decoder(), train, Strategy(micro_batch=2, num_micro_batches=2), checkpoint=policy)
    Path(order.attempt_dir).mkdir(parents=True, exist_ok=True)
    return order


def _resumed(run: Run, folder: RunFolder) -> RunOrder:
    order = next_attempt(run.order, folder, resume_from=list_checkpoints(folder.checkpoint_dir)[0].path)
    Path(order.attempt_dir).mkdir(parents=True, exist_ok=True)
    return order


def _undisturbed(runs: Callable[[RunOrder], Run], tmp_path: Path) -> str:
    """The loss digest of the run without any interruption."""
    folder = RunFolder(root=tmp_path / "undisturbed")
    write_texts(folder.root / "texts")
    run = runs(_order(folder))
    assert run.loop.run() is Ending.COMPLETED
    return run.progression.loss_digest


def test_whole_run_reports_checkpoints_and_figures(folder: RunFolder, runs: Callable[[RunOrder], Run]) -> None:
    run = runs(_order(folder, CheckpointPolicy(every_steps=5, every_s=0, keep=2), evaluate_every_steps=4))
    assert run.loop.run() is Ending.COMPLETED
    figures = run.loop.figures
    data = run.setting.data
    assert isinstance(data, LanguageData)
    assert figures["num_steps"] == 12
    assert figures["num_samples"] == figures["num_samples_seen_in_epoch"] == 48
    assert figures["train_loss_final"] == run.progression.loss
    assert figures["perplexity"] == pytest.approx(math.exp(figures["held_out_loss_nats"]))
    assert figures["trigram_loss_nats"] == data.trigram_loss_nats()
    assert figures["tokens_per_s"] == pytest.approx(4 * 16 / figures["step_median_s"])
    assert figures["peak_tensor_bytes_rank_0"] > 3 * 4 * 10_000  # parameters and two moments of each
    assert figures["resident_bytes_rank_0"] > 1e7
    messages = run.messages()
    notes = [message.checkpoint for message in messages if message.checkpoint is not None]
    assert [note.step for note in notes] == [5, 10, 12]
    progress = [message.progress for message in messages if message.progress is not None]
    assert progress[-1].phase == "evaluate"
    assert (progress[-1].step, progress[-1].num_steps) == (12, 12)
    assert progress[-1].peak_memory_bytes == (int(figures["peak_tensor_bytes_rank_0"]),)
    # Nobody accepted them, so all are still there.
    assert [found.step for found in list_checkpoints(folder.checkpoint_dir)] == [12, 10, 5]
    assert sum("held-out loss" in line for line in run.lines) == 2
    curve = joined_losses(folder.checkpoint_dir)
    assert digest_of(curve) == run.progression.loss_digest
    assert len({point.samples for point in curve}) == 12


def test_loss_falls(folder: RunFolder, runs: Callable[[RunOrder], Run]) -> None:
    run = runs(_order(folder, num_steps=60))
    run.loop.run()
    losses = [float(point.loss) for point in joined_losses(folder.checkpoint_dir)]
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])


def test_stop_by_command_writes_a_checkpoint_and_the_rest_is_bit_equal(
    folder: RunFolder, runs: Callable[[RunOrder], Run], tmp_path: Path
) -> None:
    run = runs(_order(folder))
    run.before_step(7, lambda: run.command(RankCommand(kind=RankCommandKind.STOP, grace_s=30.0)))
    assert run.loop.run() is Ending.STOPPED
    assert [found.step for found in list_checkpoints(folder.checkpoint_dir)] == [7]
    again = runs(_resumed(run, folder))
    assert again.progression.step == 7
    assert again.loop.run() is Ending.COMPLETED
    assert again.progression.loss_digest == _undisturbed(runs, tmp_path)
    assert digest_of(joined_losses(folder.checkpoint_dir)) == again.progression.loss_digest


def test_stop_by_signal(folder: RunFolder, runs: Callable[[RunOrder], Run]) -> None:
    run = runs(_order(folder))
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        run.signal.install()
        run.before_step(3, lambda: signal.raise_signal(signal.SIGTERM))
        assert run.loop.run() is Ending.STOPPED
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert [found.step for found in list_checkpoints(folder.checkpoint_dir)] == [3]


def test_stop_during_the_last_evaluation(folder: RunFolder, runs: Callable[[RunOrder], Run]) -> None:
    run = runs(_order(folder))
    original = run.setting.data.held_out

    def held_out(ids: IntArray) -> Samples:
        run.command(RankCommand(kind=RankCommandKind.STOP, grace_s=30.0))
        return original(ids)

    run.setting.data.held_out = held_out  # type: ignore[method-assign]
    assert run.loop.run() is Ending.STOPPED
    again = runs(_resumed(run, folder))
    assert again.progression.step == 12
    assert again.loop.run() is Ending.COMPLETED
    assert again.loop.figures["num_steps"] == 12
    assert "step_median_s" not in again.loop.figures


def test_no_checkpoint_when_the_grace_is_too_short(folder: RunFolder, runs: Callable[[RunOrder], Run]) -> None:
    run = runs(_order(folder, CheckpointPolicy(every_steps=2, every_s=0)))

    def stop() -> None:
        run.setting.store.last_save_s = 10.0
        run.command(RankCommand(kind=RankCommandKind.STOP, grace_s=14.0))

    run.before_step(5, stop)
    assert run.loop.run() is Ending.STOPPED
    assert [found.step for found in list_checkpoints(folder.checkpoint_dir)] == [4, 2]


def test_fenced_attempt_stops_at_once_and_writes_nothing(folder: RunFolder, runs: Callable[[RunOrder], Run]) -> None:
    run = runs(_order(folder, CheckpointPolicy(every_steps=4, every_s=0)))
    run.before_step(6, lambda: run.command(RankCommand(kind=RankCommandKind.PUBLISHED, step=4, accepted=False)))
    assert run.loop.run() is Ending.STOPPED
    assert run.progression.step == 6
    assert [found.step for found in list_checkpoints(folder.checkpoint_dir)] == [4]
    assert any("fenced" in line for line in run.lines)


def test_checkpoint_by_command(folder: RunFolder, runs: Callable[[RunOrder], Run]) -> None:
    run = runs(_order(folder))
    run.before_step(3, lambda: run.command(RankCommand(kind=RankCommandKind.CHECKPOINT)))
    assert run.loop.run() is Ending.COMPLETED
    assert [found.step for found in list_checkpoints(folder.checkpoint_dir)] == [12, 3]


def test_checkpoint_by_time(folder: RunFolder, runs: Callable[[RunOrder], Run]) -> None:
    run = runs(_order(folder, CheckpointPolicy(every_steps=0, every_s=1e-9, keep=99)))
    run.loop.run()
    assert [found.step for found in list_checkpoints(folder.checkpoint_dir)] == list(range(12, 0, -1))


def test_accepted_checkpoints_prune_older_ones(folder: RunFolder, runs: Callable[[RunOrder], Run]) -> None:
    run = runs(_order(folder, CheckpointPolicy(every_steps=2, every_s=0, keep=1)))
    run.before_step(9, lambda: run.command(RankCommand(kind=RankCommandKind.PUBLISHED, step=6)))
    run.loop.run()
    assert [found.step for found in list_checkpoints(folder.checkpoint_dir)] == [12, 10, 8, 6]


def test_full_disk_is_a_warning_and_training_goes_on(folder: RunFolder, runs: Callable[[RunOrder], Run]) -> None:
    run = runs(_order(folder, CheckpointPolicy(every_steps=3, every_s=0, keep=9)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    run.before_step(5, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard)))
    run.before_step(8, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)))
    try:
        assert run.loop.run() is Ending.COMPLETED
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [found.step for found in list_checkpoints(folder.checkpoint_dir)] == [12, 9, 3]
    assert any("warning: no checkpoint of step 6" in line and "training goes on" in line for line in run.lines)


def test_disk_that_stays_full_fails_the_run_at_its_end(folder: RunFolder, runs: Callable[[RunOrder], Run]) -> None:
    run = runs(_order(folder, CheckpointPolicy(every_steps=3, every_s=0, keep=9)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    run.before_step(5, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard)))
    try:
        with pytest.raises(TrimtabError, match="could not be saved"):
            run.loop.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [found.step for found in list_checkpoints(folder.checkpoint_dir)] == [3]
    assert run.progression.step == 12


def test_resume_steps_back_over_a_damaged_checkpoint(folder: RunFolder, runs: Callable[[RunOrder], Run], tmp_path: Path) -> None:
    run = runs(_order(folder, CheckpointPolicy(every_steps=3, every_s=0, keep=9)))
    run.before_step(8, lambda: run.command(RankCommand(kind=RankCommandKind.STOP, grace_s=30.0)))
    run.loop.run()
    newest = list_checkpoints(folder.checkpoint_dir)[0].path
    assert newest.name == "step-8"
    shard = newest / "rank-0.safetensors"
    data = bytearray(shard.read_bytes())
    data[-100] ^= 4
    shard.write_bytes(data)
    again = runs(_resumed(run, folder))
    assert again.progression.step == 6
    assert any("stepping back" in line for line in again.lines)
    assert again.loop.run() is Ending.COMPLETED
    assert again.progression.loss_digest == _undisturbed(runs, tmp_path)
    assert digest_of(joined_losses(folder.checkpoint_dir)) == again.progression.loss_digest


def test_checkpoint_of_another_job_is_refused(folder: RunFolder, runs: Callable[[RunOrder], Run]) -> None:
    run = runs(_order(folder))
    run.loop.run()
    order = replace(_resumed(run, folder), spec=_order(folder, seed=99).spec)
    with pytest.raises(CheckpointError, match="another model or training workload"):
        runs(order)


def test_marks_that_contradict_the_step_stop_the_run(folder: RunFolder, runs: Callable[[RunOrder], Run]) -> None:
    run = runs(_order(folder))
    run.progression.step = 3  # as if three steps had been trained without marking their samples
    run.loop.run()
    with pytest.raises(SampleOrderError):
        runs(_resumed(run, folder))


def test_epochs_roll_over_with_every_sample_once(folder: RunFolder, runs: Callable[[RunOrder], Run]) -> None:
    run = runs(_order(folder, num_steps=3))
    num_samples = run.setting.data.num_train
    num_steps = 2 * num_samples // 4 + 3
    run = runs(_order(folder, num_steps=num_steps))
    run.loop.run()
    assert run.progression.guard.epoch * num_samples + run.progression.guard.num_seen == num_steps * 4
    assert run.loop.figures["epochs"] == pytest.approx(num_steps * 4 / num_samples)


def test_held_out_loss_is_that_of_the_plain_model_over_the_trigrams_targets(
    folder: RunFolder, runs: Callable[[RunOrder], Run]
) -> None:
    run = runs(_order(folder))
    data = run.setting.data
    assert isinstance(data, LanguageData)
    found = held_out_loss(run.setting.engine, data, global_batch=4, max_batches=None, go_on=lambda: True)
    assert found is not None
    model = whole_model(run.setting.engine, run.setting.model, run.setting.peers)
    samples = data.held_out(np.arange(data.num_held_out))
    with torch.no_grad():
        logits = model(torch.from_numpy(samples.tokens)).double()
    expected = F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(samples.targets).flatten(), ignore_index=-100)
    assert found[0] == pytest.approx(expected.item(), rel=1e-5)
    assert found[1] == int(data.facts["held_out_tokens"]) - 1  # exactly the trigram model's positions


@pytest.fixture(scope="module")
def translated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = RunFolder(root=tmp_path_factory.mktemp("translation"))
    train = TrainWorkload(
        num_steps=8,
        sequence_length=24,
        source_length=24,
        global_batch=8,
        data=DataSpec(kind=DataKind.TRANSLATION, size=600, held_out_frac=0.2),
    )
    order = make_order(folder, small_translator(), train, Strategy(micro_batch=4, num_micro_batches=2), checkpoint=NEVER)
    Path(order.attempt_dir).mkdir(parents=True)
    run = Run(order)
    assert run.loop.run() is Ending.COMPLETED
    yield run
    run.close()


def test_translation_run_scores_all_held_out_sentences(translated: Run) -> None:
    figures = translated.loop.figures
    data = translated.setting.data
    assert isinstance(data, TranslationData)
    assert figures["bleu_margin"] == figures["bleu"] - figures["lexicon_bleu"]
    assert figures["lexicon_bleu"] == data.lexicon_bleu()
    assert [message.progress.phase for message in translated.messages() if message.progress][-1] == "decode"


def test_greedy_decoding_takes_the_likeliest_word_each_time(translated: Run) -> None:
    data = translated.setting.data
    assert isinstance(data, TranslationData)
    model = whole_model(translated.setting.engine, translated.setting.model, translated.setting.peers)
    sources = torch.from_numpy(data.held_out_sources()[:6])
    found = greedy(model, sources, 10)
    for row in range(6):
        tokens = [1]
        while len(tokens) <= 10 and tokens[-1] != END_ID:
            with torch.no_grad():
                logits = model(torch.tensor([tokens]), sources[row : row + 1])
            tokens.append(int(logits[0, -1].argmax()))
        words = found[row].tolist()
        assert words[: len(tokens) - 1] == tokens[1:]
        assert all(word == PAD_ID for word in words[len(tokens) - 1 :])


def test_translations_come_in_the_order_of_the_data(translated: Run) -> None:
    data = translated.setting.data
    assert isinstance(data, TranslationData)
    model = whole_model(translated.setting.engine, translated.setting.model, translated.setting.peers)
    outputs = translate(model, data, 12, peers=translated.setting.peers, go_on=lambda: True)
    assert outputs is not None
    assert len(outputs) == data.num_held_out
    row = data.num_held_out // 2
    alone = greedy(model, torch.from_numpy(data.held_out_sources()[row : row + 1]), 12)[0].tolist()
    assert data.tokeniser.decode(outputs[row]) == data.tokeniser.decode(alone)
    assert translate(model, data, 12, peers=translated.setting.peers, go_on=lambda: False) is None


def test_final_checkpoint_of_a_run_verifies(translated: Run) -> None:
    found = list_checkpoints(Path(translated.order.checkpoint_dir))
    manifest = verify(found[0].path)
    assert manifest.run.step == 8
    assert manifest.run.strategy == translated.order.strategy


def test_model_family_must_suit_the_data(folder: RunFolder, runs: Callable[[RunOrder], Run]) -> None:
    order = _order(folder)
    wrong = replace(order, spec=replace(order.spec, model=small_translator()))
    with pytest.raises(SpecError, match=r"model\.family"):
        runs(wrong)


def test_memory_errors_are_told_from_others() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert program.is_out_of_memory(caught.value)
    assert program.is_out_of_memory(MemoryError())
    assert program.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not program.is_out_of_memory(RuntimeError("Connection closed by peer"))
    assert not program.is_out_of_memory(ValueError("out of memory"))


def test_summary_file_holds_the_digests(folder: RunFolder, runs: Callable[[RunOrder], Run]) -> None:
    run = runs(_order(folder, num_steps=2))
    run.loop.run()
    program._write_summary(run.order, run.loop)
    document = json.loads((Path(run.order.attempt_dir) / program.SUMMARY_FILE).read_text(encoding="utf-8"))
    assert document["loss_digest"] == run.progression.loss_digest
    assert document["figures"]["num_steps"] == 2
    assert RankMessageKind.CHECKPOINT in {message.kind for message in run.messages()}
