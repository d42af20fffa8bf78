import dataclasses
import os
import signal

import pytest

from avssl.features.embed import table_of_files
from avssl.features.table import FeatureTableError, write_feature_table
from avssl.hub.pretrained import from_pretrained
from avssl.hub.release import HubError
from avssl.media import open_media
from avssl.recipes.app import server
from avssl.recipes.app.moment_search import SearchTable
from avssl.recipes.app.settings import AppError, AppSettings


@pytest.fixture(scope="module")
def features(release, clips, tmp_path_factory):
    """A table of both clips that names its model and its files."""
    table, _ = table_of_files(from_pretrained(release), clips, ["a.mp4", "sub/b.mp4"], 0.5)
    folder = tmp_path_factory.mktemp("features")
    info = dataclasses.replace(
        table.info, checkpoint=os.path.relpath(release, folder), root=os.path.relpath(clips, folder)
    )
    path = folder / "f.parquet"
    write_feature_table(dataclasses.replace(table, info=info), path)
    return path


def test_a_viewer_shares_one_model_between_the_map_and_the_search(release, clips, tmp_path):
    viewer = server.make_viewer(AppSettings(release, clips, device="cpu", seconds=1.0), tmp_path)
    assert viewer.whole.model is viewer.cropped.model
    assert viewer.whole.transform.video_eval.crop == "full"
    assert viewer.cropped.transform.video_eval.crop == "center"
    assert viewer.max_seconds == 1.0
    assert [example.path for example in viewer.examples] == ["a.mp4", "sub/b.mp4"]


def test_a_viewer_keeps_everything_in_its_folder_and_names_apart(release, clips, tmp_path):
    viewer = server.make_viewer(AppSettings(release, clips, device="cpu"), tmp_path)
    copies = [viewer.example(0), viewer.example(0)]
    assert copies[0] != copies[1]
    assert all(copy.read_bytes() == (clips / "a.mp4").read_bytes() for copy in copies)
    result = viewer.search(copies[0], "audio", "audio", None, lambda *_: None)
    table = viewer.search_table.table
    again = viewer.search(copies[0], "video", "audio", 1.0, lambda *_: pytest.fail("the examples are embedded once"))
    assert viewer.search_table.table is table
    assert len(again.hits) == len(result.hits) == 2  # overlapping windows of a file count once
    assert "itself" in result.hits[0].caption
    moment = viewer.moment(result.hits[0].moment)
    assert all((tmp_path / "cache" / "results") in path.parents for path in [*copies, moment])


def test_what_is_known_of_one_video_is_not_told_of_another(release, clips, tmp_path):
    from avssl.recipes.app.heatmap_video import OWN

    viewer = server.make_viewer(AppSettings(release, clips, device="cpu"), tmp_path)
    _, first = viewer.heatmap_video(clips / "a.mp4", OWN, None, lambda *_: None)
    out, second = viewer.heatmap_video(clips / "sub" / "b.mp4", OWN, first, lambda *_: None)
    assert second.video == clips / "sub" / "b.mp4"
    assert len(second.scores) == 1
    assert second.scores != first.scores
    with open_media(out) as reader:
        assert reader.info.has_video


def test_a_table_brings_its_model_and_its_files(features, clips, release, tmp_path):
    settings = AppSettings(features=features, examples=clips, device="cpu")
    viewer = server.make_viewer(settings, tmp_path)
    assert viewer.whole.weights_hash() == from_pretrained(release).weights_hash()
    assert isinstance(viewer.search_table, SearchTable)
    result = viewer.search(clips / "a.mp4", "video", "video", None, lambda *_: None)
    assert result.hits[0].moment.file.resolve() == clips / "a.mp4"
    elsewhere = server.make_viewer(dataclasses.replace(settings, root=tmp_path), tmp_path)
    assert elsewhere.search_table.folder == tmp_path


def test_a_table_of_another_model_is_refused(features, release, tmp_path):
    from avssl.features.table import read_feature_table

    table = read_feature_table(features)
    strange = dataclasses.replace(table, info=dataclasses.replace(table.info, weights_hash="0" * 16))
    write_feature_table(strange, tmp_path / "strange.parquet")
    with pytest.raises(FeatureTableError, match="was made by the weights 0000000000000000, but"):
        server.make_viewer(AppSettings(release, features=tmp_path / "strange.parquet", device="cpu"), tmp_path)
    remote = dataclasses.replace(table, info=dataclasses.replace(table.info, root="s3://bucket/videos"))
    write_feature_table(remote, tmp_path / "remote.parquet")
    with pytest.raises(AppError, match=r"its files are at s3://bucket/videos. Copy them here and set --root"):
        server.make_viewer(AppSettings(release, features=tmp_path / "remote.parquet", device="cpu"), tmp_path)


def test_the_model_that_comes_with_avssl_is_the_default(clips, release, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "demo_weights", lambda: release)
    viewer = server.make_viewer(AppSettings(examples=clips, device="cpu"), tmp_path)
    assert viewer.whole.weights_hash() == from_pretrained(release).weights_hash()
    said = server.describe(viewer.whole)
    assert said.startswith("Model: the small one that comes with avssl, small_video + small_audio, 0.0 M parameters")
    assert "rendered scenes and one talking face" in said


def test_a_model_that_is_not_there_is_refused(clips, tmp_path):
    with pytest.raises(HubError, match="no such folder"):
        server.make_viewer(AppSettings(tmp_path / "none", clips, device="cpu"), tmp_path)


def test_the_model_is_described(pretrained):
    said = server.describe(pretrained)
    assert said.startswith(
        f"Model: {pretrained.source}, small_video + small_audio, 0.0 M parameters, trained with info_nce."
    )
    assert said.endswith("Its input is 1 s of video and 1 s of audio.")


@pytest.mark.parametrize("options", [{"port": 0}, {"port": 65536}, {"seconds": 0.0}, {"seconds": float("nan")}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        AppSettings("run", **options)


def test_the_environment_is_put_back(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "example.org")
    monkeypatch.setenv("GRADIO_ALLOWED_PATHS", "/etc")
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    before = dict(os.environ)
    with server._environment(tmp_path):
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
        assert os.environ["GRADIO_TEMP_DIR"] == str(tmp_path)
        assert os.environ["GRADIO_ALLOWED_PATHS"] == ""
        assert os.environ["no_proxy"] == "example.org,127.0.0.1"
    assert dict(os.environ) == before


def test_termination_is_an_interruption_that_cleans_up():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), server._sigterm_as_interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
