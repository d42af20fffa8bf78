"""Count how often the packaged weights call videos foreign: unseen SoundingShapes, and videos of other worlds.

    python benchmarks/foreign.py --real FOLDERS --media FOLDER     about 3 minutes of a core

Rows: unseen clips of SoundingShapes as the weights were trained on, and as `avssl synthesize` draws them by default, of
another seed than those of the stored statistics (false alarms); clips of each folder that is named, and sample videos;
another synthetic world: moving noise, gratings and gradients with chirps, made here; and clips of SoundingShapes with
the audio of the first folder, which only the audio can tell.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import torch
from demo_world import SPLITS
from torch import Tensor

from avssl.core.familiarity import Familiarity
from avssl.core.progress import Bar
from avssl.features.familiarity import check_familiarity
from avssl.features.localize import load_localizer
from avssl.hub.pretrained import PretrainedModel
from avssl.media import MediaError, open_media, write_video
from avssl.reports.text_table import markdown_table
from avssl.synthetic import Split, synthesize_corpus


def other_world(folder: Path, count: int, seed: int) -> list[Path]:
    """Write clips of another synthetic world: 96 x 96 pixels, 8 frames per second, 4 s."""
    folder.mkdir(parents=True, exist_ok=True)
    rate, seconds = 24_000, 4.0
    t_S = torch.arange(round(rate * seconds)) / rate
    y_HW, x_HW = torch.meshgrid(torch.linspace(-1, 1, 96), torch.linspace(-1, 1, 96), indexing="ij")
    files = []
    for number in range(count):
        draw = torch.Generator().manual_seed(1000 * seed + number)
        a, b, c, speed = torch.rand(4, generator=draw).tolist()

        def frames(draw: torch.Generator = draw, a: float = a, b: float = b, speed: float = speed) -> Iterator[Tensor]:
            for step in range(32):
                phase = 8 * speed * step / 8
                waves = torch.stack([torch.sin((4 + 20 * a) * x_HW + phase), torch.cos((4 + 20 * b) * y_HW - phase)])
                noise = torch.rand(96, 96, generator=draw)
                picture = torch.stack([(waves[0] + 1) / 2, (waves[0] * waves[1] + 1) / 2, noise])
                yield (255 * picture).byte()

        chirp = 0.3 * torch.sin(2 * math.pi * (200 + 2000 * c) * t_S * (1 + b * t_S / seconds))
        files.append(folder / f"{number:03d}.mp4")
        if not files[-1].exists():
            write_video(files[-1], torch.stack(list(frames())), 8.0, [chirp[None]], rate)
    return files


def checks(pretrained: PretrainedModel, files: list[Path], sounds: list[Path] | None = None) -> list[Familiarity]:
    """Check files, with the audio of others if they are given; unreadable files are left out."""
    found = []
    with Bar(desc="check", total=len(files), unit="file") as bar:
        for number, file in enumerate(files):
            with ExitStack() as stack:
                try:
                    reader = stack.enter_context(open_media(file))
                    other = stack.enter_context(open_media(sounds[number % len(sounds)])) if sounds else None
                    if reader.info.has_video:
                        found.append(check_familiarity(reader, pretrained, other))
                except MediaError as error:
                    print(f"left out: {error}")
            bar.update(1)
    return found


def row(name: str, found: list[Familiarity]) -> list[str]:
    """Return the shares of a set that are called foreign, by check."""

    def share(called: Callable[[Familiarity], bool | None]) -> str:
        values = [answer for answer in map(called, found) if answer is not None]
        return f"{sum(values) / len(values):.3f} ({len(values)})" if values else "-"

    def stream(name: str) -> Callable[[Familiarity], bool | None]:
        return lambda each: next((d.is_foreign for d in each.domains if d.stream == name), None)

    sound = share(lambda each: None if each.sound is None else each.sound.is_foreign)
    return [name, share(lambda each: each.is_foreign), share(stream("frames")), share(stream("audio")), sound]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=None, help="a run or release; default: the packaged weights")
    parser.add_argument("--real", type=Path, nargs="+", default=[], help="folders of other videos, one row each")
    parser.add_argument("--media", type=Path, default=None, help="folder of sample videos")
    parser.add_argument("--work", type=Path, default=Path("foreign.work"), help="folder for clips")
    parser.add_argument("--clips", type=int, default=150, help="clips of each synthetic set, other clips at most")
    parser.add_argument("--skip", type=int, default=0, help="other clips to skip, in the order of their names")
    parser.add_argument("--seed", type=int, default=77, help="random seed of the synthetic clips")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work /= f"seed{options.seed}"
    if not (options.work / "shapes/manifest.csv").exists():
        splits = {name: Split(options.clips, split.settings) for name, split in SPLITS.items()}
        synthesize_corpus(options.work / "shapes", splits, options.seed)
    pretrained = load_localizer(options.checkpoint, "cpu")
    others = {each.name: sorted(each.rglob("*.mp4"))[options.skip :][: options.clips] for each in options.real}
    shapes = {name: sorted((options.work / "shapes" / name).glob("*.mp4")) for name in SPLITS}
    body = [row(f"unseen SoundingShapes, {name} settings", checks(pretrained, files)) for name, files in shapes.items()]
    body.append(
        row("another synthetic world", checks(pretrained, other_world(options.work / "other", 60, options.seed)))
    )
    body += [row(name, checks(pretrained, files)) for name, files in others.items()]
    if others:
        name, sounds = next(iter(others.items()))
        body.append(row(f"SoundingShapes with audio of {name}", checks(pretrained, shapes["trained"][:60], sounds)))
    if options.media:
        media = sorted(path for path in options.media.iterdir() if path.suffix in (".mp4", ".mkv"))
        body.append(row("sample videos", checks(pretrained, media)))
    header = ["videos", "called foreign (n)", "by frames", "by audio", "by own audio"]
    print(markdown_table(header, body))


if __name__ == "__main__":
    main()
