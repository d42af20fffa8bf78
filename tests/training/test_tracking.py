import pytest

from avssl.config import Config, FinetuneConfig, config_from_dict
from avssl.engine import trackers
from avssl.training.build import check_options
from avssl.training.tracking import create_log


@pytest.fixture
def tracked(monkeypatch):
    """Collect the runs that trackers are created for."""
    runs = []
    monkeypatch.setitem(trackers.TRACKERS, "wandb", "tests_tracker:Tracker")
    monkeypatch.setattr("avssl.core.registry.load", lambda path: lambda run: runs.append(run))
    return runs


def test_runs_and_folds_are_shown_with_their_names_and_settings(tmp_path, tracked):
    tree = {"train": {"trackers": ["wandb"]}, "optim": {"lr": 0.5}}
    create_log(config_from_dict(tree), tmp_path / "first")
    fold = tmp_path / "second" / "folds" / "fold-split1"
    create_log(config_from_dict(tree, root=FinetuneConfig), fold, fold.name)
    assert [(run.name, run.folder, run.settings["optim.lr"]) for run in tracked] == [
        ("first", tmp_path / "first", 0.5),
        ("second-fold-split1", fold, 0.5),
    ]


@pytest.mark.parametrize("root", [Config, FinetuneConfig])
def test_a_missing_tracker_is_an_error_before_the_run_begins(root, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    config = config_from_dict({"train": {"trackers": ["trackio"]}}, root=root)
    with pytest.raises(trackers.TrackerError, match=r"avssl\[trackio\]"):
        check_options(config if root is Config else config.network())
