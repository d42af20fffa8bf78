"""Pairs of an image and foreign audio in which nothing that is visible sounds (SLAVC's extended test sets).

Source: Mo and Morgado, 2022, https://arxiv.org/abs/2209.09634. Their lists have the columns video, audio and label;
the label "non-sounding" marks a pair in which no heat map is right.
"""

from __future__ import annotations

from collections.abc import Callable

from avssl.data.official.box_truth import TruthFrame, write_boxes
from avssl.data.official.clip_files import Match
from avssl.data.official.clip_list import ClipList


def add_silent_pairs(
    clips: ClipList, folder: str, seconds: float | None, find: Callable[[str], Match], split: str = "test"
) -> None:
    """Add the pairs of the lists that are marked non-sounding, each with a truth file without boxes.

    Args:
        clips: Where they are added.
        folder: Folder of the truth files.
        seconds: Annotated second of a clip; None for still images.
        find: Returns the files of a clip by its key.
        split: Split of the pairs, if their list names none.
    """
    for each in clips.lists:
        for pair in each.silent:
            heard = pair.audio_key or pair.key
            seen, sound = find(pair.key), find(heard)
            match = seen if sound.path or not seen.path else Match(None, sound.looked_for, f"audio {sound.reason}")
            name = f"{pair.key}+{heard}+silent"
            truth = write_boxes(clips.root, folder, name, [TruthFrame(seconds)]) if match.path else None
            clips.add_listed(
                name,
                match,
                split=each.split or split,
                row_id=f"{match.path}+{heard}",
                truth=truth,
                audio_path=sound.audio_path or sound.path,
            )
