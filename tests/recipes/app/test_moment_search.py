import dataclasses

import numpy as np
import pytest

from avssl.features.search_page import Moment
from avssl.hub.pretrained import from_pretrained
from avssl.media import MediaError, open_media
from avssl.recipes.app.examples import find_examples
from avssl.recipes.app.moment_search import SearchTable, table_of_examples, write_moment
from avssl.recipes.app.settings import AppError


@pytest.fixture(scope="module")
def model(release):
    return from_pretrained(release)


@pytest.fixture(scope="module")
def search_table(model, clips):
    reached = []
    made = table_of_examples(model, clips, find_examples(clips), lambda *numbers: reached.append(numbers))
    assert reached[-1] == (2, 2)
    return made


def test_examples_are_searched_every_half_second(search_table):
    assert list(search_table.table.paths) == ["a.mp4"] * 2 + ["sub/b.mp4"] * 2
    assert list(search_table.table.start_seconds) == pytest.approx([0, 0.5, 0, 0.5])


def test_a_sound_finds_its_own_moment_first(search_table, model, clips):
    result = search_table.find(model, clips / "sub" / "b.mp4", "audio", "audio", at_seconds=1.0)
    best = result.hits[0]
    assert best.moment.file == clips / "sub" / "b.mp4"
    number, cosine, _, *rest = best.caption.split(" · ")
    assert (number.removeprefix("~ "), cosine) == ("1", "cosine 1.000")
    assert rest == ["itself", "0.5 to 1.5 s", "sub/b.mp4"]
    assert best.picture.shape == (160, 160, 3)
    note = "Audio windows that resemble the audio (audio from 0.50 to 1.50 s). 4 windows of 2 files"
    assert result.note.startswith(note)


def test_names_stand_for_paths_where_there_are_some(search_table, model, clips):
    named = dataclasses.replace(search_table, names={"a.mp4": "the first"})
    captions = [hit.caption for hit in named.find(model, clips / "a.mp4", "audio", "video", None).hits]
    assert {caption.split(" · ")[-1] for caption in captions} == {"the first", "sub/b.mp4"}


def test_a_second_outside_the_file_is_said(search_table, model, clips):
    with pytest.raises(AppError, match=r"second 9 is outside the audio of a.mp4"):
        search_table.find(model, clips / "a.mp4", "audio", "video", 9.0)


def test_a_hit_whose_file_is_gone_is_gray(search_table, model, clips, tmp_path):
    moved = SearchTable(search_table.table, tmp_path)
    (first, *_) = moved.find(model, clips / "a.mp4", "video", "video", None).hits
    assert np.unique(first.picture).tolist() == [96]
    with pytest.raises(MediaError, match="cannot be opened"):
        write_moment(first.moment, tmp_path / "m.mp4")


def test_examples_without_sound_leave_nothing_to_search(model, mute):
    with pytest.raises(AppError, match="none of the examples has both video and audio"):
        table_of_examples(model, mute.parent, find_examples(mute.parent), lambda *_: None)


def test_a_moment_is_cut_out_with_its_sound(clips, tmp_path):
    file = clips / "a.mp4"
    write_moment(Moment(file, "a", 0.5, 1.25, ""), tmp_path / "m.mp4")
    with open_media(tmp_path / "m.mp4") as cut, open_media(file) as whole:
        assert cut.info.video_stop_seconds == pytest.approx(0.75)
        assert cut.info.audio_stop_seconds == pytest.approx(0.75, abs=0.03)
        assert (cut.info.video_codec, cut.info.audio_codec) == ("h264", "aac")
        first, there = cut.read_frames([0.0])[0].float(), whole.read_frames([0.56])[0].float()
        assert (first - there).abs().mean() < 4
        assert (first - whole.read_frames([0.06])[0].float()).abs().mean() > 30
        sound = cut.read_audio(0.1, 0.4, 8000)[0]
        expected = whole.read_audio(0.6, 0.9, 8000)[0]
        assert np.corrcoef(sound, expected)[0, 1] > 0.95


def test_a_moment_of_a_strangers_table_is_bounded(clips, tmp_path):
    write_moment(Moment(clips / "a.mp4", "a", -1e9, 1e9, ""), tmp_path / "m.mp4")
    with open_media(tmp_path / "m.mp4") as cut:
        assert cut.info.video_stop_seconds == pytest.approx(1.5)
