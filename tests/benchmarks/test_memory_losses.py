"""The benchmark of objectives with a memory: its reference loop, its comparison, and one small measurement each."""

import pytest
import torch


@pytest.fixture
def memory_losses(benchmark_script, monkeypatch):
    module = benchmark_script("memory_losses")
    monkeypatch.setattr(module, "MOST_ROUNDS", 2)
    monkeypatch.setattr(module, "BATCH_SIZE", 2)
    monkeypatch.setattr(module, "TIMED_QUERIES", 100)
    return module


def test_loop_finds_the_rows_whose_lower_cosine_is_highest(memory_losses, monkeypatch):
    monkeypatch.setattr(memory_losses, "NUM_POSITIVES", 1)
    # Directions in degrees. By sight 0 is near 1, by sound near 2; together nearest to 3.
    video, audio = torch.tensor([[0.0, 5.0, 90.0, 30.0], [0.0, 90.0, 5.0, 30.0]]).deg2rad()
    memories = [torch.stack([angle.cos(), angle.sin()], dim=1) for angle in (video, audio)]
    assert memory_losses.loop_search(*memories, 3).tolist() == [[3], [3], [3]]


def test_difference_counts_queries_and_measures_their_agreements(memory_losses):
    video = audio = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    one, other = torch.tensor([[1], [0], [0]]), torch.tensor([[1], [2], [1]])
    assert memory_losses.difference(video, audio, one, other) == (2, 1.0)  # query 2 chose between equals
    assert memory_losses.difference(video, audio, one, one) == (0, 0.0)


def test_another_result_is_an_error(memory_losses, monkeypatch):
    wrong = torch.arange(40).expand(300, 40)[:, :32]
    monkeypatch.setattr(memory_losses, "loop_search", lambda *_: wrong)
    with pytest.raises(AssertionError, match="the searches differ in 3"):
        memory_losses.measure_search(300, 8, "cpu")


def test_rows_and_tables(memory_losses):
    measures = (memory_losses.measure_search, memory_losses.measure_step)
    rows = [{"N": 300, "D": 8} | measure(300, 8, "cpu") for measure in measures]
    assert (rows[0]["compared"], rows[0]["queries"]) == (300, 100)
    assert rows[0]["ratio"].keys() == {"1", "2"}
    assert memory_losses.search_table(rows[:1]).count("| blocked |") == 2
    assert memory_losses.search_table(rows[:1]).count("| 1.00 | 1.00 |") == 2
    names = [timing["name"] for timing in rows[1]["timings"] if timing["threads"] == 2]
    assert names == ["info_nce", "avid", "cma"]
    assert memory_losses.step_table(rows[1:]).count("| 300 | 8 |") == 6
