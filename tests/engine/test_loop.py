import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from engine_toy import ToyLoader, ToyTask

from avssl.engine import (
    Checkpointer,
    LoopSettings,
    MetricsLog,
    Precision,
    WarmupCosine,
    create_optimizer,
    fit,
    load_checkpoint,
    read_metrics,
)


def run(folder=None, total=12, *, task=None, loader=None, resume=False, stop_after=None, **options):
    """Run a training; ``stop_after`` raises within the step after that one, as a kill would."""
    task, loader = task or ToyTask(), loader or ToyLoader()
    optimizer = create_optimizer(task, "adamw", lr=0.01, weight_decay=0.1)
    if stop_after is not None:
        whole_step = task.after_step

        def dying_step():
            if loader.position == stop_after + 1:
                raise KeyboardInterrupt
            whole_step()

        task.after_step = dying_step
    settings = LoopSettings(
        **({"total_steps": total, "steps_per_epoch": 5, "log_every": 4, "checkpoint_every": 3} | options)
    )
    checkpointer = Checkpointer(folder / "checkpoints") if folder else None
    log = MetricsLog(folder) if folder else None
    schedule = WarmupCosine(0.01, total_steps=12, warmup_steps=2)
    try:
        result = fit(
            task,
            loader,
            optimizer,
            schedule,
            settings=settings,
            checkpointer=checkpointer,
            metrics_log=log,
            progress=False,
            resume=resume,
        )
    except KeyboardInterrupt:
        result = None
    return task, optimizer, loader, result


def flat(state):
    """Return every leaf of nested containers by its path."""
    if isinstance(state, dict):
        return {f"{k}/{p}": v for k, item in state.items() for p, v in flat(item).items()}
    if isinstance(state, list | tuple):
        return {f"{i}/{p}": v for i, item in enumerate(state) for p, v in flat(item).items()}
    return {"": state}


def assert_same(first, second, ignore=()):
    first, second = flat(first), flat(second)
    assert first.keys() == second.keys()
    for name, value in first.items():
        if not any(word in name for word in ignore):
            same = torch.equal(value, second[name]) if isinstance(value, torch.Tensor) else value == second[name]
            assert same, (name, value, second[name])


TIMES = ("wall_seconds", "samples_per_second")


@pytest.mark.parametrize("killed_after", [3, 5, 7, 10])
def test_fit_resumed_equals_uninterrupted_bit_for_bit(tmp_path, killed_after):
    """Model, buffers, optimizer, loader, generator, open means and metrics.jsonl, from any step."""
    *_, whole = run(tmp_path / "whole")
    torch.randn(7)  # a generator in another state
    *_, result = run(tmp_path / "parts", stop_after=killed_after)
    assert result is None
    torch.randn(5)
    _, _, loader, parts = run(tmp_path / "parts", resume=True)

    assert loader.position == 12
    assert_same(load_checkpoint(whole.checkpoint), load_checkpoint(parts.checkpoint), ignore=TIMES)
    assert_same(read_metrics(tmp_path / "whole"), read_metrics(tmp_path / "parts"), ignore=TIMES)
    assert parts.samples_seen == 48


def test_fit_resumed_from_another_seed_would_differ(tmp_path):
    """The comparison above can fail: without the stored generator the dropout differs."""
    *_, whole = run(tmp_path / "whole")
    run(tmp_path / "parts", stop_after=7)
    path = tmp_path / "parts" / "checkpoints" / "step-000000006.pt"
    state = load_checkpoint(path)
    state["rng"][0]["cpu"] = torch.Generator().manual_seed(99).get_state()
    torch.save(state, path)
    *_, parts = run(tmp_path / "parts", resume=True)
    with pytest.raises(AssertionError):
        assert_same(load_checkpoint(whole.checkpoint)["task"], load_checkpoint(parts.checkpoint)["task"])


def test_fit_calls_on_epoch_start_once_per_epoch(tmp_path):
    run(tmp_path, stop_after=7)  # checkpoint at 6, in the middle of epoch 1
    task, *_ = run(tmp_path, resume=True)
    assert task.epochs == [2]
    assert run()[0].epochs == [0, 1, 2]


def test_fit_calls_on_epoch_start_after_a_resume_between_epochs(tmp_path):
    run(tmp_path, stop_after=6, checkpoint_every=5)
    task, *_ = run(tmp_path, resume=True, checkpoint_every=5)
    assert task.epochs == [1, 2]


def test_fit_tells_each_step_the_share_done_also_after_a_resume(tmp_path):
    assert run()[0].shares_done == [step / 12 for step in range(12)]
    run(tmp_path, stop_after=7)
    assert run(tmp_path, resume=True)[0].shares_done == [step / 12 for step in range(6, 12)]


def test_fit_logs_means_of_the_interval(tmp_path):
    losses = []

    class Recording(ToyTask):
        def forward(self, batch):
            terms = super().forward(batch)
            losses.append(terms.total.item())
            return terms

    *_, result = run(tmp_path, total=9, task=Recording())
    records = read_metrics(tmp_path)
    assert [r["step"] for r in records] == [4, 8, 9]
    for record, part in zip(records, (losses[:4], losses[4:8], losses[8:]), strict=True):
        assert record["loss"] == pytest.approx(sum(part) / len(part), rel=1e-5)
    first = records[0]
    assert first["samples_seen"] == 16
    assert first["epoch"] == 0.8
    assert first["lr"] == WarmupCosine(0.01, total_steps=12, warmup_steps=2)(3)
    assert first["grad_norm"] > 0
    assert result.metrics["loss"] == records[-1]["loss"]


def test_fit_reads_the_device_once_per_log(monkeypatch):
    """No .item() or .tolist() in a step that does not log."""
    counts = {"reads": 0}

    def counted(name):
        real = getattr(torch.Tensor, name)

        def wrapper(self, *args):
            counts["reads"] += 1
            return real(self, *args)

        monkeypatch.setattr(torch.Tensor, name, wrapper)

    for name in ("item", "tolist", "__bool__", "__float__", "__int__"):
        counted(name)
    task = ToyTask()
    optimizer = torch.optim.SGD(task.parameters(), lr=0.1)  # Adam on the CPU reads its own step count
    settings = LoopSettings(total_steps=20, steps_per_epoch=100, log_every=10)
    fit(task, ToyLoader(), optimizer, lambda step: 0.1, settings=settings, progress=False)
    assert counts["reads"] <= 2 * 5  # two logs: one transfer, and two tests on what was transferred


def test_fit_stops_at_nan_naming_the_last_good_checkpoint(tmp_path):
    with pytest.raises(RuntimeError, match=re.escape("loss became NaN between steps 6 and 8")) as caught:
        run(tmp_path, loader=ToyLoader(bad_from=6), log_every=4, checkpoint_every=3)
    newest = Checkpointer(tmp_path / "checkpoints").latest()
    assert newest.name == "step-000000006.pt"
    assert f"Last good checkpoint: step 6 ({newest})" in str(caught.value)
    task = load_checkpoint(newest)["task"]
    assert all(torch.isfinite(value).all() for value in task.values())


def test_fit_never_saves_after_a_nan_between_logs(tmp_path):
    """The checkpoint at 6 comes before the log at 100, so saving checks the losses itself."""
    with pytest.raises(RuntimeError, match="between steps 3 and 6"):
        run(tmp_path, loader=ToyLoader(bad_from=4), log_every=100, checkpoint_every=3)
    assert [p.name for p in Checkpointer(tmp_path / "checkpoints").files()] == ["step-000000003.pt"]


def test_fit_stops_at_an_infinite_gradient_of_a_finite_loss():
    class Root(ToyTask):
        def forward(self, batch):
            terms = super().forward(batch)
            zero = (self.model[0].weight * 0).sum()
            return type(terms)(terms.total + zero.sqrt())  # sqrt'(0) is infinite, and 0 * inf is NaN

    with pytest.raises(RuntimeError, match=r"the gradient became NaN between steps 0 and 1.*none yet"):
        run(task=Root(), log_every=1)


def test_fit_names_a_parameter_without_gradient():
    with pytest.raises(RuntimeError, match=r"1 trainable parameters got no gradient.*model\.idle\.weight"):
        run(task=ToyTask(unused=True))


def test_fit_names_a_parameter_that_is_not_in_the_optimizer():
    task = ToyTask()
    optimizer = torch.optim.SGD(task.model[0].parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"not in the optimizer: model\.1\.weight"):
        fit(task, ToyLoader(), optimizer, lambda s: 0.1, settings=LoopSettings(total_steps=1, steps_per_epoch=1))


def test_fit_over_an_earlier_run_raises(tmp_path):
    run(tmp_path)
    with pytest.raises(FileExistsError, match="--resume"):
        run(tmp_path)


def test_fit_reports_a_loader_that_ends():
    with pytest.raises(RuntimeError, match="ended after step 7"):
        run(loader=ToyLoader(stop_at=7))


def test_fit_resume_of_a_finished_run_changes_nothing(tmp_path):
    *_, first = run(tmp_path)
    before = read_metrics(tmp_path)
    *_, second = run(tmp_path, resume=True)
    assert second == first
    assert read_metrics(tmp_path) == before


def test_fit_clips_the_gradient():
    def largest_step(clip):
        task = ToyTask()
        start = torch.cat([p.detach().flatten().clone() for p in task.parameters()])
        optimizer = torch.optim.SGD(task.parameters(), lr=1.0)
        settings = LoopSettings(total_steps=1, steps_per_epoch=1, grad_clip=clip)
        fit(task, ToyLoader(), optimizer, lambda s: 1.0, settings=settings, progress=False)
        return (torch.cat([p.detach().flatten() for p in task.parameters()]) - start).norm().item()

    assert largest_step(0.125) == pytest.approx(0.125, rel=1e-4)
    assert largest_step(None) > 0.5


def test_fit_warns_when_a_resume_will_not_be_bit_exact(tmp_path):
    run(tmp_path, stop_after=7)
    with pytest.warns(UserWarning, match="precision .*bf16.* saved with .*fp32"):
        run(tmp_path, resume=True, precision=Precision("bf16"))


class CountingMonitor:
    def __init__(self):
        self.every_steps, self.runs = 5, 0

    def run(self, task):
        task.eval()
        self.runs += 1
        return {"monitor/runs": float(self.runs)}

    def observe(self, record):
        assert "loss" in record

    def state_dict(self):
        return {"runs": self.runs}

    def load_state_dict(self, state):
        self.runs = state["runs"]


def test_fit_runs_monitors_and_keeps_their_state(tmp_path):
    def train(monitor, total, resume):
        task = ToyTask()
        settings = LoopSettings(total_steps=total, steps_per_epoch=5, log_every=4, checkpoint_every=100)
        fit(
            task,
            ToyLoader(),
            create_optimizer(task, "adamw", lr=0.01, weight_decay=0.0),
            lambda s: 0.01,
            settings=settings,
            resume=resume,
            checkpointer=Checkpointer(tmp_path / "c"),
            metrics_log=MetricsLog(tmp_path),
            monitors=[monitor],
            progress=False,
        )
        assert task.training

    train(CountingMonitor(), 10, resume=False)
    monitor = CountingMonitor()
    train(monitor, 11, resume=True)
    assert monitor.runs == 3
    assert [(r["step"], r["monitor/runs"]) for r in read_metrics(tmp_path) if "monitor/runs" in r] == [
        (5, 1.0),
        (10, 2.0),
        (11, 3.0),
    ]


def test_fit_tells_its_numbers_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr("avssl.core.progress.SECONDS_BETWEEN_LINES", 0.0)
    task = ToyTask()
    settings = LoopSettings(total_steps=6, steps_per_epoch=5, log_every=3)
    fit(
        task, ToyLoader(), create_optimizer(task, "adamw", lr=0.01, weight_decay=0.0), lambda s: 0.01, settings=settings
    )
    lines = capsys.readouterr().err.splitlines()
    assert any(re.match(r"train: step 3 of 6, .* left, .*, loss=\d.*, clips/s=\d", line) for line in lines), lines


def test_settings_out_of_range_raise():
    with pytest.raises(ValueError, match=r"log_every \(0\)"):
        LoopSettings(total_steps=1, steps_per_epoch=1, log_every=0)
    with pytest.raises(ValueError, match=r"grad_clip \(0.0\)"):
        LoopSettings(total_steps=1, steps_per_epoch=1, grad_clip=0.0)


KILLED_RUN = """
import sys, time, torch
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from toy import ToyLoader, ToyTask
from avssl.engine import *
torch.set_num_threads(int(sys.argv[3]))
class Slow(ToyLoader):
    def __iter__(self):
        for batch in super().__iter__():
            time.sleep(0.02)
            yield batch
folder, task = Path(sys.argv[2]), ToyTask()
settings = LoopSettings(total_steps=400, steps_per_epoch=5, log_every=4, checkpoint_every=1)
fit(task, Slow(), create_optimizer(task, "adamw", lr=0.01, weight_decay=0.1),
    WarmupCosine(0.01, total_steps=12, warmup_steps=2), settings=settings,
    checkpointer=Checkpointer(folder / "checkpoints"), metrics_log=MetricsLog(folder))
"""


def test_fit_survives_sigkill(tmp_path):
    """A real kill among steps and writes (a checkpoint every step), resumed in another process."""
    script, folder = tmp_path / "run.py", tmp_path / "killed"
    script.write_text(KILLED_RUN)
    command = [sys.executable, str(script), str(Path(__file__).parent), str(folder), str(torch.get_num_threads())]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline and len(list(folder.glob("checkpoints/*8.pt"))) == 0:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL

    done = Checkpointer(folder / "checkpoints").load_latest()["step"]
    assert 7 <= done < 390
    total = done + 9
    *_, killed = run(folder, total=total, resume=True, checkpoint_every=1)
    *_, whole = run(tmp_path / "whole", total=total, checkpoint_every=total)
    assert_same(load_checkpoint(whole.checkpoint), load_checkpoint(killed.checkpoint), ignore=TIMES)
    assert_same(read_metrics(tmp_path / "whole"), read_metrics(folder), ignore=TIMES)
