import csv
import json
import os
import re
import shutil
import wave
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from avssl.cli import main
from avssl.core.manifest import Manifest, ManifestError
from avssl.data import ClipDataset, collate
from avssl.features.embed import table_of_files
from avssl.features.extract import extract_features
from avssl.features.table import FeatureTableError, read_feature_table
from avssl.hub.pretrained import from_pretrained
from avssl.media import open_media
from avssl.models import ClipEncoder
from avssl.recipes import embed as recipe
from avssl.recipes.embed import embed
from avssl.recipes.prepare import prepare
from avssl.recipes.search import search


@pytest.fixture(scope="module")
def folder(tmp_path_factory, video_maker):
    """Files of 2, 3.5 and 5 s, one that is no video, and one without audio."""
    path = tmp_path_factory.mktemp("embed") / "videos"
    for number, seconds in enumerate((2.0, 3.5, 5.0)):
        video_maker(path / f"clip{number}.mp4", number, seconds)
    video_maker(path / "mute.mp4", 3, sound=False)
    (path / "text.mp4").write_text("no video")
    return path


def words(folder, run, out, *more):
    return ["embed", str(folder), "--checkpoint", str(run), "-o", str(out), "--device", "cpu", *map(str, more)]


@pytest.fixture(scope="module")
def wavs(folder):
    """A manifest of two audio files, of 2 and 3.5 s."""
    names = []
    for number in (0, 1):
        with open_media(folder / f"clip{number}.mp4") as reader:
            sound = reader.read_audio(0.0, reader.info.audio_stop_seconds or 0.0, 8000)[0]
        names.append(f"clip{number}.wav")
        with wave.open(str(folder.parent / names[-1]), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes((sound.clamp(-1, 1) * 32767).numpy().astype("<i2").tobytes())
    Manifest.from_columns({"id": names, "path": names}, folder.parent).write(folder.parent / "wavs.csv")
    return folder.parent / "wavs.csv"


def test_audio_files_are_embedded_and_searched_alone(wavs, folder, run, tmp_path, capsys):
    out = tmp_path / "audio.parquet"
    assert main(words(wavs, run, out, "--num_workers", "0")) == 1  # they have no video
    assert main(words(wavs, run, out, "--num_workers", "0", "--modality", "audio", "--overwrite")) == 0
    table = read_feature_table(out)
    assert table.info.modalities == ("audio",)
    assert (table.video.shape, table.audio.shape) == ((len(table), 0), (len(table), 8))
    assert table.start_seconds[table.ids == "clip1.wav"].tolist() == pytest.approx([0, 1, 2, 2.5], abs=0.01)
    assert (table.stop_seconds - table.start_seconds).tolist() == pytest.approx([1.0] * len(table))
    both = tmp_path / "both.parquet"
    assert main(words(folder, run, both, "--num_workers", "0")) == 0
    whole = read_feature_table(both)
    ours, theirs = table.audio[table.ids == "clip0.wav"][0], whole.audio[whole.ids == "clip0.mp4"][0]
    assert float(ours @ theirs) > 0.99
    capsys.readouterr()
    search = ["search", str(out), "--id", "clip0.wav", "--device", "cpu"]
    assert main(search) == 0
    assert "Audio windows that resemble the audio" in capsys.readouterr().out
    assert main([*search, "--gallery", "video"]) == 1
    assert "the table holds no video, as it was made of audio alone" in capsys.readouterr().err


def test_embed_writes_every_window_of_every_file_and_lists_unreadable_files(folder, run, tmp_path, capsys):
    out = tmp_path / "new" / "features.parquet"
    assert main(words(folder, run, out, "--stride-seconds", "1", "--num_workers", "0")) == 0
    table = read_feature_table(out)
    # Windows of 1 s every second, and a last one that ends with the file.
    starts = {name: table.start_seconds[table.ids == name] for name in sorted(set(table.ids))}
    assert list(starts) == ["clip0.mp4", "clip1.mp4", "clip2.mp4"]
    for (name, found), seconds in zip(starts.items(), (2.0, 3.5, 5.0), strict=True):
        assert found[:2] == pytest.approx([0, 1], abs=0.03), name
        assert found[-1] + 1 == pytest.approx(seconds, abs=0.06)
        assert np.diff(found).max() <= 1 + 1e-6
    assert table.video.shape == (len(table), 8)
    np.testing.assert_allclose(np.linalg.norm(table.audio, axis=1), 1, rtol=1e-5)
    with (tmp_path / "new" / "features.failures.csv").open() as file:
        assert {row["id"]: row["reason"] for row in csv.DictReader(file)} == {
            "mute.mp4": "no_audio",
            "text.mp4": "not_media",
        }
    said = capsys.readouterr().out
    assert f"{len(table)} windows, one every 1 s" in said
    assert "2 rows could not be read" in said
    made = sorted(path.name for path in out.parent.iterdir() if not path.name.startswith("."))
    assert made == ["features.failures.csv", "features.parquet"]


@torch.inference_mode()
def test_a_row_holds_the_embeddings_of_its_window(folder, run, tmp_path):
    table = read_feature_table(
        embed(folder, checkpoint=run, out=tmp_path / "f.parquet", num_workers=0, device="cpu", progress=False)
    )
    pretrained = from_pretrained(run)
    row = int(np.flatnonzero(table.ids == "clip2.mp4")[2])
    start = float(table.start_seconds[row])
    manifest = Manifest.from_columns({"id": ["x"], "path": ["clip2.mp4"]}, folder)
    data = ClipDataset(manifest, pretrained.sampling)
    raw = collate(data.read_windows(0, [start], [start]), data.index([0], 0, [0]))
    batch = pretrained.transform(raw)
    for modality, expected in (
        ("video", pretrained.model.embed_video(batch.video)),
        ("audio", pretrained.model.embed_audio(batch.audio)),
    ):
        unit = torch.nn.functional.normalize(expected, dim=1)[0].numpy()
        np.testing.assert_allclose(table.vectors(modality)[row], unit, atol=1e-5)


def test_features_are_those_before_the_heads(folder, run, tmp_path):
    out = embed(
        folder, checkpoint=run, out=tmp_path / "f.parquet", what="features", num_workers=0, device="cpu", progress=False
    )
    table = read_feature_table(out)
    pretrained = from_pretrained(run)
    manifest = Manifest.from_columns({"id": ["clip0.mp4"], "path": ["clip0.mp4"]}, folder)
    expected = extract_features(pretrained, manifest, windows_per_clip=2, keep_windows=True)
    rows = np.flatnonzero(table.ids == "clip0.mp4")
    assert table.info.video_size == table.video.shape[1] == expected.video.shape[2]
    np.testing.assert_allclose(table.audio[rows[0]], expected.audio[0, 0], rtol=1e-3, atol=1e-4)


def test_the_table_names_its_model_and_files(folder, run, tmp_path):
    out = embed(
        folder,
        checkpoint=run,
        out=tmp_path / "f.parquet",
        stride_seconds=2,
        num_workers=0,
        device="cpu",
        progress=False,
    )
    about = json.loads(pq.read_schema(out).metadata[b"avssl"])
    assert about["weights_hash"] == from_pretrained(run).weights_hash()
    assert (about["what"], about["every_seconds"], about["video_size"]) == ("embeddings", 2, 8)
    assert about["config"]["data"]["source"] == ""
    assert (out.parent / about["root"]).resolve() == folder.resolve()
    assert (out.parent / about["checkpoint"]).resolve() == run.resolve()


def test_rows_of_a_manifest_are_embedded_inside_their_span(folder, run, tmp_path):
    columns = {"id": ["a", "b"], "path": ["clip2.mp4"] * 2, "start_seconds": [0.0, 2.5], "stop_seconds": [2.0, 4.5]}
    Manifest.from_columns(columns, folder).write(folder / "rows.csv")
    out = embed(
        folder / "rows.csv", checkpoint=run, out=tmp_path / "f.parquet", num_workers=0, device="cpu", progress=False
    )
    table = read_feature_table(out)
    (folder / "rows.csv").unlink()
    assert list(table.ids) == ["a", "a", "b", "b"]
    assert table.start_seconds == pytest.approx([0, 1, 2.5, 3.5])
    assert set(table.paths) == {"clip2.mp4"}


def test_a_prepared_copy_is_embedded_like_its_files(folder, run, tmp_path):
    columns = {"id": ["a", "b"], "path": ["clip0.mp4", "clip2.mp4"]}
    files = Manifest.from_columns(columns, folder)
    files.write(folder / "rows.csv")
    prepare(folder / "rows.csv", tmp_path / "prepared", num_workers=1)
    options = {"num_workers": 0, "device": "cpu", "progress": False}
    plain = read_feature_table(embed(folder / "rows.csv", checkpoint=run, out=tmp_path / "plain.parquet", **options))
    copy = read_feature_table(
        embed(tmp_path / "prepared" / "manifest.csv", checkpoint=run, out=tmp_path / "copy.parquet", **options)
    )
    (folder / "rows.csv").unlink()
    assert list(copy.ids) == list(plain.ids)
    np.testing.assert_allclose(copy.start_seconds, plain.start_seconds, atol=0.03)
    assert np.einsum("nc,nc->n", copy.audio, plain.audio).min() > 0.999
    assert (tmp_path / copy.info.root).resolve() == (tmp_path / "prepared").resolve()


def test_an_interrupted_run_continues_and_gives_the_same_table(folder, run, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "WINDOWS_PER_PART", 3)
    options = {"stride_seconds": 0.5, "num_workers": 0, "device": "cpu", "progress": False}
    whole = read_feature_table(embed(folder, checkpoint=run, out=tmp_path / "whole.parquet", **options))
    calls = []

    def encode(encoder, modality, *inputs):
        calls.append(modality)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(encoder, modality, *inputs)

    original, out = ClipEncoder.vectors, tmp_path / "broken.parquet"
    monkeypatch.setattr(ClipEncoder, "vectors", encode)
    with pytest.raises(KeyboardInterrupt):
        embed(folder, checkpoint=run, out=out, **options)
    assert not out.exists()
    with pytest.raises(FeatureTableError, match=r"broken.parquet.parts: holds parts of an embedding of other files"):
        embed(folder, checkpoint=run, out=out, **(options | {"stride_seconds": 0.7}))
    embed(folder, checkpoint=run, out=out, **options)
    assert calls.count("video") == 4  # three parts, one of which was started twice
    again = read_feature_table(out)
    np.testing.assert_array_equal(again.video, whole.video)
    assert list(again.ids) == list(whole.ids)
    assert (tmp_path / "broken.failures.csv").read_text() == (tmp_path / "whole.failures.csv").read_text()
    assert not (tmp_path / "broken.parquet.parts").exists()


def test_two_processes_divide_the_files_and_give_the_bytes_of_one(folder, run, tmp_path, monkeypatch, torchrun):
    """The second rank fails in its first part; the others are kept, and the next call makes what is missing."""
    monkeypatch.setattr(recipe, "WINDOWS_PER_PART", 3)
    more = ["--stride-seconds", "0.5", "--num_workers", "1"]
    out, script = tmp_path / "two.parquet", Path(__file__).with_name("embed_ranks.py")
    assert main(words(folder, run, tmp_path / "one.parquet", *more)) == 0
    failed = torchrun(script, "1", *words(folder, run, out, *more), check=False)
    assert failed.returncode
    assert "avssl: error: rank 1: the disk is full" in failed.stderr
    assert not out.exists()
    kept = sorted((tmp_path / "two.parquet.parts").glob("*.parquet"))
    done = torchrun(script, "none", *words(folder, run, out, *more))
    assert done.stdout.count("features: ") == 1
    assert len(done.stderr.split("made ")) - 1 == 3 - len(kept)  # of three files
    assert out.read_bytes() == (tmp_path / "one.parquet").read_bytes()
    assert (tmp_path / "two.failures.csv").read_bytes() == (tmp_path / "one.failures.csv").read_bytes()
    assert not (tmp_path / "two.parquet.parts").exists()
    assert torchrun("-m", "avssl", *words(folder, run, out, *more)).stdout.count("complete already") == 1


def test_a_kill_after_the_table_is_there_leaves_a_complete_one(wavs, run, tmp_path, monkeypatch, capsys):
    out, record = tmp_path / "f.parquet", tmp_path / ".avssl" / "f.parquet.made.json"
    texts = []

    def discard(parts):
        if out.exists():
            texts.append(record.read_text())  # as a kill leaves it: before the table's size and date are known
        original(parts)

    original = recipe.TableParts.discard
    monkeypatch.setattr(recipe.TableParts, "discard", discard)
    again = words(wavs, run, out, "--num_workers", "0", "--modality", "audio")
    assert main(again) == 0
    record.write_text(texts[0])
    before = out.stat().st_mtime_ns
    capsys.readouterr()
    assert main(again) == 0
    assert f"features: {out}, complete already" in capsys.readouterr().out
    assert out.stat().st_mtime_ns == before
    other = shutil.copytree(run, tmp_path / "other")
    assert main(words(wavs, other, out, "--num_workers", "0", "--modality", "audio")) == 1
    assert "exists already, with checkpoint" in capsys.readouterr().err


def test_the_number_of_workers_and_the_batch_size_change_nothing(folder, run, tmp_path):
    tables = [
        read_feature_table(
            embed(folder, checkpoint=run, out=tmp_path / f"{i}.parquet", device="cpu", progress=False, **options)
        )
        for i, options in enumerate(({"num_workers": 0, "batch_size": 64}, {"num_workers": 2, "batch_size": 2}))
    ]
    assert list(tables[0].ids) == list(tables[1].ids)
    np.testing.assert_array_equal(tables[0].start_seconds, tables[1].start_seconds)
    np.testing.assert_allclose(tables[0].audio, tables[1].audio, atol=1e-5)
    np.testing.assert_allclose(tables[0].video, tables[1].video, atol=1e-5)


def test_a_file_whose_end_cannot_be_read_keeps_its_other_windows(folder, run, tmp_path, monkeypatch):
    """Failing windows of a batch are left out; the file is listed once."""
    read = ClipDataset.read_windows

    def broken(self, row, video_starts, *more):
        if self.manifest.value(row, "id") == "clip2.mp4" and max(video_starts) > 2.5:
            from avssl.media import MediaError

            raise MediaError("clip2.mp4", "video", "truncated", "there is no more.", "Fetch it again.", 2.5)
        return read(self, row, video_starts, *more)

    monkeypatch.setattr(ClipDataset, "read_windows", broken)
    out = embed(
        folder, checkpoint=run, out=tmp_path / "f.parquet", batch_size=1, num_workers=0, device="cpu", progress=False
    )
    table = read_feature_table(out)
    assert table.start_seconds[table.ids == "clip2.mp4"] == pytest.approx([0, 1, 2])
    assert (tmp_path / "f.failures.csv").read_text().count("clip2.mp4: video at 2.500 s: there is no more.") == 1


def test_wrong_input_raises(folder, run, tmp_path, capsys):
    out = tmp_path / "f.parquet"
    assert main(["embed", str(folder)]) == 2
    assert "required: --checkpoint" in capsys.readouterr().err
    assert main(words(folder, run, out, "--stride-seconds", "0")) == 2
    assert "stride-seconds (0.0) must be >= 0.01" in capsys.readouterr().err
    out.write_text("of somebody")
    assert main(words(folder, run, out)) == 1
    assert "f.parquet: exists already. Replace it with --overwrite" in capsys.readouterr().err
    with pytest.raises(ManifestError, match="nowhere: no such folder or manifest"):
        embed(tmp_path / "nowhere", checkpoint=run, out=tmp_path / "e.parquet", device="cpu", progress=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="no media files"):
        embed(tmp_path / "empty", checkpoint=run, out=tmp_path / "e.parquet", device="cpu", progress=False)
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "text.mp4").write_text("no video")
    with pytest.raises(ManifestError, match=r"none of its 1 media files can be used: .*text.mp4"):
        embed(bad, checkpoint=run, out=tmp_path / "e.parquet", device="cpu", progress=False)
    Manifest.from_columns({"id": ["text.mp4"], "path": ["text.mp4"]}, bad).write(bad / "manifest.csv")
    with pytest.raises(ValueError, match=r"no file can be read: .*text.mp4.*[^.]\. See them all in .*e.failures.csv"):
        embed(bad / "manifest.csv", checkpoint=run, out=tmp_path / "e.parquet", device="cpu", progress=False)
    assert not (tmp_path / "e.parquet").exists()
    assert main(["embed", "--help"]) == 0
    assert "An interrupted run continues where it stopped" in " ".join(capsys.readouterr().out.split())


def test_a_few_files_give_the_table_that_embed_writes(folder, run, tmp_path):
    whole = read_feature_table(
        embed(folder, checkpoint=run, out=tmp_path / "f.parquet", num_workers=0, device="cpu", progress=False)
    )
    names = sorted(path.name for path in folder.iterdir() if path.suffix == ".mp4")
    reached = []
    table, failures = table_of_files(
        from_pretrained(run), folder, names, on_progress=lambda *numbers: reached.append(numbers)
    )
    assert list(table.ids) == list(whole.ids)
    np.testing.assert_array_equal(table.start_seconds, whole.start_seconds)
    np.testing.assert_allclose(table.audio, whole.audio, atol=1e-5)
    np.testing.assert_allclose(table.video, whole.video, atol=1e-5)
    assert table.info.weights_hash == whole.info.weights_hash
    assert sorted(failure.path for failure in failures) == sorted(set(names) - set(whole.paths))
    assert reached[-1] == (len(names), len(names)) or names[-1] not in whole.paths


def test_a_file_whose_name_is_not_utf8_is_found_again(folder, run, tmp_path):
    name = os.fsdecode(b"caf\xe9 \x1b[2J\n=.mp4")
    (tmp_path / "videos").mkdir()
    shutil.copy(next(folder.glob("*.mp4")), tmp_path / "videos" / name)
    out = embed(tmp_path / "videos", checkpoint=run, out=tmp_path / "f.parquet", num_workers=0, device="cpu")
    table = read_feature_table(out)
    assert set(table.paths) == {"bytes:caf%E9%20%1B%5B2J%0A%3D.mp4"}
    assert table.info.root == "videos"
    search(out, id=table.ids[0], k=1, out=tmp_path / "page.html")
    (link,) = set(re.findall(r'href="([^"#]+)', (tmp_path / "page.html").read_text()))
    assert os.path.samefile(tmp_path / os.fsdecode(unquote_to_bytes(link)), tmp_path / "videos" / name)
