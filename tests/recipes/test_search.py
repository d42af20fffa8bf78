import dataclasses
import shutil
import wave
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest
import torch

from avssl.cli import main
from avssl.core.errors import InputError
from avssl.evaluation import AGGREGATIONS, moment_similarity
from avssl.features.table import FeatureTable, FeatureTableError, read_feature_table, write_feature_table
from avssl.hub.pretrained import from_pretrained, save_pretrained
from avssl.media import open_media, write_video
from avssl.models import TextEncoder
from avssl.recipes.embed import embed
from avssl.recipes.search import search
from avssl.training.build import build_model

HOSTILE = 'it\'s <b>#1? & 100% "x".mp4'


def make_changing(path, seed, seconds=4):
    """Write a video whose colored squares and chord change every half second, so that all windows differ."""
    generator = torch.Generator().manual_seed(seed)
    squares = torch.randint(0, 256, (2 * seconds, 3, 4, 6), generator=generator).float()
    frames = torch.nn.functional.interpolate(squares, scale_factor=8).repeat_interleave(4, dim=0)
    time = torch.arange(4000) / 8000
    pitches = torch.rand(2 * seconds, 3, generator=generator) * 3000 + 100
    chords = [torch.sin(6.28318 * pitch[:, None] * time).sum(dim=0) for pitch in pitches]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, frames.to(torch.uint8), 8.0, 0.2 * torch.cat(chords)[None], 8000)


@pytest.fixture(scope="module")
def world(tmp_path_factory, run):
    """The table of the windows of six files."""
    path = tmp_path_factory.mktemp("world")
    for number, name in enumerate([*(f"clip{number}.mp4" for number in range(5)), HOSTILE]):
        make_changing(path / "videos" / name, number)
    return embed(
        path / "videos", checkpoint=run, out=path / "f.parquet", stride_seconds=0.5, num_workers=0, device="cpu"
    )


@pytest.fixture(scope="module")
def wav(world, tmp_path_factory):
    """The audio of one file, without video."""
    path = tmp_path_factory.mktemp("query") / "query.wav"
    with open_media(world.parent / "videos" / "clip3.mp4") as reader, wave.open(str(path), "wb") as out:
        info = reader.info
        samples = reader.read_audio(info.audio_start_seconds, info.audio_stop_seconds)[0]
        out.setparams((1, 2, info.audio_sample_rate_hz, 0, "NONE", "not compressed"))
        out.writeframes((samples * 32767).round().to(torch.int16).numpy().tobytes())
    return path


def words(world, *more):
    return ["search", str(world), "--device", "cpu", *map(str, more)]


def copied(world, folder):
    """Copy the table away from its model and its files."""
    (folder / "far" / "away").mkdir(parents=True)
    return shutil.copy(world, folder / "far" / "away" / "moved.parquet")


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_a_file_finds_its_own_window(world, modality):
    """The query is a window of the table, so its own row is the first hit, at cosine 1 and at its time."""
    table = read_feature_table(world)
    row = int(np.flatnonzero(table.ids == "clip2.mp4")[3])
    middle = float(table.start_seconds[row] + table.stop_seconds[row]) / 2
    video = world.parent / "videos" / "clip2.mp4"
    (found,) = search(world, **{modality: video}, at_seconds=middle, gallery=modality, device="cpu")
    best = found.hits[0]
    assert best.cosine == pytest.approx(1, abs=1e-4)
    assert best.row == row
    assert found.level.count == len(table)
    assert [hit.cosine for hit in found.hits] == sorted((hit.cosine for hit in found.hits), reverse=True)


def test_an_audio_file_finds_its_video(world, wav, capsys):
    assert main(words(world, "--audio", wav, "--gallery", "audio", "-k", 3, "--at-seconds", 2)) == 0
    said = capsys.readouterr().out
    first = next(line for line in said.splitlines() if line.lstrip().startswith("1"))
    assert first.split()[-1] == "clip3.mp4"
    assert float(first.replace("~", " ").split()[1]) > 0.999
    assert "Audio windows that resemble the audio." in said
    assert "windows of 6 files" in said


def test_audio_is_compared_with_frames_and_with_audio(world, wav, capsys):
    both = search(world, audio=wav, at_seconds=2.0, device="cpu", k=4)
    assert [found.modality for found in both] == ["video", "audio"]
    table = read_feature_table(world)
    assert table.paths[both[1].hits[0].row] == "clip3.mp4"
    for found in both:
        rows = [hit.row for hit in found.hits]
        assert len(rows) == 4
        for i, a in enumerate(rows):  # distinct windows
            for b in rows[:i]:
                same = table.paths[a] == table.paths[b]
                assert not same or abs(table.start_seconds[a] - table.start_seconds[b]) >= 1 - 1e-6
    assert "Video windows that match the audio." in capsys.readouterr().out


def test_moments_are_embedded_and_compared_by_each_aggregation(world, run, wav, tmp_path, capsys):
    out = tmp_path / "moments.parquet"
    given = ["embed", str(world.parent / "videos"), "--checkpoint", str(run), "-o", str(out), "--device", "cpu"]
    assert main([*given, "--num-workers", "0", "--what", "moments"]) == 0
    table = read_feature_table(out)
    assert table.info.moments > 1
    assert (
        table.info.video_size == table.info.audio_size == table.info.moments * from_pretrained(run).model.embedding_size
    )
    row = int(np.flatnonzero(table.ids == "clip2.mp4")[2])
    middle = float(table.start_seconds[row] + table.stop_seconds[row]) / 2
    query, gallery = (torch.from_numpy(x).unflatten(1, (table.info.moments, -1)) for x in (table.video, table.audio))
    for aggregation in (None, *AGGREGATIONS):
        (part,) = search(out, id="clip2.mp4", by="video", at_seconds=middle, gallery="audio", aggregation=aggregation)
        expected = moment_similarity(query[[row]], gallery, aggregation or "diagonal_mean")[0]
        assert part.hits[0].cosine == pytest.approx(expected.max().item(), abs=1e-6)
    video = world.parent / "videos" / "clip2.mp4"
    (part,) = search(out, video=video, gallery="video", device="cpu", at_seconds=middle)
    assert part.hits[0].cosine == pytest.approx(1, abs=1e-4)
    with pytest.raises(
        FeatureTableError, match=r"aggregation \(max\) compares moments, and the table holds embeddings"
    ):
        search(world, audio=wav, aggregation="max", device="cpu")
    assert main(words(out, "--text", "a dog")) == 2
    assert "--text has no moments to compare" in capsys.readouterr().err


def test_a_row_of_the_table_needs_no_model(world, tmp_path, capsys):
    moved = copied(world, tmp_path)  # neither model nor files are beside it
    (found,) = search(moved, id="clip1.mp4", by="video", gallery="video", at_seconds=2.0)
    table = read_feature_table(world)
    best = found.hits[0]
    assert table.paths[best.row] == "clip1.mp4"
    assert best.cosine == pytest.approx(1, abs=1e-6)
    assert abs((table.start_seconds[best.row] + table.stop_seconds[best.row]) / 2 - 2.0) <= 0.25 + 1e-6
    assert main(words(world, "--id", "clip9.mp4")) == 1
    assert "no row of the table has the id 'clip9.mp4'. Did you mean 'clip" in capsys.readouterr().err


def test_a_hit_among_unrelated_windows_is_marked(world, tmp_path, capsys):
    """Random vectors match at chance level only; a planted one stands out."""
    table = read_feature_table(world)
    generator, count = np.random.default_rng(0), 3000
    noise = generator.normal(size=(count, 64)).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    names = np.array([f"{number}.mp4" for number in range(count)], dtype=object)
    info, start = dataclasses.replace(table.info, video_size=64, audio_size=64), np.zeros(count)
    others = noise[::-1].copy()
    write_feature_table(FeatureTable(info, names, names, start, start + 1, others, noise), tmp_path / "noise.parquet")
    words = {"id": "5.mp4", "by": "audio"}
    (found,) = search(tmp_path / "noise.parquet", gallery="audio", **words)
    assert found.level.mean == pytest.approx(0, abs=0.01)
    assert [hit.is_weak for hit in found.hits] == [False] + [True] * 9
    said = capsys.readouterr().out
    assert "   1=   1.000" in said
    assert said.count("~ ") == 9
    (found,) = search(tmp_path / "noise.parquet", gallery="video", k=3, **words)
    assert found.hits[0].row == count - 6  # its frames have the same vector
    assert [hit.is_weak for hit in found.hits] == [False, True, True]
    others[count - 6] = noise[0]
    write_feature_table(FeatureTable(info, names, names, start, start + 1, others, noise), tmp_path / "none.parquet")
    capsys.readouterr()
    (found,) = search(tmp_path / "none.parquet", gallery="video", k=3, **words)
    assert "No hit is better." in capsys.readouterr().out


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def test_the_page_shows_and_links_the_hits(world, wav, tmp_path, capsys):
    page = tmp_path / "pages" / "results.html"
    everything = search(world, audio=wav, k=100, out=page, device="cpu")
    assert f"page: {page}" in capsys.readouterr().out
    shown = Page(page.read_text(encoding="utf-8"))
    tags = [tag for tag, _ in shown.tags]
    assert tags.count("video") == sum(len(found.hits) for found in everything)
    assert tags.count("audio") == 1  # the query has no video
    assert "script" not in tags
    assert tags.count("b") == tags.count("figure")  # those of the captions; file names are escaped
    table = read_feature_table(world)
    for tag, attributes in shown.tags:
        if tag == "video":
            address, _, fragment = attributes["src"].partition("#")
            file = (page.parent / unquote(address)).resolve()
            assert file.is_file()
            assert file.parent == (world.parent / "videos").resolve()
            start, stop = map(float, fragment.removeprefix("t=").split(","))
            rows = table.paths == file.name
            assert np.abs(table.start_seconds[rows] - start).min() < 1e-3
            assert stop > start
            assert attributes["poster"].startswith("data:image/jpeg;base64,")
    assert HOSTILE in shown.text
    assert "https:" not in page.read_text(encoding="utf-8")


def test_the_page_reports_missing_files(world, tmp_path):
    moved = copied(world, tmp_path)
    page = tmp_path / "results.html"
    words = {"id": "clip1.mp4", "by": "audio", "gallery": "audio", "k": 2, "out": page}
    search(moved, **words)
    assert page.read_text().count("the file cannot be opened") == 3
    search(moved, root=world.parent / "videos", overwrite=True, **words)
    assert page.read_text().count("<video") == 3


def test_other_weights_raise(world, run, wav, tmp_path, capsys):
    pretrained = from_pretrained(run)
    other = build_model(pretrained.config, seed=99)
    save_pretrained(tmp_path / "other", other, pretrained.transform, pretrained.config)
    assert main(words(world, "--audio", wav, "--checkpoint", tmp_path / "other")) == 1
    said = capsys.readouterr().err
    assert f"was made by the weights {pretrained.weights_hash()}, but {tmp_path / 'other'} has" in said
    moved = copied(world, tmp_path)
    assert main(words(moved, "--audio", wav)) == 1
    assert "its model is no longer at" in capsys.readouterr().err
    assert main(words(moved, "--audio", wav, "--checkpoint", run)) == 0


def test_a_query_without_the_stream_raises(world, wav, tmp_path, capsys):
    assert main(words(world, "--video", wav)) == 1
    assert "there is no video stream. Name another file, or search by its other stream with --audio" in (
        " ".join(capsys.readouterr().err.split())
    )
    silent = tmp_path / "silent.mp4"
    write_video(silent, torch.zeros(8, 3, 32, 32, dtype=torch.uint8), 8.0)
    assert main(words(world, "--audio", silent)) == 1
    assert "there is no audio stream. Name another file" in capsys.readouterr().err
    assert main(words(world, "--audio", wav, "--at-seconds", "40")) == 1
    assert "at_seconds (40) lies outside the audio of" in capsys.readouterr().err


def test_queries_shorter_than_a_window_are_padded(world, tmp_path):
    short = tmp_path / "short.mp4"
    frames = torch.randint(0, 255, (3, 3, 32, 32), dtype=torch.uint8)
    write_video(short, frames, 8.0, 0.3 * torch.randn(1, 2400), 8000)
    for modality in ("audio", "video"):
        found = search(world, **{modality: short}, device="cpu", k=1)
        assert np.isfinite([part.hits[0].cosine for part in found]).all()


def test_features_are_searched_in_their_own_modality(world, run, wav, tmp_path):
    out = tmp_path / "features.parquet"
    options = {"stride_seconds": 0.5, "num_workers": 0, "device": "cpu", "progress": False}
    embed(world.parent / "videos", checkpoint=run, out=out, what="features", **options)
    (found,) = search(out, audio=wav, at_seconds=2.0, device="cpu", k=1)
    assert found.modality == "audio"
    assert read_feature_table(out).paths[found.hits[0].row] == "clip3.mp4"
    with pytest.raises(FeatureTableError, match=r"compare audio with audio only.*--what embeddings"):
        search(out, audio=wav, gallery="video", device="cpu")


def test_wrong_queries_raise(world, wav, tmp_path, capsys):
    assert main(words(world)) == 2
    assert "name one query" in capsys.readouterr().err
    assert main(words(world, "--audio", wav, "--video", wav)) == 2
    assert "name one query" in capsys.readouterr().err
    assert main(words(world, "--audio", wav, "-k", "0")) == 2
    assert "k (0) must be >= 1" in capsys.readouterr().err
    assert main(words(tmp_path / "none.parquet", "--audio", wav)) == 1
    assert "no such file. Make one with: avssl embed" in capsys.readouterr().err
    assert main(words(wav, "--audio", wav)) == 1
    assert "not a readable Parquet file" in capsys.readouterr().err
    table = read_feature_table(world)
    columns = [getattr(table, field.name)[:0] for field in dataclasses.fields(table)[1:]]
    write_feature_table(FeatureTable(table.info, *columns), world.parent / "empty.parquet")
    assert main(words(world.parent / "empty.parquet", "--audio", wav)) == 1
    assert "has no windows" in capsys.readouterr().err
    assert main(["search", "--help"]) == 0
    assert "The list always has a first hit" in " ".join(capsys.readouterr().out.split())


class _Known(torch.nn.Module):
    """A text tower that knows the vectors of one window: both of them, side by side."""

    def __init__(self, table, row):
        super().__init__()
        self.known = torch.nn.Parameter(torch.from_numpy(np.concatenate([table.video[row], table.audio[row]])))

    def forward(self, count):
        return self.known.expand(len(count), -1)


class _Half(torch.nn.Module):
    def __init__(self, start, stop):
        super().__init__()
        self.part = slice(start, stop)

    def forward(self, x):
        return x[:, self.part]


def test_words_find_windows_of_both_streams(world, run, tmp_path, monkeypatch, capsys):
    """Words are compared with each stream by the projection for it, and stand on the page as they are."""
    table, words_of_it = read_feature_table(world), f"a <b>dog</b> & {HOSTILE}"
    row = int(np.flatnonzero(table.ids == "clip4.mp4")[2])

    def with_text(*_):
        pretrained = from_pretrained(run)
        size = table.video.shape[1]
        projections = {"video": _Half(0, size), "audio": _Half(size, 2 * size)}
        tower = _Known(table, row)
        pretrained.load_text = lambda: TextEncoder(lambda texts: {"count": torch.ones(len(texts))}, tower, projections)
        return pretrained

    monkeypatch.setattr("avssl.recipes.search.model_of_table", with_text)
    page = tmp_path / "page.html"
    both = search(world, text=words_of_it, k=2, out=page, device="cpu")
    assert [found.modality for found in both] == ["video", "audio"]
    assert [found.hits[0].row for found in both] == [row, row]
    assert [found.hits[0].cosine for found in both] == pytest.approx([1, 1], abs=1e-5)
    said = capsys.readouterr().out
    assert f"query: the text “{words_of_it}”" in said
    assert "Audio windows that match the text." in said
    shown = Page(page.read_text(encoding="utf-8"))
    assert f"Matches for “{words_of_it}”" in shown.text
    tags = [tag for tag, _ in shown.tags]
    assert tags.count("figure") == tags.count("video") == 4  # a text has no card of its own
    assert tags.count("b") == 4
    with pytest.raises(InputError, match="the text is empty"):
        search(world, text=" ", device="cpu")


def test_words_need_a_model_with_text_and_embeddings(world, run, tmp_path, capsys):
    assert main(words(world, "--text", "a dog barks")) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "this model has no text tower. Words work with PE-AV" in said
    assert main(words(world, "--text", "a dog barks", "--at-seconds", "1")) == 2
    assert "--at-seconds is a time of a file" in capsys.readouterr().err


def test_control_characters_of_file_names_are_not_printed(world, tmp_path, capsys):
    table = read_feature_table(world)
    names = np.array(["\x1b[31mred.mp4"] * len(table), dtype=object)
    write_feature_table(dataclasses.replace(table, ids=names, paths=names), tmp_path / "f.parquet")
    search(tmp_path / "f.parquet", id=names[0], k=1, out=tmp_path / "page.html")
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert r"\x1b[31mred.mp4" in said


def test_the_thumbnail_is_the_center_frame_of_the_window(world, tmp_path):
    import base64
    import io

    import matplotlib.image

    page = tmp_path / "page.html"
    search(world, id="clip1.mp4", by="video", gallery="video", at_seconds=2.0, k=1, out=page)
    _, attributes = next(item for item in Page(page.read_text()).tags if item[0] == "video")
    shown = matplotlib.image.imread(
        io.BytesIO(base64.b64decode(attributes["poster"].partition(",")[2])), format="jpeg"
    ).astype(float)
    start, stop = map(float, attributes["src"].partition("#t=")[2].split(","))
    with open_media(world.parent / "videos" / "clip1.mp4") as reader:
        frames = reader.read_frames([(start + stop) / 2, 0.0], 160).float()
    assert np.abs(shown - frames[0].movedim(0, -1).numpy()).mean() < 6
    assert np.abs(shown - frames[1].movedim(0, -1).numpy()).mean() > 20
