import json
import subprocess
import sys
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
    assert [row["what"] for row in rows].count("step") == 4
    assert {row["what"] for row in rows} == {"ceiling", "step", "loss", "shards"}
    assert [row["failed"] for row in rows if "failed" in row] == []
    assert all(row["seconds"] > 0 and row["flops"] > 0 for row in rows if row["what"] == "step")
    assert all(0 <= row["idle"] <= 1 and row["clips_per_second"] > 0 for row in rows if row["what"] == "shards")

    # Without the first row, and with half of the last: these two are made, and no other.
    lost = {lines[0], next(line for line in lines if '"loss"' in line)}
    kept = [line for line in lines if line not in lost]
    file.write_text("\n".join([*kept, lines[-1][:20]]))
    again = run(*words)
    assert again.returncode == 0, again.stderr
    now = file.read_text().splitlines()
    assert now[: len(kept)] == kept
    assert len(now) == len(lines) + 1, "the cut line stays, unread"
    for word in ("| + compile |", "| chunked |", "clips/s from shards"):
        assert word in again.stdout
    assert main("--table", "--file", str(file)) == 0
    assert capsys.readouterr().out.strip() in again.stdout


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


def test_the_table_relates_operations_to_the_ceiling_and_times_to_fp32(benchmark_script):
    rows = [
        {"machine": "one GPU", "what": "ceiling", "tflops": 100.0},
        step("fp32", 0.2),
        step("bf16", 0.05),
        {"machine": "one GPU", "what": "loss", "loss": "naive", "N": 64, "D": 8, "failed": "no memory"},
    ]
    text = benchmark_script("gpu_tables").tables(rows)
    assert "one GPU. The ceiling: a bf16 product at 100 TFLOP/s." in text
    assert "| a pair | 8 x 112² | fp32 | 4 | 200.0 | 20 | 1.00 | 10.0% | 1.50 |" in text  # 2e12 / 0.2 s = 10 TFLOP/s
    assert "| a pair | 8 x 112² | bf16 | 4 | 50.0 | 80 | 4.00 | 40.0% | 1.50 |" in text
    assert "Not measured: loss, naive, 64, 8: no memory" in text


@pytest.mark.parametrize(("clips_that_fit", "clips"), [(1000, 256), (255, 128), (3, 2), (0.5, 1)])
def test_the_batch_is_the_largest_power_of_two_that_takes_half_the_memory(
    benchmark_script, monkeypatch, clips_that_fit, clips
):
    gpu, plan, shape = benchmark_script("gpu"), benchmark_script("gpu_plan"), (2, 32)
    full = replace(plan.FULL, pairs=plan.SMALL.pairs)
    config = gpu.pair_config(full, "small pair", shape, torch.device("cpu"))
    clip_bytes = gpu.model_cost(config, 2, gpu.Precision()).saved_bytes / 2
    monkeypatch.setattr(gpu, "memory_bytes", lambda device: 2 * clips_that_fit * clip_bytes)
    assert gpu.pair_config(full, "small pair", shape, torch.device("cpu")).optim.batch_size == clips
