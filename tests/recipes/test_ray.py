"""Verbs over many files on a cluster of two machines, one of which is lost, give the bytes of one machine."""

import threading
import time
import warnings

import pytest

from avssl.cli import main

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


@pytest.mark.filterwarnings("ignore")  # of Ray
def test_a_cluster_that_loses_a_machine_gives_the_bytes_of_one(
    cluster, videos, tiny_release, tmp_path, monkeypatch, capsys
):
    there = ["--engine", "ray", "--address", cluster.address]
    listed, out = {}, {}
    for engine, words in (("local", ["--num-workers", "2"]), ("ray", there)):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / engine))  # nothing is known yet
        listed[engine] = videos.parent / f"{engine}.csv"
        assert main(["index", str(videos), "-o", str(listed[engine]), *words]) == 0
    assert listed["ray"].read_bytes() == listed["local"].read_bytes()

    words = ["--checkpoint", str(tiny_release), "--device", "cpu", "--stride-seconds", "0.5"]
    for engine, more in (("local", ["--num-workers", "2"]), ("ray", there)):
        out[engine] = tmp_path / engine / "features.parquet"
        assert main(["embed", str(listed["local"]), "-o", str(out[engine]), *words, *more]) == 0
    assert out["ray"].read_bytes() == out["local"].read_bytes()

    copy = ["--short_side", "32", "--sample_rate_hz", "8000", "--rows_per_shard", "1"]
    assert main(["prepare", str(listed["local"]), str(tmp_path / "one"), *copy, "--num-workers", "2"]) == 0
    shards = tmp_path / "two" / "shards"
    loss = lose_a_machine(cluster, lambda: len(list(shards.glob("*.json"))) > 3)
    capsys.readouterr()
    assert main(["prepare", str(listed["local"]), str(tmp_path / "two"), *copy, *there]) == 0
    printed = capsys.readouterr()
    assert "prepare: clip" in printed.err
    assert "20 clips, " in printed.out
    loss.join(10)
    assert not loss.is_alive()
    assert not cluster.worker_nodes
    for name in ("manifest.csv", *(f"shards/{number:06d}.tar" for number in range(20))):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
