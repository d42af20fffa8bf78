import json

import pytest

from avssl.engine import MetricsLog, read_metrics


def test_log_reads_back_what_was_written(tmp_path):
    with MetricsLog(tmp_path, tensorboard=False) as log:
        log.write({"step": 1, "loss": 2.5, "note": "a"})
        log.write({"step": 2, "loss": float("nan")})
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.5, "note": "a"}, {"step": 2, "loss": None}]
    assert read_metrics(tmp_path / "metrics.jsonl") == read_metrics(tmp_path)
    with MetricsLog(tmp_path, tensorboard=False) as log:  # appends
        log.write({"step": 3})
    assert [r["step"] for r in read_metrics(tmp_path)] == [1, 2, 3]


def test_log_needs_a_step(tmp_path):
    with pytest.raises(ValueError, match="step"):
        MetricsLog(tmp_path).write({"loss": 1.0})
    assert not list(tmp_path.iterdir())


def test_truncate_after_drops_later_steps_and_an_incomplete_line(tmp_path):
    log = MetricsLog(tmp_path, tensorboard=False)
    for step in range(1, 6):
        log.write({"step": step})
    log.close()
    with log.path.open("a") as file:
        file.write('{"step": 6, "lo')
    log.truncate_after(3)
    assert log.path.read_text() == "".join(json.dumps({"step": s}) + "\n" for s in (1, 2, 3))
    log.write({"step": 4})
    log.close()
    assert [r["step"] for r in read_metrics(tmp_path)] == [1, 2, 3, 4]


def test_truncate_after_without_a_file_does_nothing(tmp_path):
    MetricsLog(tmp_path / "run").truncate_after(0)
    assert not (tmp_path / "run").exists()


def test_read_metrics_names_a_damaged_line(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(ValueError, match="line 2"):
        read_metrics(tmp_path)


def test_tensorboard_holds_the_numbers_and_a_resume_hides_later_ones(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with MetricsLog(tmp_path) as log:
        for step in (1, 2, 3):
            log.write({"step": step, "loss": float(step), "name": "text", "bad": float("inf")})
    resumed = MetricsLog(tmp_path)
    resumed.truncate_after(2)
    resumed.write({"step": 3, "loss": 30.0})
    resumed.close()
    events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss"]
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 1.0), (2, 2.0), (3, 30.0)]


@pytest.mark.parametrize("first", ["write", "close"])
def test_a_full_disk_is_named_when_the_file_is_closed_too(tmp_path, file_size_limit, first):
    """A failed write stays in the buffer, and closing the file writes it again."""
    log = MetricsLog(tmp_path, tensorboard=False)
    log.write({"step": 1})
    with file_size_limit(100):
        if first == "write":
            with pytest.raises(OSError, match=r"File too large: .*metrics\.jsonl"):
                log.write({"step": 2, "text": "a" * 500})
        else:
            log._file.write("a" * 500)
        with pytest.raises(OSError, match=r"File too large: .*metrics\.jsonl"):
            log.close()
    log.close()
