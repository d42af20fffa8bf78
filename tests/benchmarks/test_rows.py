import pytest
import torch


@pytest.fixture(scope="module")
def rows(benchmark_script):
    return benchmark_script("rows")


def test_rows_come_back_in_order(rows, tmp_path):
    file = tmp_path / "x.jsonl"
    assert rows.read_rows(file) == []
    for number in range(3):
        rows.append_row(file, {"number": number})
    assert rows.read_rows(file) == [{"number": 0}, {"number": 1}, {"number": 2}]


def test_a_row_that_was_cut_is_made_again(rows, tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_text('{"a": 1}\n{"a": 2, "b')
    assert rows.read_rows(file) == [{"a": 1}]
    rows.append_row(file, {"a": 2})
    assert rows.read_rows(file) == [{"a": 1}, {"a": 2}]


def test_the_machine_is_in_words(rows, monkeypatch):
    monkeypatch.setattr(rows, "bf16_units", lambda device: ["AMX"])
    monkeypatch.setattr(rows.platform, "machine", lambda: "x86_64")
    torch.set_num_threads(1)
    words = f"1 core of an x86 processor with AMX, torch {torch.__version__}"
    assert rows.machine(torch.device("cpu")) == words


def test_units_are_read_from_the_kernel(rows, monkeypatch, tmp_path):
    table = tmp_path / "cpuinfo"
    monkeypatch.setattr(rows, "Path", lambda name: table)
    for flags, units in (("flags\t\t: fpu amx_bf16 avx512_bf16", ["AMX", "AVX-512 BF16"]), ("flags : fpu avx2", [])):
        table.write_text(f"processor : 0\n{flags}\n")
        assert rows.bf16_units(torch.device("cpu")) == units
