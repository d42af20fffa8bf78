"""Tiny packages in the layouts of Tux Paint and GCompris, made here: nothing of the real ones is in the tests."""

import struct
import wave
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avssl.synthetic.stamps import StampWorld


def photograph(seed: int, *, has_alpha: bool = True, flat: bool = False, size: int = 64) -> bytes:
    """Return a noisy disc, with transparency or before an even ground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    inside = np.hypot(x, y) < 0.4 * size
    noise = 0 if flat else rng.integers(-30, 30, (size, size, 3))
    color = np.clip(rng.integers(40, 160, 3) + noise, 0, 255)
    rgb = np.where(inside[..., None], color, 255).astype(np.uint8)
    pixels = np.dstack([rgb, 255 * inside.astype(np.uint8)]) if has_alpha else rgb
    file = BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def place(seed: int) -> bytes:
    file = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (80, 100, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def tone(hertz: float, seconds: float = 0.4, amplitude: float = 0.5) -> bytes:
    """Return a WAV of 8 kHz that begins with a tenth of a second of silence."""
    time = np.arange(int(seconds * 8000)) / 8000
    samples = np.concatenate([np.zeros(800), amplitude * np.sin(2 * np.pi * hertz * time)])
    file = BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


def resource_file(files: dict[str, bytes]) -> bytes:
    """Return a Qt resource file, version 3, whose files are all in one folder with a long name."""
    names, contents, nodes = BytesIO(), BytesIO(), []
    for name, content in files.items():
        nodes.append(struct.pack(">IHHHIQ", names.tell(), 0, 0, 0, contents.tell(), 0))
        names.write(struct.pack(">HI", len(name), 0) + name.encode("utf-16-be"))
        contents.write(struct.pack(">I", len(content)) + content)
    root = struct.pack(">IHIIQ", 0, 2, len(files), 1, 0)
    tree = root + b"".join(nodes)
    start = 24
    header = struct.pack(">4s5I", b"qres", 3, start, start + len(tree), start + len(tree) + len(contents.getvalue()), 0)
    return header + tree + contents.getvalue() + names.getvalue()


@pytest.fixture(scope="session")
def stamp_folders(tmp_path_factory) -> list[Path]:
    """A folder of stamps, and one with a resource file: owl and cow are in both."""
    root = tmp_path_factory.mktemp("stamps")
    animals, drawn = root / "tuxpaint" / "animals", root / "tuxpaint" / "animals" / "cartoon"
    drawn.mkdir(parents=True)
    for seed, name in enumerate(("owl", "cow", "cow_white", "dog", "potato", "giraffe", "leek")):
        (animals / f"{name}.png").write_bytes(photograph(seed))
    for hertz, name in ((300, "owl"), (500, "cow"), (700, "dog")):
        (animals / f"{name}.wav").write_bytes(tone(hertz))
        (animals / f"{name}_desc_pt_BR.wav").write_bytes(tone(99))
    (animals / "giraffe.wav").write_bytes(tone(300, amplitude=0.0))
    (animals / "owl_mirror.png").write_bytes(photograph(50))
    (animals / "zebra.png").write_bytes(photograph(0))
    (animals / "broken.png").write_bytes(photograph(51)[:200])
    (animals / "flat.png").write_bytes(photograph(52, flat=True))
    (animals / "tiny.png").write_bytes(photograph(53, size=20))
    (animals / "kettle.svg").write_text("<svg/>")
    (drawn / "owl.png").write_bytes(photograph(54))
    base = "gcompris/src/activities"
    resources = root / "gcompris" / "rcc"
    resources.mkdir(parents=True)
    (resources / "all.rcc").write_bytes(
        resource_file(
            {
                f"{base}/explore_farm_animals/resource/animals/owl.png": photograph(60, has_alpha=False),
                f"{base}/explore_farm_animals/resource/animals/cow.png": photograph(61, has_alpha=False),
                f"{base}/explore_farm_animals/resource/animals/pig.png": place(62),
                f"{base}/explore_farm_animals/resource/animals/owl.wav": tone(310),
                f"{base}/explore_farm_animals/resource/animals/cow.wav": tone(510),
                f"{base}/melody/resource/knock.wav": tone(900),
                **{f"{base}/explore_monuments/resource/{i}/tower.png": place(70 + i) for i in range(5)},
                f"{base}/melody/melody.qml": b"Item {}",
            }
        )
    )
    return [root / "tuxpaint", root / "gcompris"]


@pytest.fixture(scope="session")
def world(stamp_folders) -> StampWorld:
    return StampWorld.load(stamp_folders, progress=False)
