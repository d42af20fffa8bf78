import pytest

from avssl.media import open_media
from avssl.recipes.app import examples
from avssl.recipes.app.examples import find_examples, render_examples
from avssl.recipes.app.settings import AppError


def test_a_folder_gives_what_can_be_seen(clips):
    found = find_examples(clips)
    assert [(example.name, example.path) for example in found] == [("a.mp4", "a.mp4"), ("sub/b.mp4", "sub/b.mp4")]
    assert all(example.file == clips / example.path for example in found)
    assert found[0].picture.shape == (160, 160, 3)
    assert (found[0].picture != found[1].picture).any()


def test_no_more_are_shown_than_fit(clips, monkeypatch):
    monkeypatch.setattr(examples, "MAX_EXAMPLES", 1)
    assert len(find_examples(clips)) == 1


def test_a_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(AppError, match=r"none: no such folder. Set --examples to a folder of videos"):
        find_examples(tmp_path / "none")
    (tmp_path / "x.mp4").write_bytes(b"no video")
    with pytest.raises(AppError, match="no readable video in this folder"):
        find_examples(tmp_path)


def test_rendered_scenes_are_videos_with_sound_and_begin_with_a_pair(tmp_path):
    made = render_examples(tmp_path, progress=False)
    assert len(made) == 6
    assert (made[0].picture == made[1].picture).mean() > 0.99
    first, second = (example.name.split(" · ")[1] for example in made[:2])
    assert first != second  # the same picture, another object sounds
    for example in made:
        with open_media(example.file) as reader:
            assert reader.info.has_audio
