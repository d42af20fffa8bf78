"""The table of docs/backbones.md: its rows, and the tests that its column names."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

pytest.importorskip("timm")


def test_rows_and_columns_of_the_page_are_those_of_the_script(benchmark_script):
    sizes = benchmark_script("backbone_sizes")
    lines = (REPOSITORY / "docs/backbones.md").read_text(encoding="utf-8").splitlines()
    table = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\| \w+ \| [`–]", line)
    ]
    table = [row for row in table if len(row) == len(sizes.COLUMNS)]
    assert f"| {' | '.join(sizes.COLUMNS)} |" in lines
    assert [(row[0], row[1].strip("`–")) for row in table[1:]] == [(row[0], row[2]) for row in sizes.ROWS]
    words = {each.word for each in benchmark_script("backbone_tests").EVIDENCE}
    assert all("maps" in row[6] and set(row[6].split(", ")) <= words for row in table[1:])


def test_evidence_is_tests_that_exist(benchmark_script):
    for each in benchmark_script("backbone_tests").EVIDENCE:
        text = (REPOSITORY / each.file).read_text(encoding="utf-8")
        assert all(f"def {function}(" in text for function in each.functions), each


def test_a_backbone_has_the_tests_of_its_network_in_another_size(benchmark_script):
    found = benchmark_script("backbone_tests")
    tested = {"maps": ["vit_tiny_patch16_224", "clip"], "export": ["timm-vit_tiny_patch16_224", "torchvision-s3d"]}
    assert found.words_of("timm", "vit_base_patch16_siglip_224", tested) == ["maps", "export"]
    assert found.words_of("timm", "convnext_tiny", tested) == []
    assert found.words_of("hf", "clip", tested) == ["maps"]
    assert found.words_of("torchvision", "s3d", tested) == ["export"]
