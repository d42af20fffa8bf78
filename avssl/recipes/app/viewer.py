"""What the page asks for, in one place: a model, examples, what is searched, and a folder for results."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from avssl.features.search_page import ShownMoment
from avssl.hub.pretrained import Pretrained
from avssl.models import Modality
from avssl.recipes.app.examples import Example
from avssl.recipes.app.looking import ChosenSound, Looked, Report, look
from avssl.recipes.app.similar import Answer, Places, places_of_examples, write_moment


@dataclass
class Viewer:
    """Answers the page. One call at a time: a model is not shared between threads."""

    whole: Pretrained
    """The model with the whole frame as its picture, for heat maps."""
    cropped: Pretrained
    """The same model with its own cropping, for the search."""
    folder: Path
    """Where results go; the page may serve everything in it."""
    seconds: float
    """How much of a video is looked at."""
    examples: Sequence[Example]
    """Videos to choose from."""
    examples_folder: Path
    """Of them all."""
    places: Places | None = None
    """What is searched; None until the examples have been embedded."""
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _copied_from: dict[Path, Path] = field(default_factory=dict)

    def example(self, number: int) -> Path:
        """A copy of an example, which the page may serve."""
        file = self.examples[number].file
        copy = self._new(file.name)
        shutil.copyfile(file, copy)
        self._copied_from[copy] = file
        return copy

    def look(self, video: Path, sound: ChosenSound, before: Looked | None, report: Report) -> tuple[Path, Looked]:
        """As :func:`avssl.recipes.app.looking.look`; the mp4 and what is known of the video."""
        out = self._new(f"{video.stem}_heatmap.mp4")
        if before is not None and before.video != video:
            before = None
        return out, look(self.whole, video, sound, out, before=before, seconds=self.seconds, report=report)

    def search(
        self,
        video: Path,
        by: Modality,
        gallery: Modality,
        at_seconds: float | None,
        on_progress: Callable[[int, int], object],
    ) -> Answer:
        """Find similar moments; the first call embeds the examples where there is no table."""
        if self.places is None:
            self.places = places_of_examples(self.cropped, self.examples_folder, self.examples, on_progress)
        original = self._copied_from.get(video, video)  # so that the search knows it from others
        return self.places.find(self.cropped, original, by, gallery, at_seconds)

    def moment(self, moment: ShownMoment) -> Path:
        """An mp4 of one moment."""
        out = self._new("moment.mp4")
        write_moment(moment, out)
        return out

    def _new(self, name: str) -> Path:
        """A file in a folder of its own, so that names never meet."""
        folder = self.folder / str(next(self._numbers))
        folder.mkdir(parents=True)
        return folder / name
