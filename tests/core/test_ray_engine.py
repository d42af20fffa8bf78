"""The options of the engine, and the checks of a machine; tests/recipes/test_ray.py runs verbs on a cluster."""

import os
import sys

import pytest

from avssl.cli import main
from avssl.core import ray_engine
from avssl.core.engines import current_engine, working_on
from avssl.core.errors import ConfigError
from avssl.core.ray_engine import ClusterError, check_machine


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("local", "auto"), "--address auto is of a Ray cluster: give --engine ray too"),
        (("ray", None, 2), "--num-workers 2 counts processes of this machine"),
        (("ray", "auto"), r"--engine ray needs Ray: pip install 'avssl\[ray\]'. One machine needs no Ray"),
    ],
)
def test_options_that_do_not_fit_together_are_named(options, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=message), working_on(*options):
        pass
    with working_on("local", None, 2):
        assert current_engine() is None


def test_processes_of_torchrun_need_a_cluster_that_is_there(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="would start a Ray of its own"), working_on("ray", None):
        pass


@pytest.mark.parametrize(
    "words",
    [
        *("index FOLDER", "prepare M OUT", "embed FOLDER --checkpoint RUN", "classify RUN FOLDER"),
        "localize FOLDER --checkpoint RUN",
    ],
)
def test_every_verb_over_many_files_has_the_engine(words, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FOLDER").mkdir()
    (tmp_path / "M").write_text("id,path\na,a.mp4\n")
    assert main([*words.split(), "--engine", "ray"]) == 2
    assert "--engine ray needs Ray: pip install 'avssl[ray]'" in capsys.readouterr().err


def test_a_machine_that_sees_no_file_or_has_another_version_is_named(tmp_path):
    check_machine(ray_engine.__version__, [tmp_path])
    with pytest.raises(ClusterError, match=rf"^{os.uname().nodename}: does not see {tmp_path}/gone.mp4. Files are not"):
        check_machine(ray_engine.__version__, [tmp_path, tmp_path / "gone.mp4"])
    with pytest.raises(ClusterError, match=f"^{os.uname().nodename}: has avssl .*, and this one is 0.0.0"):
        check_machine("0.0.0", [])
