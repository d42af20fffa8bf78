"""Small tables of random vectors."""

import numpy as np

from avssl.features.table import FeatureTable, TableInfo

INFO = TableInfo("embeddings", 4, 4, 1.0, "0123456789abcdef", "../run", "../videos", "c0ffee", "0.1.0", {"train": {}})


def unit(count: int, size: int = 4, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make(count: int = 5, info: TableInfo = INFO, **columns) -> FeatureTable:
    names = np.array([f"clip {number // 2} ü.mp4" for number in range(count)], dtype=object)
    start = np.arange(count, dtype=np.float64)
    whole = {"ids": names, "paths": names, "start_seconds": start, "stop_seconds": start + 2}
    whole |= {"video": unit(count, info.video_size), "audio": unit(count, info.audio_size, seed=1)}
    return FeatureTable(info, **(whole | columns))
