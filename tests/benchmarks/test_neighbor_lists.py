"""The benchmark of lists on few rows."""

import argparse

import pytest
import torch


def test_all_lists_have_full_recall(benchmark_script):
    script = benchmark_script("neighbor_lists")
    options = argparse.Namespace(rows=400, probes=[2, 10], lists=10, agreement="consensus", repeats=1, seed=0)
    exact, few, whole = (line.split("|") for line in script.measure("clusters", options))
    assert (float(exact[5]), float(whole[5])) == (1, 1)
    assert 0.2 < float(few[5]) < 1


def test_recall_is_the_share_of_expected_rows_that_are_found(benchmark_script):
    recall = benchmark_script("neighbor_lists").recall
    assert recall(torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[3, 2, 9], [6, 8, 9]])) == pytest.approx(0.5)
