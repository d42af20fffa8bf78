import io
import os
import tarfile

import pytest

from avssl.config import config_from_dict
from avssl.core.manifest import Manifest, ManifestError
from avssl.training.rows import find_rows, hold_out
from avssl.training.run_directory import RunDirectory, default_directory, resolved


def config(source=".", **changes):
    """A run on a folder by default."""
    data = {"source": str(source)} | changes.pop("data", {})
    return config_from_dict({"data": data, **changes})


def manifest(count, root="/videos", **columns):
    names = [f"{number}.mp4" for number in range(count)]
    return Manifest.from_columns({"id": names, "path": names, **columns}, root)


def test_a_share_of_the_rows_is_held_out():
    trained, held_out = hold_out(config(), manifest(1000))
    assert (len(trained), len(held_out)) == (950, 50)
    assert set(trained["id"]).isdisjoint(held_out["id"])
    trained, held_out = hold_out(config(), manifest(10_000))
    assert (len(trained), len(held_out)) == (9872, 128)


def test_the_choice_does_not_depend_on_the_seed():
    first = hold_out(config(train={"seed": 0}), manifest(1000))[1]
    assert hold_out(config(train={"seed": 1}), manifest(1000))[1].hash() == first.hash()


@pytest.mark.parametrize(
    ("changes", "count"),
    [({}, 600), ({"monitor": {"every_steps": 0}}, 5000), ({"monitor": {"held_out_fraction": 0.0}}, 5000)],
)
def test_small_corpora_and_runs_without_monitors_train_on_everything(changes, count):
    trained, held_out = hold_out(config(**changes), manifest(count))
    assert len(trained) == count
    assert held_out is None


def test_the_val_split_is_the_gallery_where_there_is_one(tmp_path):
    whole = manifest(2000, tmp_path, split=["train"] * 1900 + ["val"] * 100)
    whole.write(tmp_path / "manifest.csv")
    train = whole.where(split="train")
    trained, held_out = hold_out(config(tmp_path / "manifest.csv"), train)
    assert len(trained) == 1900
    assert set(held_out["split"]) == {"val"}
    assert len(held_out) == 100
    _, few = hold_out(config(tmp_path / "manifest.csv", monitor={"num_clips": 40}), train)
    assert len(few) == 40
    # All rows are trained on: then some of them must be kept out.
    trained, held_out = hold_out(config(tmp_path / "manifest.csv", data={"split": "all"}), whole)
    assert (len(trained), len(held_out)) == (1900, 100)  # 5 %
    assert set(trained["id"]).isdisjoint(held_out["id"])


def test_no_copy_of_a_training_file_is_in_the_gallery(tmp_path, caplog):
    """The val split, and the rows that are held out where there is none, hold links to training files."""
    names = [f"{number}.mp4" for number in range(1000)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(b"%d" % number)
    links = [f"link{number}.mp4" for number in range(100)]
    for number, name in enumerate(links):
        os.link(tmp_path / names[number], tmp_path / name)
    columns = {"id": names + links, "path": names + links, "split": ["train"] * 950 + ["val"] * 150}
    whole = Manifest.from_columns(columns, tmp_path)
    whole.write(tmp_path / "manifest.csv")
    train = whole.where(split="train")
    trained, held_out = hold_out(config(tmp_path / "manifest.csv"), train)
    assert len(trained) == 950
    assert sorted(held_out["path"]) == sorted(names[950:])
    assert "100 rows are left out of the monitors' gallery" in caplog.text
    trained, held_out = hold_out(config(tmp_path / "manifest.csv", data={"split": "all"}), whole)
    assert len(held_out) == 55
    content = [{(tmp_path / name).read_bytes() for name in part["path"]} for part in (trained, held_out)]
    assert content[0].isdisjoint(content[1])


def test_conditions_choose_the_rows_and_the_gallery(tmp_path):
    split = ["train"] * 60 + ["val"] * 80
    match = [str(number % 10 / 10) for number in range(140)]
    manifest(140, tmp_path, split=split, match=match).write(tmp_path / "manifest.csv")
    settings = config(tmp_path / "manifest.csv", data={"where": "match>=0.5"})
    found, _ = find_rows(settings)
    assert len(found) == 30
    trained, held_out = hold_out(settings, found)
    assert (len(trained), len(held_out)) == (30, 40)
    assert min(map(float, held_out["match"])) == 0.5
    with pytest.raises(ManifestError, match=r"data.where: the manifest has no column 'macth'.* Did you mean match\?"):
        find_rows(config(tmp_path / "manifest.csv", data={"where": "macth>=0.5"}))


@pytest.fixture
def shards(tmp_path):
    """``shards(10, bad=1)`` writes two tars of ten samples, the even ones for training, and one without media."""

    def call(count, bad=0):
        for number in range(2):
            with tarfile.open(tmp_path / f"x-{number}.tar", "w") as tar:
                for sample in range(number, count + bad, 2):
                    split = b'{"split": "%s"}' % (b"val" if sample % 2 else b"train")
                    members = [("json", split), ("mp4", b"video")] if sample < count else [("json", split)]
                    for ending, data in members:
                        about = tarfile.TarInfo(f"{sample:03d}.{ending}")
                        about.size = len(data)
                        tar.addfile(about, io.BytesIO(data))
        return f"{tmp_path}/x-{{0..1}}.tar"

    return call


def test_rows_of_tars_are_those_of_the_split_and_stay_where_they_are(shards, tmp_path):
    source = shards(100)
    settings = config(source)
    found, unusable = find_rows(settings)
    assert (len(found), unusable.num_rows) == (50, 0)
    trained, held_out = hold_out(settings, found)
    assert (len(trained), set(held_out["split"])) == (50, {"val"})
    run = RunDirectory(tmp_path / "runs" / "a")
    run.path.mkdir(parents=True)
    run.write_rows(trained, unusable, held_out)
    again = run.read_rows(source)[0]
    assert again.location(3) == str(tmp_path / "x-0.tar")
    assert again["member_offset"].tolist() == trained["member_offset"].tolist()
    assert run.read_held_out(source).location(0) == str(tmp_path / "x-1.tar")
    assert default_directory(source).name == "x"
    assert default_directory("hf:someone/clips:small").name == "clips-small"
    assert resolved(config("hf:someone/clips")).data.source == "hf:someone/clips"


def test_samples_without_media_are_accounted_and_limited(shards):
    found, unusable = find_rows(config(shards(20, bad=1), data={"split": "all"}))
    assert (len(found), unusable["reason"].to_pylist()) == (20, ["not_media"])
    with pytest.raises(
        ManifestError, match=r"6 of 26 samples cannot be used, more than the allowed share of 0\.1.*6 not_media"
    ):
        find_rows(config(shards(20, bad=6), data={"split": "all"}))
    with pytest.raises(ManifestError, match=r"no such folder or manifest; archives are FILE\.tar"):
        find_rows(config("nowhere"))
