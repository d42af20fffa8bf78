"""The verb ``convert``: a release from a checkpoint of another project."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from avssl.config import Config, ConfigError
from avssl.core.claimed_verb import writes_folder
from avssl.core.outputs import FolderKind
from avssl.hub.converters import NEED_STATISTICS, Layout, read_checkpoint, read_statistics
from avssl.hub.pretrained import save_pretrained
from avssl.hub.release import CARD_NAME, CONFIG_NAME, WEIGHTS_NAME
from avssl.training.build import build_transform
from avssl.training.rows import find_rows
from avssl.training.setup import STATISTICS_ROWS, set_statistics
from avssl.transforms import ClipTransform


@writes_folder(
    FolderKind("a release", (WEIGHTS_NAME, CONFIG_NAME, CARD_NAME), complete=CONFIG_NAME, repeatable=False),
    reads=("checkpoint", "statistics", "data"),
)
def convert(
    layout: Layout,
    checkpoint: Path | str,
    out: Path | str,
    *,
    statistics: Path | str | None = None,
    data: Path | str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Make a release from a checkpoint that another project trained.

    The layouts are those of the authors' own files: ``avid-cma`` and, for the small networks of the paper,
    ``avid-cma-ablation`` (AVID-CMA); ``cav-mae`` and ``cav-mae-sync`` (pretrained ones, with their decoder);
    ``dense-av`` (DenseAV: sounds, language, or both). Every tensor is used, or left out with its reason in the card, or
    the error names its key; code in the file is never run.

    A release also needs the mean and standard deviation of each frequency bin. AVID-CMA's checkpoints lack them: give
    them as a file (``--statistics``; the authors have one for each spectrogram), or name videos to estimate them from
    (``--data``). Use OUT like any release, as in ``avssl localize VIDEO --checkpoint OUT``. Mind the license in its
    README.md.

    Args:
        layout: Format of the checkpoint.
        checkpoint: File written by torch.save, or of DenseAV also ``hf-hub:OWNER/NAME`` or a copy of such a folder.
        out: Folder of the release, created if missing.
        statistics: An .npz file with ``mean`` and ``std`` of each frequency bin, in dB.
        data: Folder of videos, or a manifest, to estimate the statistics from, instead of ``--statistics``.
        overwrite: Replace an earlier release in OUT.
        progress: Show a progress bar.

    Returns:
        The folder.

    Raises:
        ConfigError: If not exactly one of ``statistics`` and ``data`` is given where the layout needs one, or one where
            it needs none.
        ConvertError: If a file has other contents than the layout says.
        OutputError: If ``out`` holds something else, or another process writes it.
        ManifestError: If no audio can be read from ``data``.
    """
    _check_statistics(layout, statistics, data)
    out = Path(out)
    found = read_checkpoint(layout, checkpoint)
    transform = build_transform(found.config)
    assert transform.standardize is not None, "build_transform always gives it"
    if found.statistics is not None:
        transform.standardize.set_statistics(*found.statistics)
        origin = "those that its authors trained with"
    elif data is None:
        transform.standardize.set_statistics(*read_statistics(str(statistics), transform.spectrogram.num_bins))
        origin = "from a file"
    else:
        origin = _estimate(found.config, data, transform, progress)
    about = {**found.about, "spectrogram statistics": origin}
    save_pretrained(out, found.model, transform, found.config, about, license_id=found.license_id, notice=found.notice)
    print(f"release: {out}, {found.config.model.video.name} + {found.config.model.audio.name}")
    print(f"license: {found.license_id}. Read {out / CARD_NAME} before you share it.")
    return out


def _check_statistics(layout: str, statistics: Path | str | None, data: Path | str | None) -> None:
    if layout not in NEED_STATISTICS:
        if statistics is not None or data is not None:
            raise ConfigError(f"{layout} has spectrogram statistics of its own: leave out --statistics and --data.")
    elif (statistics is None) == (data is None):
        raise ConfigError(
            "the checkpoint has no spectrogram statistics: give either --statistics FILE, an .npz with mean and std of "
            "each bin, or --data FOLDER_OR_MANIFEST, videos like those the model will see."
        )


def _estimate(config: Config, data: Path | str, transform: ClipTransform, progress: bool) -> str:
    """Estimate the statistics from the audio of other files; return a description."""
    config = replace(config, data=replace(config.data, source=str(data), split="all"))
    rows, _ = find_rows(config, min_rows=1, progress=progress)
    set_statistics(config, rows, transform, progress=progress)
    return f"estimated from up to {STATISTICS_ROWS} of {len(rows)} rows of other data than the authors'"
