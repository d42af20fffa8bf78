"""The verb ``energy``: how well the audio of a video matches its frames, over time."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from avssl.core.claimed_verb import writes_files
from avssl.core.progress import Bar
from avssl.core.ranges import Seconds, Step, checked
from avssl.core.whole_file import write_json
from avssl.engine import Precision, choose_device
from avssl.hub.pretrained import from_pretrained
from avssl.localization import EnergyCurve, energy_curve
from avssl.media import MediaLimits, open_media


@checked
@writes_files(lambda given: [given["readout"]], reads=("video", "audio", "checkpoint"))
def energy(
    video: Path | str,
    *,
    checkpoint: Path | str,
    audio: Path | str | None = None,
    readout: Path | str | None = None,
    overwrite: bool = False,
    stride_seconds: Step = 0.5,
    seconds: Seconds | None = None,
    limits: MediaLimits | None = None,
    device: str = "auto",
) -> EnergyCurve:
    """Measure how well the audio of a video matches its frames, over time.

    The energy is 1 minus the cosine similarity of the two embeddings: 0 for a perfect match, about 1 for unrelated
    clips, 2 at most. Its mean is printed beside the mean for the same frames with audio from other times of the file:
    matching audio has a clearly lower energy.

    Args:
        video: Video file.
        checkpoint: A run directory, its weights folder, or hf-hub:OWNER/NAME.
        audio: File whose audio is used instead of the video's own, from its start.
        readout: JSON file to write the numbers to.
        overwrite: Replace a file that another command or program made.
        stride_seconds: Time from one window to the next, > 0.
        seconds: Use only this much of the video, from its start; default: all.
        limits: Limits on the files.
        device: "cpu", "cuda", "cuda:1" ...; "auto" takes a GPU if there is one.

    Raises:
        OutputError: If another command or program made ``readout``, or another process writes it.
        MediaError: If a file cannot be read or lacks the stream that is needed.
        HubError: If there is no model at ``checkpoint``.
    """
    pretrained = from_pretrained(checkpoint, choose_device(device))
    with ExitStack() as files:
        reader = files.enter_context(open_media(video, limits=limits))
        sound = files.enter_context(open_media(audio, limits=limits)) if audio is not None else None
        bar = files.enter_context(Bar(desc="energy", unit="window", delay=1.0))
        curve = energy_curve(
            reader,
            pretrained.encoder(Precision()),
            pretrained.sampling,
            stride_seconds=stride_seconds,
            audio_from=sound,
            stop_after_seconds=seconds,
            on_progress=bar.move,
        )
    for second, value in zip(curve.at_seconds.tolist(), curve.energy.tolist(), strict=True):
        print(f"{second:9.2f} s  {value:.3f}  {'#' * round(20 * value)}")
    print(f"mean energy {curve.mean:.3f}; with audio from other times {curve.shuffled_mean:.3f}")
    if readout is not None:
        Path(readout).parent.mkdir(parents=True, exist_ok=True)
        content = {"video": str(video), "audio": str(audio or video), **_plain(curve)}
        write_json(readout, content)
        print(f"numbers: {readout}")
    return curve


def _plain(curve: EnergyCurve) -> dict[str, object]:
    """Return the curve for JSON; null where there is no other window."""
    shuffled = [None if value != value else round(value, 4) for value in curve.shuffled.tolist()]
    mean = curve.shuffled_mean
    return {
        "mean": round(curve.mean, 4),
        "shuffled_mean": None if mean != mean else round(mean, 4),
        "seconds": [round(value, 4) for value in curve.at_seconds.tolist()],
        "energy": [round(value, 4) for value in curve.energy.tolist()],
        "shuffled": shuffled,
    }
