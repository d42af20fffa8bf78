"""The verb ``localize``: videos with a heat map of their sound source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avssl.core.batch import Heatmap
from avssl.core.engines import EngineName
from avssl.core.errors import ConfigError, InputError
from avssl.core.output_records import Command, place
from avssl.core.outputs import claimed_files
from avssl.core.ranges import Positive, Seconds, Step, Workers, checked
from avssl.core.whole_file import write_json
from avssl.features.localize import STRIDE_SECONDS, load_localizer
from avssl.hub.pretrained import DEMO_NOTE
from avssl.localization import Look
from avssl.localization.drawing.scale import Scale
from avssl.media import MediaLimits, is_image
from avssl.recipes.localize.many import FileLimits, is_many, localize_many
from avssl.recipes.localize.one import OWN as OWN
from avssl.recipes.localize.one import Request, best_peak, localize_file

FIRST = (
    "checkpoint",
    "out",
    "overwrite",
    "audio",
    "text",
    "silence",
    "noise",
    "side_by_side",
    "boxes",
    "scale",
    "readout",
    "seconds",
    "engine",
    "address",
    "device",
)


@checked
def localize(
    video: Sequence[Path | str],
    *,
    checkpoint: Path | str | None = None,
    out: Path | str | None = None,
    audio: Path | str | None = None,
    text: str | None = None,
    silence: bool = False,
    noise: bool = False,
    side_by_side: bool = False,
    scale: Scale = "video",
    look: Look = Look(),  # noqa: B008  (frozen)
    readout: Path | str | None = None,
    overwrite: bool = False,
    stride_seconds: Step = STRIDE_SECONDS,
    seconds: Seconds | None = None,
    limits: MediaLimits | None = None,
    num_workers: Workers | None = None,
    engine: EngineName = "local",
    address: str | None = None,
    timeout_seconds: Seconds | None = None,
    memory_gib: Positive | None = None,
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Heatmap]:
    """Show where in a video its audio comes from, as a heat map over the video.

    With ``--audio OTHER`` it shows where another file's audio would come from. ``--silence`` and ``--noise`` show the
    map when there is nothing to find, and ``--side-by-side`` shows them beside the video's own audio. Still images
    work too: ``avssl localize image.jpg --audio sound.wav -o out.png``. A model with a text tower also finds what
    words say: ``--text "the violin"``.

    Several files, a folder or a manifest give a folder: a video and a JSON file of each, a table, and a page that shows
    them. An interrupted call continues where it stopped when it is called again.

    A video unlike the clips that the model was trained on gets a warning, in print and above its map.

    Args:
        video: Video or image file. An image lasts as long as ``--audio``. Several files and folders, or one manifest,
            are localized one by one; of a manifest each file once, as a whole.
        checkpoint: A run directory, its weights folder, or hf-hub:OWNER/NAME; default: the demo weights, which were
            trained on SoundingShapes and one speaker of GRID.
        out: mp4 to write, or png of the time with the highest cosine; default: VIDEO_heatmap.mp4 (of an image: png)
            in the working folder. Of several files, the folder to write; default: NAME_heatmaps.
        audio: File whose audio is used instead of the video's own.
        text: Words to look for instead of audio, such as "the violin".
        silence: Use silence as the audio.
        noise: Use white noise as the audio.
        side_by_side: Show the video's own audio beside each of the above (silence, if none), on one color scale. The
            output has the audio of the first.
        scale: Range of the colors: "video" (from the median to the highest cosine of the whole video), "absolute"
            (cosines 0 to 1), or the lowest and the highest cosine, such as 0.1 0.6.
        look: Colors and decorations.
        readout: JSON file to write peaks and boxes over time to; of several files each has one in the folder.
        overwrite: Replace a file that another command or program made.
        stride_seconds: Time from one map to the next, > 0.
        seconds: Use only this much of the video, from its start; default: all.
        limits: Limits on the files.
        num_workers: Of several files, processes, each with one thread; default: one per core. On a GPU files are
            localized one after the other.
        engine: Where several files are localized: in processes of this machine, or "ray": on all cores of a Ray cluster
            (pip install 'avssl[ray]'), which read the files and the checkpoint and write OUT under the same path on
            shared storage.
        address: Address of the Ray cluster: "auto" on one of its machines, or HOST:PORT of its head; default: Ray on
            this machine alone.
        timeout_seconds: Of several files, longest time for one on a CPU; default: an hour.
        memory_gib: Of several files, most memory of a process on a CPU; default: 16 GiB.
        device: "cpu", "cuda", "cuda:1" ...; "auto" takes a GPU if there is one.
        progress: Show progress bars.

    Returns:
        The maps by the name of their audio, or by the words; empty for several files, whose numbers are in the folder.

    Raises:
        ConfigError: If options exclude each other.
        MediaError: If a file cannot be read or lacks the stream that is needed.
        HubError: If there is no model at ``checkpoint``, or it has no text tower.
        OutputError: If another command or program made an output, it is a source, or another process writes it.
        ValueError: If an option is out of range, or ``out`` is neither mp4 nor png.
        InputError: If none of several files can be localized.
    """
    request = Request(audio, text, silence, noise, side_by_side, scale, look, stride_seconds, seconds, limits)
    names: list[Path | str] = [video] if isinstance(video, Path | str) else list(video)
    if is_many(names):
        if readout is not None:
            raise ConfigError("--readout is of one file: each of several has a JSON file in the folder. Leave it out.")
        if out is not None and Path(out).suffix.lower() in (".mp4", ".png"):
            raise ConfigError(f"-o {out}: several files give a folder. Name one, such as -o {Path(out).stem}.")
        localize_many(
            names,
            out,
            checkpoint,
            request,
            FileLimits(timeout_seconds or FileLimits.timeout_seconds, memory_gib or FileLimits.memory_gib),
            num_workers=num_workers,
            engine=engine,
            address=address,
            overwrite=overwrite,
            device=device,
            progress=progress,
        )
        return {}
    if engine != "local" or any(given is not None for given in (address, num_workers, timeout_seconds, memory_gib)):
        raise ConfigError(
            "--engine, --address, --num-workers, --timeout-seconds and --memory-gib are for several files, a folder or "
            "a manifest."
        )
    target = _output(names[0], out)
    command = Command.of(
        "localize",
        **{**vars(request), "audio": place(audio)},
        video=place(names[0]),
        checkpoint=place(checkpoint),
    )
    reads = (names[0], audio, checkpoint)
    with claimed_files([target, readout], command, overwrite=overwrite, reads=reads):
        return _localize_one(names[0], target, checkpoint, request, readout, device, progress)


def _localize_one(
    video: Path | str,
    out: Path,
    checkpoint: Path | str | None,
    request: Request,
    readout: Path | str | None,
    device: str,
    progress: bool,
) -> dict[str, Heatmap]:
    pretrained = load_localizer(checkpoint, device)
    if checkpoint is None:
        print(f"model: {DEMO_NOTE}")
    request.check(pretrained)
    maps, numbers = localize_file(video, out, pretrained, request, progress=progress)
    if readout is not None:
        write_json(readout, numbers)
        print(f"numbers: {readout}")
    best = best_peak(numbers)
    print(f"highest cosine {best['confidence']:.2f} at {best['second']:.2f} s, x {best['x']:.0f}, y {best['y']:.0f}")
    familiarity = next(iter(maps.values())).familiarity
    assert familiarity is not None, "localize_file asks"
    print(familiarity.line)
    print(f"{'image' if out.suffix == '.png' else 'video'}: {out}")
    return maps


def _output(video: Path | str, out: Path | str | None) -> Path:
    """Return the file to write after checking it."""
    path = Path(out) if out else Path(f"{Path(video).stem}_heatmap.{'png' if is_image(video) else 'mp4'}")
    if path.suffix.lower() not in (".mp4", ".png"):
        raise InputError(f"{path}: a heat map is written as a video (.mp4) or as one image (.png). Choose another -o.")
    return path
