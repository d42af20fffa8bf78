"""The work behind the page: a model, the examples, a search table and a folder for results."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from avssl.core.batch import Modality
from avssl.features.search_page import Moment
from avssl.hub.pretrained import PretrainedModel
from avssl.media import MediaLimits
from avssl.recipes.app.examples import Example
from avssl.recipes.app.heatmap_video import AudioChoice, ReportProgress, VideoAnalysis, write_heatmap_video
from avssl.recipes.app.moment_search import SearchResult, SearchTable, table_of_examples, write_moment


@dataclass
class Viewer:
    """Does the work for the page, one call at a time, because a model is not shared between threads."""

    whole: PretrainedModel
    """The model with ``crop="full"``, for heat maps."""
    cropped: PretrainedModel
    """The same model with its own cropping, for the search."""
    folder: Path
    """Folder of the results; the page may serve every file in it."""
    max_seconds: float
    """Length of the part of a video that is processed."""
    examples: Sequence[Example]
    """Videos to choose from."""
    examples_folder: Path
    """Folder of the examples."""
    search_table: SearchTable | None = None
    """None until the examples have been embedded."""
    limits: MediaLimits = field(default_factory=MediaLimits)
    """Limits on media files."""
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _original_of: dict[Path, Path] = field(default_factory=dict)

    def example(self, number: int) -> Path:
        """Copy an example into the folder that the page may serve."""
        file = self.examples[number].file
        copy = self._new_file(file.name)
        shutil.copyfile(file, copy)
        self._original_of[copy] = file
        return copy

    def heatmap_video(
        self, video: Path, audio: AudioChoice, previous: VideoAnalysis | None, report: ReportProgress
    ) -> tuple[Path, VideoAnalysis]:
        """Write an mp4 with :func:`write_heatmap_video`; results of another video are dropped."""
        out = self._new_file(f"{video.stem}_heatmap.mp4")
        if previous is not None and previous.video != video:
            previous = None
        return out, write_heatmap_video(
            self.whole,
            video,
            audio,
            out,
            previous=previous,
            max_seconds=self.max_seconds,
            report=report,
            limits=self.limits,
        )

    def search(
        self,
        video: Path,
        by: Modality,
        gallery: Modality,
        at_seconds: float | None,
        on_progress: Callable[[int, int], object],
    ) -> SearchResult:
        """Find similar moments; without a table, the first call embeds the examples."""
        if self.search_table is None:
            self.search_table = table_of_examples(
                self.cropped, self.examples_folder, self.examples, on_progress, self.limits
            )
        original = self._original_of.get(video, video)  # so that the hits in the same file are marked as such
        return self.search_table.find(self.cropped, original, by, gallery, at_seconds)

    def moment(self, moment: Moment) -> Path:
        """Write one moment as an mp4."""
        out = self._new_file("moment.mp4")
        write_moment(moment, out, self.limits)
        return out

    def _new_file(self, name: str) -> Path:
        """Return a path in a new folder, so that names never collide."""
        folder = self.folder / str(next(self._numbers))
        folder.mkdir(parents=True)
        return folder / name
