"""Tests of each backbone, as pytest collects them: the column "tests" of docs/backbones.md."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
FOREIGN = "tests/models/foreign"


@dataclass(frozen=True)
class Evidence:
    """Tests of one property; a parameter of each is the backbone, or its library and the backbone."""

    word: str
    """Name of the property in the table."""
    file: str
    functions: tuple[str, ...]
    of: str = ""
    """The backbone of tests without such a parameter."""


EVIDENCE = (
    Evidence(
        "maps",
        f"{FOREIGN}/test_hf.py",
        ("test_video_maps_stages_and_gradients", "test_audio_maps_stages_and_gradients"),
    ),
    Evidence("maps", f"{FOREIGN}/test_timm.py", ("test_maps_stages_and_extra_tokens",)),
    Evidence("maps", f"{FOREIGN}/test_torchvision.py", ("test_maps_stages_and_gradients",)),
    Evidence("maps", f"{FOREIGN}/test_pe.py", ("test_a_cell_is_the_class_token_of_its_patch_alone",), "pe_video"),
    Evidence(
        "maps", f"{FOREIGN}/test_pe.py", ("test_the_audio_tower_and_its_padding_are_those_of_transformers",), "pe_audio"
    ),
    Evidence(
        "input",
        f"{FOREIGN}/test_hf.py",
        ("test_frames_equal_those_of_the_processor", "test_audio_equals_that_of_the_processor"),
    ),
    Evidence("input", f"{FOREIGN}/test_timm.py", ("test_input_equals_timms_own_transform",)),
    Evidence("input", f"{FOREIGN}/test_torchvision.py", ("test_frames_equal_those_of_the_transform_of_the_weights",)),
    Evidence("input", f"{FOREIGN}/test_pe.py", ("test_frames_are_those_of_the_processor",), "pe_video"),
    Evidence(
        "input",
        f"{FOREIGN}/test_pe.py",
        ("test_the_audio_tower_and_its_padding_are_those_of_transformers",),
        "pe_audio",
    ),
    Evidence("export", "tests/hub/export/test_foreign.py", ("test_exported",)),
    Evidence("export", "tests/recipes/test_pe_av.py", ("test_export",), "pe_video"),
    Evidence("export", "tests/recipes/test_pe_av.py", ("test_export",), "pe_audio"),
    Evidence(
        "adapters",
        f"{FOREIGN}/test_tower.py",
        ("test_adapters_start_as_the_backbone_and_are_all_that_is_trained",),
        "vit_tiny_patch16_224",
    ),
    Evidence(
        "resume",
        "tests/recipes/test_foreign_towers.py",
        ("test_adapters_resume_bit_for_bit_beside_one_copy_of_the_base",),
        "vit_tiny_patch16_224",
    ),
    Evidence(
        "ranks",
        "tests/recipes/test_foreign_towers.py",
        ("test_two_ranks_train_the_same_adapters",),
        "vit_tiny_patch16_224",
    ),
    Evidence(
        "release",
        "tests/recipes/test_foreign_towers.py",
        ("test_run_is_released_localized_and_fine_tuned",),
        "vit_tiny_patch16_224",
    ),
)
"""Properties in the order of the table."""


def collected(evidence: Iterable[Evidence] = EVIDENCE) -> dict[str, list[str]]:
    """Return the names of tested backbones by property.

    Raises:
        RuntimeError: If a function has no test.
    """
    evidence = list(evidence)
    files = sorted({each.file for each in evidence})
    words = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    tests = [re.fullmatch(r"([^:]+)::(\w+)(?:\[(.+)\])?", line) for line in done.stdout.splitlines()]
    found: dict[str, list[str]] = {}
    for each in evidence:
        for function in each.functions:
            own = [test for test in tests if test and (test[1], test[2]) == (each.file, function)]
            if not own:
                raise RuntimeError(f"{each.file} has no test {function}.")
            found.setdefault(each.word, []).extend([each.of] if each.of else [test[3] for test in own])
    return found


def words_of(library: str, backbone: str, tested: dict[str, list[str]]) -> list[str]:
    """Return the properties that are tested for the network of a backbone, in a small size."""
    own = family(library, backbone)
    return [
        word
        for word, names in tested.items()
        if any(family(library, name.removeprefix(f"{library}-")) == own for name in names)
    ]


def family(library: str, name: str) -> str:
    """Return the network of a backbone, without its size."""
    if library == "timm":
        from timm.models import is_model, model_entrypoint

        return str(model_entrypoint(name).__module__) if is_model(name) else name
    return name.partition("_")[0] if library == "torchvision" else name
