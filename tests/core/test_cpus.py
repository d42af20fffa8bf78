"""Cores are those that affinity and control groups leave, and workers share them among ranks."""

from pathlib import Path

import pytest

from avssl.core import cpus


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """``machine(cores, cgroup, files)``: a machine with these cores and control groups."""

    def make(cores, cgroup="", files=()):
        texts = {tmp_path / name: text for name, text in dict(files).items()} | {Path("/proc/self/cgroup"): cgroup}
        monkeypatch.setattr(cpus, "_CGROUPS", tmp_path)
        monkeypatch.setattr(cpus, "_text", lambda path: texts.get(path, ""))
        monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)))
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)

    return make


@pytest.mark.parametrize(
    ("cgroup", "files", "cores"),
    [
        ("", {}, 32),
        ("0::/job/step\n", {"job/step/cpu.max": "max 100000\n", "job/cpu.max": "600000 100000\n"}, 6),
        ("0::/job\n", {"job/cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 32),
        ("0::/hidden\n", {"cpu.max": "400000 100000\n"}, 4),
        ("3:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "1200000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 12),
        ("3:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 32),
        ("9:name=systemd:/\n8:pids:/\n", {"cpu.max": "1 1\n"}, 32),
    ],
)
def test_cores_are_limited_by_the_container(machine, cgroup, files, cores):
    machine(32, cgroup, files)
    assert cpus.num_cores() == cores


@pytest.mark.parametrize(
    ("cores", "ranks", "workers"), [(1, 1, 1), (2, 1, 2), (7, 1, 7), (8, 1, 7), (16, 1, 14), (192, 8, 21), (4, 8, 1)]
)
def test_workers_share_the_cores_among_ranks_without_a_bound(machine, monkeypatch, cores, ranks, workers):
    machine(cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    assert cpus.decoding_workers() == workers
    assert cpus.decoding_workers(3) == 3
    assert cpus.decoding_workers(0) == 0
