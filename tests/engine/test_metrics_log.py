import pytest

from avssl.engine import MetricsLog, read_metrics


class Recorder:
    """A tracker that keeps its calls, and fails in one of them."""

    def __init__(self, *, rewinds=False, fails_in=""):
        self.rewinds, self.fails_in, self.calls = rewinds, fails_in, []

    def start(self, step):
        self._call("start", step)

    def log(self, record):
        self._call("log", record["step"])

    def finish(self, *, failed):
        self._call("finish", failed)

    def _call(self, name, value):
        self.calls.append((name, value))
        if name == self.fails_in:
            raise ConnectionError("nobody answers")


def write_steps(folder, trackers, start, *steps):
    with MetricsLog(folder, trackers) as log:
        log.start(start)
        for step in steps:
            log.write({"step": step})
    return trackers[0].calls if trackers else []


def test_a_tracker_starts_at_the_first_record_and_finishes_once(tmp_path):
    tracker = Recorder()
    log = MetricsLog(tmp_path, [tracker])
    log.start(0)
    assert tracker.calls == []
    log.write({"step": 10})
    log.close(failed=True)
    log.close()
    assert tracker.calls == [("start", 0), ("log", 10), ("finish", True)]
    assert not (tmp_path / "trackers.json").exists()


def test_a_record_needs_a_step(tmp_path):
    with pytest.raises(ValueError, match="step"):
        MetricsLog(tmp_path).write({"loss": 1.0})
    assert not list(tmp_path.iterdir())


def test_a_resume_repeats_steps_only_to_trackers_that_rewind(tmp_path):
    """Killed after step 4, resumed at 2, killed after 3, and resumed at 2 again."""
    write_steps(tmp_path, [Recorder()], 0, 1, 2, 3, 4)
    assert write_steps(tmp_path, [Recorder()], 2, 3) == [("start", 2), ("finish", False)]
    assert write_steps(tmp_path, [Recorder()], 2, 3, 4, 5) == [("start", 2), ("log", 5), ("finish", False)]
    assert write_steps(tmp_path, [Recorder(rewinds=True)], 2, 3, 4) == [
        ("start", 2),
        ("log", 3),
        ("log", 4),
        ("finish", False),
    ]
    assert [r["step"] for r in read_metrics(tmp_path)] == [1, 2, 3, 4]


@pytest.mark.parametrize("call", ["start", "log", "finish"])
def test_a_tracker_that_fails_is_left_out_with_one_warning(tmp_path, call):
    broken, healthy = Recorder(fails_in=call), Recorder()
    with pytest.warns(match="Recorder is left out from here on: ConnectionError: nobody answers") as caught:
        write_steps(tmp_path, [broken, healthy], 0, 1, 2, 3)
    assert len(caught) == 1
    assert [name for name, _ in broken.calls].count(call) == 1
    assert broken.calls[-1][0] == call
    assert healthy.calls == [("start", 0), ("log", 1), ("log", 2), ("log", 3), ("finish", False)]
    assert [r["step"] for r in read_metrics(tmp_path)] == [1, 2, 3]


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("avssl.core.distributed.is_main", lambda: False)
    assert write_steps(tmp_path, [Recorder()], 0, 1) == []
    assert not list(tmp_path.iterdir())
