"""Every command and every Python example of the documentation runs as it stands, or a comment before it says why not.

A page, or one section of the pages of SECTIONS, runs in a folder of its own that holds the files which it names: small
generated clips, a trained run, a folder called FOLDER. Trainings get small settings behind their own. Before a block
may stand one of these lines, which neither GitHub nor the site shows:

    <!-- not run: REASON -->              with one of REASONS, for the whole block
    <!-- not run: REASON (TEXT) -->       for its lines that contain the text
    <!-- run by tests/PATH.py -->         for what another test runs; (TEXT) as above
"""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from huggingface_hub import constants
from PIL import Image

from avssl.cli import main
from avssl.core.manifest import Manifest, read_manifest
from avssl.media import write_video

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [*(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "datasets/README.md"))]
PAGES += sorted(REPOSITORY.glob("docs/*.md"))

REASONS = {
    "needs a GPU",
    "several machines",
    "network",
    "an account",
    "a long computation",
    "a web server",
}
LANGUAGES = {"bash", "python", "text", "json", "yaml"}
MARKER = re.compile(
    r"^<!-- (?:not run: (?P<reason>[^()\n]+?)|run by (?P<test>tests/\S+\.py))(?: \((?P<text>.+)\))? -->\n", re.MULTILINE
)
BLOCK = re.compile(r"((?:^<!-- .* -->\n)*)^```(.*)\n((?:.*\n)*?)^```", re.MULTILINE)
COMMAND = re.compile(
    r"^ *\$? ?(?:[A-Z_]+=\S+ )*(?:avssl|python3?|pip|make|torchrun|ray|hf|git|apt-get|pytest) \S", re.M
)
SECTIONS = {"docs/jobs.md"}
"""Pages whose sections do not continue one another."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, with the lines of comments before it."""

    page: str
    section: str
    line: int
    language: str
    text: str
    markers: tuple[re.Match[str], ...]

    def reason(self, line: str) -> str | None:
        """Return why a line of the block does not run, if it does not."""
        for marker in self.markers:
            if marker["text"] is None or marker["text"] in line:
                return marker["reason"] or f"run by {marker['test']}"
        return None

    def commands(self) -> list[str]:
        """Return the commands that run: continued lines joined, without comments."""
        if self.is_skipped():
            return []
        lines = re.sub(r"\s*\\\n\s*", " ", self.text).splitlines()
        lines = [re.sub(r"(^|\s+)#.*", "", line).strip() for line in lines if self.reason(line) is None]
        return [line for line in lines if line]

    def is_skipped(self) -> bool:
        return any(marker["text"] is None for marker in self.markers)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    page, text = path.relative_to(REPOSITORY).as_posix(), path.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        headings = re.findall(r"^## (.*)$", re.sub(BLOCK, "", text[: match.start()]), re.MULTILINE)
        markers = tuple(MARKER.finditer(match[1]))
        line = text.count("\n", 0, match.start(2)) + 1
        found.append(Block(page, headings[-1] if headings else "", line, match[2], match[3], markers))
    return found


BLOCKS = [block for path in PAGES for block in blocks(path)]


# ---------------------------------------------------------------- what a block may be


def test_languages_of_blocks_are_known():
    texts = {path.name: path.read_text(encoding="utf-8") for path in PAGES}
    assert [name for name, text in texts.items() if re.search(r"^(?: +```|~~~)", text, re.MULTILINE)] == []
    assert [f"{block} {block.language!r}" for block in BLOCKS if block.language not in LANGUAGES] == []
    assert {block.language for block in BLOCKS} == LANGUAGES


def test_commands_stand_in_blocks_of_bash():
    found = [str(block) for block in BLOCKS if block.language not in ("bash", "python") and COMMAND.search(block.text)]
    for path in PAGES:
        rest = BLOCK.sub("", path.read_text(encoding="utf-8"))
        found += [
            f"{path.name}: {line}" for line in re.findall(r"^ {4}.*$", rest, re.MULTILINE) if COMMAND.search(line)
        ]
    assert found == []


def unnamed(test: str | None, lines: list[str]) -> list[str]:
    """Return the verbs and scripts of some lines that a test file does not name, or imports of which it names none."""
    if test is None:
        return []
    text = (REPOSITORY / test).read_text(encoding="utf-8")
    names = [name for line in lines for name in re.findall(r"^ *(?:avssl |python (?:\w+/)+)([\w-]+)", line)]
    missing = [name for name in names if not re.search(rf"\b{name}\b", text)]
    found = [names for line in lines for names in re.findall(r"^from avssl\S* import (.+)", line)]
    imported = [name for names in found for name in names.split(", ")]
    return missing + ([] if not imported or any(name in text for name in imported) else imported)


def test_markers_give_a_known_reason():
    wrong = [reason for reason in REASONS if not any(mark["reason"] == reason for b in BLOCKS for mark in b.markers)]
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        placed = [marker for block in blocks(path) for marker in block.markers]
        if len(placed) != len(re.findall(r"<!-- (?:not run|run by)", text)):
            wrong.append(f"{path.name}: a marker stands before no block, or is misspelled")
        wrong += [
            f"{path.name}: {mark['reason']}" for mark in placed if mark["reason"] and mark["reason"] not in REASONS
        ]
    for block in BLOCKS:
        wrong += [
            f"{block}: {mark['text']}" for mark in block.markers if mark["text"] and mark["text"] not in block.text
        ]
        for mark in block.markers:
            lines = [line for line in block.text.splitlines() if mark["text"] is None or mark["text"] in line]
            wrong += [f"{block}: {mark['test']} does not name {name}" for name in unnamed(mark["test"], lines)]
    assert wrong == []


# ---------------------------------------------------------------- the files that the pages name

TRAIN = (
    "--train.device cpu --train.threads 1 --data.num-workers 0 --optim.epochs 1 --train.precision fp32 "
    "--train.memory-format contiguous"
)
SMALL = (
    f"{TRAIN} --sampling.num-frames 4 "
    "--sampling.frames-per-second 4 --sampling.audio-seconds 1 --sampling.sample-rate-hz 8000 --transform.video.size 32"
)
NARROW = "--model.video.width 4 --model.audio.width 4 --model.head.hidden 16 --model.head.out-features 8"
TINY_VIT = "--model.video.config depth=1 embed_dim=48 num_heads=2 img_size=32"
TINY_MODEL = "hidden_size=16 num_hidden_layers=1 num_attention_heads=2 intermediate_size=16"
SCENES = "--num-clips 12 --num-test-clips 12 --width 48 --height 48"
APPENDED = {
    r"avssl pretrain videos .*--config configs/soundingshapes_sync": (
        f"{TRAIN} --sampling.num-frames 20 --sampling.audio-seconds 1.6"
    ),
    r"avssl pretrain .*--config configs/": TRAIN,
    r"avssl pretrain .*--model.video.backbone vit_.*shared_vit": f"{SMALL} {TINY_VIT}",
    r"avssl pretrain .*--model.video.backbone vit_": f"{SMALL} {TINY_VIT} --model.audio.width 4",
    r"avssl pretrain .*--model.video.pretrained": f"{TRAIN} --model.audio.width 4",
    r"avssl pretrain .*--model.video.name hf": (
        f"{TRAIN} --sampling.frames-per-second 8 --sampling.audio-seconds 1 "
        f"--model.video.config {TINY_MODEL} image_size=32 --model.audio.config {TINY_MODEL}"
    ),
    r"avssl pretrain": f"{SMALL} {NARROW}",
    r"avssl sweep": f"{SMALL} {NARROW} --objective.temperature 0.05 0.1 --train.seed 0",
    r"avssl finetune .*--checkpoint none": f"{SMALL} --model.video.width 4 --model.audio.width 4",
    r"avssl finetune": f"{TRAIN} --test.windows-per-clip 2",
    r"avssl robustness": "--severities 1 --corruptions jpeg",
    r"avssl synthesize .*--duration-seconds 8": f"{SCENES} --duration-seconds 4",
    r"avssl cluster": "--num-clusters 4",
    r"avssl synthesize": f"{SCENES} --duration-seconds 3",
    r"python benchmarks/sync\.py": "--clips 10",
    r"python benchmarks/fuzz\.py": "--files 20",
}
"""Options added to commands that match a pattern, so that they take seconds; the first match counts."""
TRAINS = re.compile(r"avssl (?:pretrain|finetune|distill) (?!.*--(?:out|resume|dry-run)\b)")
"""Commands that make a run in a directory of their own choice."""


def appended(line: str) -> list[str]:
    """Return the words that a command ends with here."""
    if "--resume" in line:
        return []
    return next((shlex.split(words) for pattern, words in APPENDED.items() if re.match(pattern, line)), [])


def make_video(path: Path, number: int, seconds: float = 2.0) -> None:
    """A pattern that moves, and a tone that rises, both of this number alone."""
    generator = torch.Generator().manual_seed(number)
    pattern = torch.nn.functional.interpolate(torch.rand(1, 3, 4, 6, generator=generator), scale_factor=8)[0] * 255
    step, height = 1 + number % 5, 200 + 40 * (number % 40)
    frames = [pattern.roll((step * t, t * (number % 3 - 1)), (2, 1)) for t in range(round(8 * seconds))]
    times = torch.arange(round(8000 * seconds)) / 8000
    tone = 0.5 * torch.sin(2 * torch.pi * (height + 100 * (number % 7) * times) * times)[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, torch.stack(frames).to(torch.uint8), 8.0, tone, 8000)


class World:
    """Files with the names that pages use, each made when the first page needs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def need(self, name: str) -> Path:
        """Return one of FILES, made in the folder of the world."""
        path = self.folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            FILES[name](self, path)
        return path

    def place(self, name: str) -> None:
        """Copy one of FILES into the current folder, unless something has that name."""
        for each in (name, *BESIDE.get(name, ())):
            if not Path(each).exists():
                source = self.need(each)
                Path(each).parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir():
                    own = ("manifest*", ".avssl") if each == "videos" else ()
                    shutil.copytree(source, each, ignore=shutil.ignore_patterns(*own))
                else:
                    shutil.copy2(source, each)

    def place_named(self, text: str, *, is_trained: bool = False) -> None:
        """Place what a command or a program names, but for what it makes, and runs if the page has trained its own."""
        made = re.findall(r"(?:-o|--out|avssl synthesize) (\S+)", text)
        words = {word.removeprefix("random:") for word in re.findall(r"[^\s\"'=(]+", text)}
        for name in FILES:
            if is_trained and name.startswith("runs/"):
                continue
            if name not in made and any(word == name or word.startswith(f"{name}/") for word in words):
                self.place(name)


def run_verb(*words: str | Path) -> None:
    assert main([*map(str, words)]) == 0, shlex.join(map(str, words))


def make_folder(world: World, path: Path) -> None:
    for number in range(6 if path.name == "FOLDER" else 24):
        make_video(path / ("dog", "bird", "cat")[number % 3] / f"{number}.mp4", number)
    for number, name in enumerate(("a.mp4", "1.mp4")):
        make_video(path / name, 30 + number, 4.5)
    if path.name == "FOLDER":
        make_video(path / "holiday/beach.mp4", 32, 3.0)


def make_new(world: World, path: Path) -> None:
    make_video(path / "monday.mp4", 100, 3.0)
    make_video(path / "tuesday.mp4", 101, 2.0)


def make_clip(world: World, path: Path) -> None:
    """A video, whatever its name says: avssl looks at the content."""
    video = path.parent / f"{path.name}.mp4"
    make_video(video, 40, 13.0 if path.name == "clip.mp4" else 3.0)
    video.rename(path)


def make_run(world: World, path: Path) -> None:
    run_verb("pretrain", world.need("FOLDER"), "--out", path, *appended("avssl pretrain"))


def make_classifier(world: World, path: Path) -> None:
    words = ["finetune", world.need("videos"), "--checkpoint", world.need("RUN"), "--out", path]
    run_verb(*words, *appended("avssl finetune"))


def make_shapes(world: World, path: Path) -> None:
    run_verb("synthesize", path, *appended("avssl synthesize"))


def make_groups(world: World, path: Path) -> None:
    """A manifest of SoundingShapes, beside their folder, with columns of groups."""
    rows = read_manifest(world.need("shapes") / "manifest.csv")
    columns = {name: rows[name].tolist() for name in rows.table.column_names}
    for name in ("path", "truth"):
        columns[name] = [f"shapes/{value}" for value in columns[name]]
    columns["label"] = ["loud" if row % 2 else "quiet" for row in range(len(rows))]
    columns["site"] = ["north" if row % 4 < 2 else "south" for row in range(len(rows))]
    columns["speaker_sex"] = ["f" if row % 3 else "m" for row in range(len(rows))]
    Manifest.from_columns(columns, path.parent).write(path.with_suffix(".csv"))
    path.with_suffix(".csv").rename(path)


def make_rows(world: World, path: Path) -> None:
    """A manifest of labeled clips, beside their folder."""
    videos = world.need("videos")
    names = [f"videos/{file.relative_to(videos)}" for file in sorted(videos.glob("*/[0-9]*.mp4"))]
    columns = {"id": names, "path": names, "label": [name.split("/")[1] for name in names]}
    columns["split"] = ["test" if row % 4 == 0 else "train" for row in range(len(names))]
    Manifest.from_columns(columns, path.parent).write(path)


def make_index(world: World, path: Path) -> None:
    run_verb("index", path.parent, "--labels", "folders")


def make_vggsound(world: World, path: Path) -> None:
    """The official files and clips of 24 segments."""
    rows, boxes = [], []
    for number in range(24):
        name, label = f"clip{number:07d}", ("cow lowing", "people marching")[number % 2]
        make_video(path / "videos" / f"{name}_000030.mp4", number, 6.0)
        rows.append(f"{name},30,{label},{'train' if number < 12 else 'test'}\n")
        boxes.append({"file": f"{name}_000030", "class": label, "bbox": [[0.2, 0.2, 0.7, 0.7]]})
    (path / "vggsound.csv").write_text("".join(rows))
    (path / "vggss.json").write_text(json.dumps(boxes[12:]))


def make_shards(world: World, path: Path) -> None:
    path.mkdir()
    clips = sorted(world.need("videos").glob("*/[0-9]*.mp4"))
    for shard in range(8):
        with tarfile.open(path / f"train-{shard:06d}.tar", "w") as tar:
            for clip in clips[shard::8]:
                tar.add(clip, clip.name)


def make_saved(world: World, path: Path) -> None:
    """Write a column of videos as ``Dataset.save_to_disk`` does."""
    path.mkdir()
    clips = [file.read_bytes() for file in sorted(world.need("videos").glob("*/[0-9]*.mp4"))]
    cells = [{"bytes": clip, "path": "x.mp4"} for clip in clips]
    about = {"features": {"video": {"_type": "Video"}}}
    table = pa.table({"video": pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()}))})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": about})})
    file = "data-00000-of-00001.arrow"
    with pa.ipc.new_stream(path / file, table.schema) as stream:
        stream.write_table(table)
    (path / "state.json").write_text(json.dumps({"_data_files": [{"filename": file}], "_split": None}))
    (path / "dataset_info.json").write_text(json.dumps(about))


def make_image(world: World, path: Path) -> None:
    Image.new("RGB", (64, 48), "gray").save(path)


FILES: dict[str, Callable[[World, Path], None]] = {
    **dict.fromkeys(("FOLDER", "videos"), make_folder),
    **dict.fromkeys(("VIDEO", "video.mp4", "clip.mp4", "sound.wav", "other.wav", "bark.wav"), make_clip),
    **dict.fromkeys(("RUN", "runs/FOLDER", "runs/videos", "runs/first", "runs/second"), make_run),
    **dict.fromkeys(("RUN-finetune", "runs/videos-finetune"), make_classifier),
    **dict.fromkeys(("birds.csv", "manifest.csv"), make_rows),
    "MANIFEST": make_groups,
    "videos/manifest.csv": make_index,
    "data/vggsound": make_vggsound,
    "new": make_new,
    "shapes": make_shapes,
    "shards": make_shards,
    "saved": make_saved,
    "image.jpg": make_image,
    **{
        name: lambda world, path: shutil.copytree(REPOSITORY / path.name, path)
        for name in ("configs", "datasets", "demos", "benchmarks")
    },
}
"""Function that makes each file or folder that the pages name."""
SNAPSHOT = "0123456789abcdef0123456789abcdef01234567"
HUB = {
    "owner/name": ("RUN", ("main", "v1")),
    "facebook/pe-av-small": ("tiny_pe_av", ("main",)),
    "timm/vit_small_patch14_dinov2.lvd142m": ("timm_folder", ("main",)),
}
"""Repositories: a file of the world or a fixture with the model, and revisions."""
BESIDE = {"MANIFEST": ("shapes",), "birds.csv": ("videos",), "manifest.csv": ("videos",)}
"""Folders that a file refers to."""


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def hub(world, tmp_path_factory, request) -> Path:
    """The cache of the hub's client, with tiny models under the names of the pages."""
    cache = tmp_path_factory.mktemp("hub")
    for name, (source, revisions) in HUB.items():
        folder = cache / f"models--{name.replace('/', '--')}"
        found = world.need(source) / "weights" if source in FILES else request.getfixturevalue(source)
        shutil.copytree(found, folder / "snapshots" / SNAPSHOT)
        (folder / "refs").mkdir()
        for revision in revisions:
            (folder / "refs" / revision).write_text(SNAPSHOT)
    return cache


# ---------------------------------------------------------------- running


class Page:
    """The commands and programs of a page, in a folder of their own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.names: dict[str, Any] = {
            "__name__": "page",
            "video_embeddings": torch.randn(4, 8),
            "audio_embeddings": torch.randn(4, 8),
        }
        self.is_trained = False  # by a command that names no directory, so that the later ones must know its name

    def run(self, line: str) -> None:
        """Run a command, and look for the file that it says it makes."""
        line = line.replace("/data/", "data/")
        self.world.place_named(line, is_trained=self.is_trained)
        words = shlex.split(line)
        program, *rest = [*words, *appended(line)]
        if program == "avssl":
            run_verb(*rest)
            self.is_trained |= bool(TRAINS.match(line))
        elif program == "pip":
            check_extras(rest)
        elif rest[0].endswith(".py"):
            run_script(rest)
        else:
            assert program == "python3", line
            subprocess.run([sys.executable, *rest], check=True, capture_output=True, timeout=60)
        for made in re.findall(r"(?<= -o )\S+", line):
            assert "--dry-run" in words or Path(made).exists(), line

    def execute(self, block: Block) -> None:
        """Execute a Python example with the names of the examples before it."""
        self.world.place_named(block.text, is_trained=self.is_trained)
        exec(compile(block.text, str(block), "exec"), self.names)


def check_extras(words: list[str]) -> None:
    """Check that a pip command installs this package, with extras that exist."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert words[0] == "install"
    for name in words[1:]:
        if match := re.fullmatch(r"(?:avssl|\.)\[(.*)\]", name):
            assert set(match[1].split(",")) <= set(project["optional-dependencies"]), name
        else:
            assert name == "-c" or (REPOSITORY / name).exists(), name


def run_script(words: list[str]) -> None:
    """Run a script in this process, where torch is loaded already."""
    status: Any = None
    arguments, path, modules = sys.argv, list(sys.path), set(sys.modules)
    sys.argv, sys.path[:] = words, [str(Path(words[0]).parent.resolve()), *path]
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        status = end.code
    finally:
        sys.argv, sys.path[:] = arguments, path
        for name in set(sys.modules) - modules:  # those beside the script: other tests have their own of these names
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(Path(words[0]).parent.resolve()):
                del sys.modules[name]
    assert not status, words


PARTS = sorted({(block.page, block.section if block.page in SECTIONS else "") for block in BLOCKS})


@pytest.mark.parametrize(("page", "section"), PARTS, ids=[f"{page}:{section}".rstrip(":") for page, section in PARTS])
def test_page_runs(page, section, world, request, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BROWSER", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    part = Page(world)
    chosen = [block for block in BLOCKS if block.page == page and (page not in SECTIONS or block.section == section)]
    if any("hf-hub:" in block.text for block in chosen):
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(request.getfixturevalue("hub")))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    printed = ""
    for block in chosen:
        if block.language == "bash":
            for line in block.commands():
                part.run(line)
                printed += (said := capsys.readouterr().out)
                if rows := re.search(r"benchmarks/(\w+)\.py .*--(?:table|results)$", line):
                    check_rows(said, REPOSITORY / page, REPOSITORY / f"benchmarks/results/{rows[1]}.md")
        elif block.language == "python" and not block.is_skipped():
            part.execute(block)
    check = CHECKS.get((page, section))
    if check:
        check(printed + capsys.readouterr().out)


def check_rows(printed: str, *pages: Path) -> None:
    """The tables that a script prints of its rows are those of the page, or of the page with all rows."""
    known = {line for page in pages if page.exists() for line in page.read_text(encoding="utf-8").splitlines()}
    rows = [line for line in printed.splitlines() if line.startswith("|")]
    assert rows
    assert [line for line in rows if line not in known] == []


def check_classification(printed: str) -> None:
    top1 = json.loads(Path("runs/videos-finetune/results.json").read_text())["mean"]["top1"]
    assert re.search(rf"on \d+ rows with a label of the classifier: top1 {top1:.3f}", printed)
    predictions = Path("predictions.html").read_text()
    assert predictions.count("<video") == 2
    assert "new/monday.mp4" in predictions
    assert Path("predictions.windows.csv").read_text().count("monday") >= 2 * 3  # id and path of three windows
    assert len(re.findall(r" s: .*new/monday.mp4: ", printed)) == 3


CHECKS = {("docs/jobs.md", "Classify my videos"): check_classification}
"""Text that the output of a part must contain, besides its files."""
