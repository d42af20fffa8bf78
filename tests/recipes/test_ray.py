"""Verbs over many files on a cluster of two machines, one of which is lost, give the bytes of one machine."""

import threading
import time
import warnings

import pytest
import torch

from avssl.cli import main
from avssl.hub.classifier import create_classifier, save_classifier

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'avssl[ray]'")

_NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}


@pytest.fixture(scope="module")
def cluster():
    """Two machines of one core, both on this one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={**_NODE, "include_dashboard": False})
        made.add_node(**_NODE)
        ray.init(address=made.address, log_to_driver=False)  # once: each connection starts processes of its own
        yield made
        ray.shutdown()
        made.shutdown()


def lose_a_machine(cluster, sign) -> threading.Thread:
    """Kill the second machine once there is a sign of work."""

    def wait_and_kill() -> None:
        while not sign():
            time.sleep(0.02)
        (other,) = cluster.worker_nodes
        cluster.remove_node(other, allow_graceful=False)

    thread = threading.Thread(target=wait_and_kill, daemon=True)
    thread.start()
    return thread


@pytest.fixture(scope="module")
def listed(videos):
    """The manifest of one machine."""
    assert main(["index", str(videos), "-o", str(videos.parent / "local.csv")]) == 0
    return videos.parent / "local.csv"


@pytest.mark.filterwarnings("ignore")  # of Ray
def test_index_and_embed_on_a_cluster_give_the_bytes_of_one_machine(
    cluster, listed, videos, tiny_release, tmp_path, monkeypatch
):
    there = ["--engine", "ray", "--address", cluster.address]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # nothing is known yet
    assert main(["index", str(videos), "-o", str(videos.parent / "ray.csv"), *there]) == 0
    assert (videos.parent / "ray.csv").read_bytes() == listed.read_bytes()
    words = ["--checkpoint", str(tiny_release), "--device", "cpu", "--stride-seconds", "0.5"]
    for name, more in (("one", ["--num-workers", "2"]), ("two", there)):
        assert main(["embed", str(listed), "-o", str(tmp_path / f"{name}.parquet"), *words, *more]) == 0
    assert (tmp_path / "two.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()


@pytest.fixture
def few(videos, tmp_path):
    """Two videos, and a file that is none."""
    folder = tmp_path / "few"
    folder.mkdir()
    for name in ("clip00.mp4", "clip19.mp4"):
        (folder / name).symlink_to(videos / name)
    (folder / "text.mp4").write_text("no video")
    return folder


@pytest.mark.filterwarnings("ignore")  # of Ray
def test_localize_on_a_cluster_gives_the_bytes_of_one_machine(cluster, few, tiny_release, tmp_path):
    words = ["localize", str(few), "--checkpoint", str(tiny_release), "--stride-seconds", "0.5", "--seconds", "1"]
    there = ["--engine", "ray", "--address", cluster.address]
    for name, more in (("one", ["--num-workers", "2", "--device", "cpu"]), ("two", there)):
        assert main([*words, "-o", str(tmp_path / name), *more]) == 0
    found = sorted(path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*") if path.is_file())
    assert [str(path) for path in found if path.parts[0] == "maps"] == [
        *("maps/000000.json", "maps/000000.mp4", "maps/000001.json", "maps/000001.mp4")
    ]
    for path in found:
        if path.parts[0] != ".avssl":
            assert (tmp_path / "two" / path).read_bytes() == (tmp_path / "one" / path).read_bytes(), path


@pytest.mark.filterwarnings("ignore")  # of Ray
def test_classify_on_a_cluster_gives_the_bytes_of_one_machine(cluster, few, tmp_path, finetuning):
    config = finetuning(few)
    model, transform = create_classifier(config, 3)
    mean = transform.standardize.mean
    transform.standardize.set_statistics(torch.zeros_like(mean), torch.ones_like(mean))
    weights = save_classifier(tmp_path / "weights", model, transform, ["a", "b", "c"], config)
    words = ["classify", str(weights), str(few), "--device", "cpu", "--every", "0.5", "--all-classes"]
    for name, more in (("one", ["--num-workers", "2"]), ("two", ["--engine", "ray", "--address", cluster.address])):
        assert main([*words, "-o", str(tmp_path / f"{name}.csv"), *more]) == 0
    for ending in ("csv", "windows.csv", "failures.csv"):
        assert (tmp_path / f"two.{ending}").read_bytes() == (tmp_path / f"one.{ending}").read_bytes()


@pytest.mark.filterwarnings("ignore")  # of Ray
def test_a_cluster_that_loses_a_machine_loses_nothing(cluster, listed, tmp_path, capsys):
    copy = ["--short_side", "32", "--sample_rate_hz", "8000", "--rows_per_shard", "1"]
    assert main(["prepare", str(listed), str(tmp_path / "one"), *copy, "--num-workers", "2"]) == 0
    shards = tmp_path / "two" / "shards"
    loss = lose_a_machine(cluster, lambda: len(list(shards.glob("*.json"))) > 3)
    capsys.readouterr()
    words = ["--engine", "ray", "--address", cluster.address]
    assert main(["prepare", str(listed), str(tmp_path / "two"), *copy, *words]) == 0
    assert "20 clips, " in capsys.readouterr().out
    loss.join(10)
    assert not loss.is_alive()
    assert not cluster.worker_nodes
    for name in ("manifest.csv", *(f"shards/{number:06d}.tar" for number in range(20))):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
