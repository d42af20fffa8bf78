import json
import shutil

import pytest

from avssl.cli import main
from avssl.core.manifest import read_manifest
from avssl.training.run_directory import RunDirectory

COPY = ["--short_side", "32", "--sample_rate_hz", "8000", "--rows_per_shard", "6", "--num_workers", "0"]


@pytest.fixture(scope="module")
def manifest(videos, tmp_path_factory):
    assert main(["index", str(videos), "-o", str(videos.parent / "all.csv")]) == 0
    return videos.parent / "all.csv"


def test_prepare_then_pretrain_from_the_copy(manifest, tmp_path, capsys):
    """The whole path in Parquet, whose losses are those in CSV."""
    listed, out = manifest.with_suffix(".parquet"), tmp_path / "copy"
    assert main(["index", str(manifest.parent / "videos"), "-o", str(listed)]) == 0
    assert read_manifest(listed).table.equals(read_manifest(manifest).table)
    assert main(["prepare", str(listed), str(out), *COPY]) == 0
    printed = capsys.readouterr().out
    assert "MiB per hour" in printed
    assert f"manifest: {out / 'manifest.parquet'}" in printed
    copy = read_manifest(out / "manifest.parquet")
    about = json.loads((out / "prepared.json").read_text())
    assert about["clips"] == len(copy) == len(read_manifest(manifest))
    copy.write(out / "manifest.csv")
    words = (
        "--sampling.num_frames 4 --sampling.audio_seconds 1 --sampling.sample_rate_hz 8000 --transform.video.size 28"
    )
    words += " --model.video.width 4 --model.audio.width 4 --optim.batch_size 8 --optim.epochs 1"
    words += " --data.num_workers 0 --data.clips_per_read 2 --train.device cpu --monitor.every_steps 0"
    words += " --train.precision fp32 --train.memory_format contiguous"
    losses = {}
    for kind in ("parquet", "csv"):
        run = tmp_path / kind
        assert main(["pretrain", str(out / f"manifest.{kind}"), "--out", str(run), *words.split()]) == 0
        assert (run / "weights" / "model.safetensors").is_file()
        losses[kind] = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        rows, _ = RunDirectory(run).read_rows(out / f"manifest.{kind}")
        assert rows.hash() == copy.hash()
        assert rows.location(0) == str(out / "shards" / "000000.tar")
    assert losses["parquet"] == losses["csv"]
    assert (tmp_path / "parquet" / "manifest.arrow").is_file()
    assert not (tmp_path / "parquet" / "manifest.csv").exists()
    assert main(["pretrain", "--resume", str(tmp_path / "parquet")]) == 0
    assert "replaced since" not in capsys.readouterr().err


def test_tasks_share_the_shards_and_the_last_one_writes_the_manifest(manifest, tmp_path, capsys):
    out = tmp_path / "copy"
    for task in range(3):
        assert not (out / "manifest.csv").exists()
        assert main(["prepare", str(manifest), str(out), *COPY, "--task-index", str(task), "--num-tasks", "3"]) == 0
    assert "still to be made" in capsys.readouterr().out
    alone = tmp_path / "alone"
    assert main(["prepare", str(manifest), str(alone), *COPY]) == 0
    assert (out / "manifest.csv").read_bytes() == (alone / "manifest.csv").read_bytes()


def test_finished_shards_are_kept_and_missing_ones_made_again(manifest, tmp_path, capsys):
    out = tmp_path / "copy"
    assert main(["prepare", str(manifest), str(out), *COPY]) == 0
    before = {path.name: path.stat().st_mtime_ns for path in (out / "shards").glob("*.tar")}
    (out / "shards" / "000001.json").unlink()
    capsys.readouterr()
    assert main(["prepare", str(manifest), str(out), *COPY]) == 0
    after = {path.name: path.stat().st_mtime_ns for path in (out / "shards").glob("*.tar")}
    assert [name for name in sorted(before) if before[name] != after[name]] == ["000001.tar"]
    assert f"{len(before) - 1} shards existed already" in capsys.readouterr().out


def test_verify(manifest, tmp_path, capsys):
    out = tmp_path / "copy"
    assert main(["prepare", str(manifest), str(out), *COPY]) == 0
    assert main(["prepare", str(manifest), str(out), "--verify"]) == 0
    shard = out / "shards" / "000000.tar"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert main(["prepare", str(manifest), str(out), "--verify"]) == 1
    assert f"damaged: {shard}" in capsys.readouterr().out


def test_wrong_input_raises(manifest, tmp_path, capsys):
    out = tmp_path / "copy"
    assert main(["prepare", str(manifest), str(out), *COPY]) == 0
    cases = [
        ([str(manifest), str(out), *COPY, "--quality", "5"], 1, "holds a copy with quality 3, but 5 is requested"),
        ([str(out / "manifest.csv"), str(tmp_path / "b"), *COPY], 1, "is a prepared copy already"),
        ([str(manifest), str(tmp_path / "b"), "--task-index", "2", "--num-tasks", "2"], 2, "task_index < num_tasks"),
        ([str(tmp_path / "none.csv"), str(tmp_path / "b")], 1, "no such manifest"),
        ([str(tmp_path), str(tmp_path / "b")], 1, "is a folder, and a manifest (CSV or Parquet) is needed"),
        ([str(manifest), str(tmp_path / "b"), "--quality", "90"], 2, "--quality (90) must be 1 to 31"),
        ([str(manifest), str(out), *COPY, "--split", "test"], 1, "no column 'split'"),
        ([str(manifest), str(tmp_path / "c"), *COPY[:2], "--frames_per_second", "70000"], 1, "cannot encode a clip"),
    ]
    for words, status, message in cases:
        assert main(["prepare", *words]) == status
        assert message in capsys.readouterr().err


def test_several_processes_equal_one(manifest, tmp_path):
    for name, workers in (("one", "0"), ("two", "2")):
        assert main(["prepare", str(manifest), str(tmp_path / name), *COPY[:-1], workers]) == 0
    files = [sorted((tmp_path / name / "shards").glob("*.tar")) for name in ("one", "two")]
    assert [a.read_bytes() for a in files[0]] == [b.read_bytes() for b in files[1]]


def test_a_copy_never_goes_into_the_folder_of_its_sources(videos, tmp_path, capsys):
    folder = tmp_path / "v"
    shutil.copytree(videos, folder)
    assert main(["index", str(folder)]) == 0
    (tmp_path / "link").symlink_to(folder)
    before = (folder / "manifest.csv").read_bytes()
    for out in (folder, tmp_path / "link", folder / ".." / "v", tmp_path):
        for more in ([], ["--overwrite"]):
            assert main(["prepare", str(folder / "manifest.csv"), str(out), *COPY, *more]) == 1
            assert "holds other files" in capsys.readouterr().err
    assert (folder / "manifest.csv").read_bytes() == before
    assert not (folder / "shards").exists()
    assert not (folder / "prepared.json").exists()


def test_a_copy_of_another_manifest_is_replaced_with_overwrite_only(manifest, tmp_path, capsys):
    out, few = tmp_path / "copy", manifest.parent / "few.csv"
    few.write_text("".join(manifest.read_text().splitlines(keepends=True)[:9]))
    assert main(["prepare", str(manifest), str(out), *COPY]) == 0
    before = (out / "manifest.csv").read_bytes()
    assert main(["prepare", str(few), str(out), *COPY]) == 1
    assert "holds a copy with manifest" in capsys.readouterr().err
    assert (out / "manifest.csv").read_bytes() == before
    assert main(["prepare", str(few), str(out), *COPY, "--overwrite"]) == 0
    assert len(read_manifest(out / "manifest.csv")) == 8


def test_two_processes_cannot_make_the_same_share(manifest, tmp_path, capsys):
    from avssl.core.output_records import Command
    from avssl.core.outputs import FolderKind, claimed_folder

    with claimed_folder(tmp_path / "copy", Command.of("prepare"), FolderKind("a copy", ())):
        for more in ([], ["--overwrite"], ["--task-index", "1", "--num-tasks", "2"]):
            assert main(["prepare", str(manifest), str(tmp_path / "copy"), *COPY, *more]) == 1
            assert "is writing it" in capsys.readouterr().err
