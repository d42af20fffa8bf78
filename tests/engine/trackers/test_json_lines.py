import json

import pytest

from avssl.engine import read_metrics
from avssl.engine.trackers.json_lines import JsonLines


def log_steps(log, *steps):
    for step in steps:
        log.log({"step": step})
    log.finish(failed=False)


def test_lines_read_back_what_was_written(tmp_path):
    lines = JsonLines(tmp_path)
    lines.log({"step": 1, "loss": 2.5, "note": "a"})
    lines.log({"step": 2, "loss": float("nan")})
    lines.finish(failed=False)
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.5, "note": "a"}, {"step": 2, "loss": None}]
    assert read_metrics(tmp_path / "metrics.jsonl") == read_metrics(tmp_path)
    log_steps(JsonLines(tmp_path), 3)  # appends
    assert [r["step"] for r in read_metrics(tmp_path)] == [1, 2, 3]
    assert JsonLines(tmp_path).last_step() == 3


def test_a_start_drops_later_steps_and_an_incomplete_line(tmp_path):
    lines = JsonLines(tmp_path)
    log_steps(lines, 1, 2, 3, 4, 5)
    with lines.path.open("a") as file:
        file.write('{"step": 6, "lo')
    lines.start(3)
    assert lines.path.read_text() == "".join(json.dumps({"step": s}) + "\n" for s in (1, 2, 3))
    log_steps(lines, 4)
    assert [r["step"] for r in read_metrics(tmp_path)] == [1, 2, 3, 4]


def test_a_start_without_a_file_does_nothing(tmp_path):
    lines = JsonLines(tmp_path / "run")
    lines.start(0)
    assert lines.last_step() == 0
    assert not (tmp_path / "run").exists()


def test_read_metrics_names_a_damaged_line(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(ValueError, match="line 2"):
        read_metrics(tmp_path)


@pytest.mark.parametrize("first", ["write", "close"])
def test_a_full_disk_is_named_when_the_file_is_closed_too(tmp_path, file_size_limit, first):
    """A failed write stays in the buffer, and closing the file writes it again."""
    lines = JsonLines(tmp_path)
    lines.log({"step": 1})
    with file_size_limit(100):
        if first == "write":
            with pytest.raises(OSError, match=r"File too large: .*metrics\.jsonl"):
                lines.log({"step": 2, "text": "a" * 500})
        else:
            lines._file.write("a" * 500)
        with pytest.raises(OSError, match=r"File too large: .*metrics\.jsonl"):
            lines.finish(failed=False)
    lines.finish(failed=False)
