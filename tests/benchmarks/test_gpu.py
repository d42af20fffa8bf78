import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def run(*words):
    return subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, timeout=600)


@pytest.fixture
def main(benchmark_script, monkeypatch):
    """Return ``main(*words)``: the script run in this process, without a GPU."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    def call(*words):
        monkeypatch.setattr("sys.argv", ["gpu.py", *words])
        return benchmark_script("gpu").main()

    return call


def test_the_miniature_measures_everything_and_an_interrupted_run_goes_on(tmp_path, main, capsys):
    file = tmp_path / "rows.jsonl"
    words = ("--device", "cpu", "--small", "--file", str(file), "--folder", str(tmp_path / "corpus"))
    done = run(*words)
    assert done.returncode == 0, done.stderr
    lines = file.read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["what"] for row in rows].count("step") == 7
    assert {row["what"] for row in rows} == {"ceiling", "bound", "step", "loss", "shards"}
    assert not [row for row in rows if "failed" in row]
    assert all(row["seconds"] > 0 and row["flops"] > 0 for row in rows if row["what"] == "step")
    assert all(0 <= row["idle"] <= 1 and row["clips_per_second"] > 0 for row in rows if row["what"] == "shards")

    # Without the first row, and with half of the last: these two are made, and no other.
    lost = {lines[0], next(line for line in lines if '"loss"' in line)}
    kept = [line for line in lines if line not in lost]
    file.write_text("\n".join([*kept, lines[-1][:20]]))
    assert main(*words) == 0
    again = capsys.readouterr().out
    now = file.read_text().splitlines()
    assert now[: len(kept)] == kept
    assert len(now) == len(lines) + 1, "the cut line stays, unread"
    for word in ("| with compile |", "| chunked |", "clips/s from shards"):
        assert word in again
    assert main("--table", "--file", str(file)) == 0
    assert capsys.readouterr().out.strip() in again


def test_without_a_gpu_the_error_is_one_line(tmp_path, main, capsys):
    assert main("--file", str(tmp_path / "rows.jsonl")) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert "no GPU" in error


def test_rows_of_another_machine_are_not_mixed(tmp_path, main):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"machine": "another", "what": "ceiling", "tflops": 1.0}\n')
    with pytest.raises(SystemExit, match="rows of another, but this is"):
        main("--device", "cpu", "--small", "--file", str(file))


def step(stage, seconds, **more):
    named = {"machine": "one GPU", "what": "step", "pair": "a pair", "clip": "8 x 112²", "stage": stage}
    return named | {"clips": 4, "seconds": seconds, "flops": 2e12, "peak_gib": 1.5} | more


def bound(variant, milliseconds):
    return {"what": "bound", "pair": "a pair", "clip": "8 x 112²", "clips": 4, "variant": variant, "ms": milliseconds}


def test_the_table_relates_operations_to_the_ceiling_and_times_to_fp32(benchmark_script):
    rows = [
        {"machine": "one GPU", "what": "ceiling", "tflops": 100.0},
        {"machine": "one GPU", "what": "bound", "bounds": [bound("eager", 20.0), bound("all fused", 10.0)]},
        step("fp32", 0.2),
        step("bf16", 0.05),
        {"machine": "one GPU", "what": "loss", "loss": "naive", "N": 64, "D": 8, "failed": "no memory"},
    ]
    text = benchmark_script("gpu_tables").tables(rows)
    assert "one GPU. The ceiling: a bf16 product at 100 TFLOP/s." in text
    assert (
        "| a pair | 8 x 112² | fp32 | 4 | 200.0 | 20 | 1.00 | 10.0% | 1.50 | - | - | - |" in text
    )  # 2e12 / 0.2 s = 10 TFLOP/s
    assert "| a pair | 8 x 112² | bf16 | 4 | 50.0 | 80 | 4.00 | 40.0% | 1.50 | 20.0 | 10.0 | 40% |" in text
    assert "Not measured: loss, naive, 64, 8: no memory" in text


@pytest.mark.parametrize(("clips_that_fit", "clips"), [(1000, 256), (255, 128), (3, 2), (0.5, 1)])
def test_the_batch_is_the_largest_power_of_two_that_takes_half_the_memory(
    benchmark_script, monkeypatch, clips_that_fit, clips
):
    gpu, plan = benchmark_script("gpu"), benchmark_script("gpu_plan")
    case, full = plan.SMALL.cases[0], replace(plan.FULL, cases=plan.SMALL.cases)
    clip_bytes = gpu.model_cost(case.config(2), 2, gpu.Precision()).saved_bytes / 2
    monkeypatch.setattr(gpu, "memory_bytes", lambda device: 2 * clips_that_fit * clip_bytes)
    assert gpu.case_config(full, case, torch.device("cpu")).optim.batch_size == clips


def test_time_that_is_over_leaves_the_rest_for_the_next_run(benchmark_script, monkeypatch, tmp_path, capsys):
    gpu, file = benchmark_script("gpu"), tmp_path / "rows.jsonl"

    def endless():
        try:
            while True:
                time.sleep(0.01)
        except Exception:
            pytest.fail("a retry caught the end of the time")

    found = [({"what": "ceiling"}, lambda: {"tflops": 1.0}), ({"what": "loss"}, endless), ({"what": "shards"}, endless)]
    monkeypatch.setattr(gpu, "measurements", lambda *_: iter(found))
    gpu.measure_missing(None, file, tmp_path, torch.device("cpu"), minutes=2 / 60)
    assert [json.loads(line)["what"] for line in file.read_text().splitlines()] == ["ceiling"]
    assert "left for the next run: loss; shards\n" in capsys.readouterr().out
