import dataclasses

import numpy as np
import pytest

from avssl.core.errors import InputError
from avssl.features.corpus import Clips, default_clusters, explore_table
from avssl.features.table import FeatureTable, FeatureTableError, TableInfo

INFO = TableInfo("embeddings", 16, 16, 1.0, "0" * 16, "model", "files", "0" * 16, "0", {})


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def make_table(num_clips=60, num_windows=4):
    """Clips of three kinds, alike in both streams; clip 1 is a copy of clip 0, and the audio of clip 2 is another's."""
    draws = np.random.default_rng(0)
    kinds = draws.normal(size=(3, 16))
    kind = np.arange(num_clips) % 3
    drift = np.cumsum(0.3 * draws.normal(size=(num_clips, num_windows, 16)), axis=1)
    video = kinds[kind][:, None] + drift
    audio = kinds[np.where(np.arange(num_clips) == 2, 0, kind)][:, None] + drift
    video[1], audio[1] = video[0] + 0.02 * draws.normal(size=video[0].shape), audio[0]
    ids = np.repeat([f"{number}.mp4" for number in range(num_clips)], num_windows).astype(object)
    starts = np.tile(np.arange(num_windows, dtype=float), num_clips)
    return FeatureTable(INFO, ids, ids, starts, starts + 2, unit(video.reshape(-1, 16)), unit(audio.reshape(-1, 16)))


@pytest.fixture(scope="module")
def table():
    return make_table()


@pytest.fixture(scope="module")
def corpus(table):
    return explore_table(table, num_clusters=3)


def test_every_clip_gets_its_columns(corpus):
    ids = [*corpus.clips.ids[:3], "not in the table.mp4"]
    columns = {name: column.to_pylist() for name, column in corpus.columns(ids).items()}
    assert columns["duplicate_of"] == [None, "0.mp4", None, None]
    assert columns["cluster"][0] == columns["cluster"][1]
    assert float(columns["match"][2]) < 0.6 < 0.9 < float(columns["match"][0])
    assert [column[-1] for column in columns.values()] == [None] * 5


def test_planted_cases_come_first(corpus):
    assert corpus.match.argmin() == 2
    assert corpus.off_screen.argmax() == 2
    assert corpus.change[1] == pytest.approx(0, abs=1e-3)
    assert np.isnan(np.delete(corpus.change, 1)).all()


def test_clusters_are_the_kinds_in_order_of_size_and_medoids_are_no_copies(corpus):
    ordinary = np.arange(3, 60)
    assert len({(corpus.clusters[clip], clip % 3) for clip in ordinary}) == 3
    sizes = np.bincount(corpus.clusters)
    assert (np.diff(sizes) <= 0).all()
    for number, central in enumerate(corpus.medoids):
        assert (corpus.clusters[central] == number).all()
        assert 1 not in central


def test_the_same_seed_gives_the_same_and_the_order_of_rows_does_not_matter(table, corpus):
    order = np.random.default_rng(0).permutation(4)
    rows = (np.arange(60)[:, None] * 4 + order).reshape(-1)
    columns = {f.name: getattr(table, f.name)[rows] for f in dataclasses.fields(table)[1:]}
    shuffled = explore_table(FeatureTable(INFO, **columns), num_clusters=3)
    assert shuffled.duplicate_of.tolist() == corpus.duplicate_of.tolist()
    assert shuffled.clusters.tolist() == corpus.clusters.tolist()
    again = explore_table(table, num_clusters=3)
    assert again.match.tolist() == corpus.match.tolist()
    assert again.columns(["0.mp4"]) == corpus.columns(["0.mp4"])


def test_means_of_clips_are_those_of_their_windows(table):
    clips = Clips.of(table)
    values = np.arange(len(table), dtype=float)
    assert clips.means(values).tolist() == [values[rows].mean() for rows in clips.windows]
    assert np.linalg.norm(clips.means(table.video), axis=1) == pytest.approx(np.ones(60), abs=1e-5)


def test_progress_reaches_all_windows_and_clips(table):
    seen = {}
    explore_table(table, on_progress=lambda step, done, total: seen.__setitem__(step, (done, total)))
    assert seen == {"neighbors of windows": (240, 240), "neighbors of clips": (60, 60)}


def test_unusable_tables_are_errors(table):
    features = dataclasses.replace(table, info=dataclasses.replace(INFO, what="features"))
    with pytest.raises(FeatureTableError, match=r"holds features, not one embedding.*--what embeddings"):
        explore_table(features)
    none = dataclasses.replace(table, info=dataclasses.replace(INFO, audio_size=0), audio=table.audio[:, :0])
    with pytest.raises(FeatureTableError, match="holds no audio"):
        explore_table(none)
    with pytest.raises(FeatureTableError, match="the table has 1 files; a corpus needs two"):
        explore_table(dataclasses.replace(table, paths=np.full(240, "a.mp4", dtype=object)))
    with pytest.raises(InputError, match=r"num_clusters \(61\) must be at most 60"):
        explore_table(table, num_clusters=61)


def test_the_default_number_of_clusters_grows_with_the_root():
    assert [default_clusters(count) for count in (2, 200, 620, 10**6)] == [1, 10, 18, 100]


@pytest.mark.parametrize("num_clips", [0, 1])
def test_fewer_than_two_files_are_no_corpus(table, num_clips):
    rows = slice(0, 4 * num_clips)
    few = FeatureTable(
        INFO,
        table.ids[rows],
        table.paths[rows],
        table.start_seconds[rows],
        table.stop_seconds[rows],
        table.vectors("video")[rows],
        table.vectors("audio")[rows],
    )
    with pytest.raises(FeatureTableError, match=f"has {num_clips} files"):
        explore_table(few)


def test_equal_clips_of_one_window_are_copies():
    table = make_table(num_windows=1)
    video, audio = table.vectors("video").copy(), table.vectors("audio").copy()
    video[1], audio[1] = video[0], audio[0]
    video[3:9] = video[3]  # equal frames alone make no copy
    same = dataclasses.replace(table, video=video, audio=audio)
    copied = explore_table(same).duplicate_of
    assert copied.tolist() == [-1, 0, *[-1] * 58]
