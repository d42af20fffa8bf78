"""``avssl energy VIDEO --checkpoint RUN``: how badly the sound of a video fits its picture, over time.

The energy is 1 less the cosine of the two embeddings: 0 for a perfect match, about 1 for strangers,
2 at most. Beside its mean stands that of the same pictures with the sounds of other moments: a sound
that belongs has clearly less. With ``--audio OTHER`` the sound is another file's.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tqdm import tqdm

from avssl.config import ConfigError, new_parser, parse_arguments
from avssl.core.whole_file import write_json
from avssl.engine import Precision, choose_device, show_progress
from avssl.hub.pretrained import from_pretrained
from avssl.localization import EnergyCurve, energy_curve
from avssl.media import open_media


def main(argv: Sequence[str]) -> int:
    """Parses the command line and runs :func:`energy`."""
    parser = new_parser("avssl energy", __doc__)
    parser.add_argument("video", help="The file to look at.")
    parser.add_argument("--checkpoint", help="A run folder, its weights folder, or a release on the hub.")
    parser.add_argument("--audio", metavar="FILE", help="Take this file's sound instead of the video's own.")
    parser.add_argument("--readout", metavar="FILE", help="Also write the numbers as JSON.")
    parser.add_argument("--stride_seconds", type=float, default=0.5, help="Time from one number to the next.")
    parser.add_argument("--seconds", type=float, help="Only this much of the video, from its start.")
    parser.add_argument("--device", default="auto", help='"cpu", "cuda" ...; "auto" takes a GPU when there is one.')
    options = parse_arguments(parser, argv)
    if not options.checkpoint:
        raise ConfigError("--checkpoint is needed: a run folder, its weights folder, or a release on the hub.")
    energy(
        options.video,
        options.checkpoint,
        audio=options.audio,
        readout=options.readout,
        stride_seconds=options.stride_seconds,
        seconds=options.seconds,
        device=options.device,
    )
    return 0


def energy(
    video: Path | str,
    checkpoint: Path | str,
    *,
    audio: Path | str | None = None,
    readout: Path | str | None = None,
    stride_seconds: float = 0.5,
    seconds: float | None = None,
    device: str = "auto",
) -> EnergyCurve:
    """Prints the energy at every instant, and the mean beside that of shuffled windows.

    Args:
        video: The file to look at.
        checkpoint: As for :func:`avssl.hub.pretrained.from_pretrained`.
        audio: A file whose sound is taken instead of the video's own, from its start.
        readout: A JSON file for the numbers.
        stride_seconds: Time from one instant to the next, > 0.
        seconds: Only this much of the video, from its start; all of it by default.
        device: Where the model runs.

    Raises:
        MediaError: If a file cannot be read or lacks the track that is needed.
        HubError: If there is no model at ``checkpoint``.
    """
    pretrained = from_pretrained(checkpoint, choose_device(device))
    with ExitStack() as files:
        reader = files.enter_context(open_media(video))
        sound = files.enter_context(open_media(audio)) if audio is not None else None
        bar = files.enter_context(tqdm(desc="energy", unit="window", delay=1.0))
        curve = energy_curve(
            reader,
            pretrained.encoder(Precision()),
            pretrained.sampling,
            stride_seconds=stride_seconds,
            audio_from=sound,
            stop_after_seconds=seconds,
            on_progress=partial(show_progress, bar),
        )
    for second, value in zip(curve.at_seconds.tolist(), curve.energy.tolist(), strict=True):
        print(f"{second:9.2f} s  {value:.3f}  {'#' * round(20 * value)}")
    print(f"mean energy {curve.mean:.3f}; with the sounds of other moments {curve.shuffled_mean:.3f}")
    if readout is not None:
        Path(readout).parent.mkdir(parents=True, exist_ok=True)
        content = {"video": str(video), "audio": str(audio or video), **_plain(curve)}
        write_json(readout, content)
        print(f"numbers: {readout}")
    return curve


def _plain(curve: EnergyCurve) -> dict[str, object]:
    """For JSON, which has no NaN: null where there is no other moment."""
    shuffled = [None if value != value else round(value, 4) for value in curve.shuffled.tolist()]
    mean = curve.shuffled_mean
    return {
        "mean": round(curve.mean, 4),
        "shuffled_mean": None if mean != mean else round(mean, 4),
        "seconds": [round(value, 4) for value in curve.at_seconds.tolist()],
        "energy": [round(value, 4) for value in curve.energy.tolist()],
        "shuffled": shuffled,
    }
