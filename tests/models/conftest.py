from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded_rng() -> Iterator[None]:
    """Weights are drawn from a fixed seed, and the generator is left as it was found."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
