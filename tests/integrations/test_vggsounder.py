"""The benchmark on a few videos: against the package's own program where it is installed."""

import csv
import pickle

import numpy as np
import pytest

from avssl.core.errors import InputError
from avssl.integrations.vggsounder import SUBSETS, benchmark, read_labels

NUM_CLASSES, NUM_VIDEOS = 12, 40


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """Return the labels' file, the predictions' files, the classes and the logits by video and input."""
    folder, generator = tmp_path_factory.mktemp("board"), np.random.default_rng(0)
    classes = [f"class {i}, of several words" for i in range(NUM_CLASSES)]
    videos = [f"-video{i:02d}_000030" for i in range(NUM_VIDEOS)]
    with (folder / "vggsounder.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video_id", "label", "modality", "background_music", "static_image", "voice_over"])
        for video in videos:
            for place in generator.choice(NUM_CLASSES, generator.integers(1, 4), replace=False):
                writer.writerow([video, classes[place], generator.choice(["A", "V", "AV"]), False, False, False])
    logits = {name: generator.normal(size=(NUM_VIDEOS, NUM_CLASSES)) for name in ("a", "v", "av")}
    files = {name: folder / f"{name}.npz" for name in logits}
    shuffled = generator.permutation(NUM_CLASSES)
    for name, found in logits.items():
        ids = np.array([f"test/{video}.mp4" for video in videos])
        np.savez(files[name], ids=ids, scores=found[:, shuffled], classes=np.array(classes)[shuffled])
    return folder / "vggsounder.csv", files, classes, dict(zip(videos, zip(*logits.values(), strict=True), strict=True))


@pytest.mark.filterwarnings("ignore")  # deprecated calls and unclosed files inside of the package
def test_the_packages_own_program_gives_the_same_numbers(board, tmp_path):
    official = pytest.importorskip("vggsounder.benchmark")
    labels, files, classes, logits = board
    ours = benchmark(read_labels(labels), files)
    table = official.VGGSounder(labels, background_music=None)
    table.get_all_labels = lambda: classes  # of its own 309, in the order of the logits
    content = {
        f"{video}.mp4": {"logits": {name: list(values) for name, values in zip(("a", "v", "av"), found, strict=True)}}
        for video, found in logits.items()
    }
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(content))
    theirs = official.compute_all_results(
        str(tmp_path), vggsounder=table, modalities=list(SUBSETS), verbose=False, out=None
    )["model"]
    for subset, numbers in ours["scores"].items():
        for name, value in numbers.items():
            if name != "n":
                assert value == pytest.approx(theirs[subset][name]), (subset, name)
    assert ours["confusion"] == {name: pytest.approx(theirs[name]["mu"]) for name in ("a", "v", "av")}


def test_clips_without_a_prediction_are_counted(board):
    labels, files, _, _ = board
    known = read_labels(labels)
    found = benchmark(known | {"another_000000": next(iter(known.values()))}, files)
    assert (found["n"], found["missing"]) == (NUM_VIDEOS, 1)
    only_heard = sum("A" in each.values() for each in known.values())
    assert found["scores"]["a only"]["n"] == only_heard


def test_wrong_files_are_named(board, tmp_path):
    labels, files, _, _ = board
    known = read_labels(labels)
    with pytest.raises(InputError, match="predictions of v are missing"):
        benchmark(known, {name: path for name, path in files.items() if name != "v"})
    with pytest.raises(InputError, match="no class 'a cat'"):
        benchmark({"video": {"a cat": "A"}}, files)
    with pytest.raises(InputError, match="no clip has an id"):
        benchmark({"unknown": next(iter(known.values()))}, files)
    (tmp_path / "bad.csv").write_text("video_id,label,modality\nx,cat,B\n")
    with pytest.raises(InputError, match="row 2 has modality 'B'"):
        read_labels(tmp_path / "bad.csv")
    (tmp_path / "other.csv").write_text("id,label\nx,cat\n")
    with pytest.raises(InputError, match="no column modality, video_id"):
        read_labels(tmp_path / "other.csv")
