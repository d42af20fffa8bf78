from pathlib import Path

import pytest

from avssl.core.checkpoint_names import HubError, HubName, local_checkpoint, near_folder, parse_checkpoint
from avssl.core.output_records import Command, place
from avssl.core.outputs import OutputError, claimed_file


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "runs" / "first").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("runs/first", Path("runs/first")),
        ("local-dir:runs/first", Path("runs/first")),
        ("local-dir:owner/name", Path("owner/name")),
        ("runs/frist", Path("runs/frist")),  # a folder runs/ is here: a typing error asks no hub
        ("./owner/name", Path("owner/name")),
        ("a/b/c", Path("a/b/c")),
        ("owner/name", HubName("owner/name")),
        ("owner/name@v1.2", HubName("owner/name", "v1.2")),
        ("hf-hub:owner/name", HubName("owner/name")),
        ("hf-hub:runs/first", HubName("runs/first")),
        ("hf-hub:owner/name@refs/pr/1", HubName("owner/name", "refs/pr/1")),
    ],
)
def test_a_name_means_one_place(folder, name, meant):
    assert parse_checkpoint(name) == meant
    assert local_checkpoint(name) == (meant if isinstance(meant, Path) else None)


def test_a_repository_is_written_as_it_is_read():
    assert str(HubName("owner/name")) == "hf-hub:owner/name"
    assert parse_checkpoint(Path(str(HubName("owner/name", "v1")))) == HubName("owner/name", "v1")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf_hub:owner/name", "Did you mean hf-hub:owner/name?"),
        ("hub:owner/name", "Did you mean hf-hub:owner/name?"),
        ("local_dir:runs/first", "Did you mean local-dir:runs/first?"),
        ("hf-hub:name", "named hf-hub:OWNER/NAME or"),
        ("hf-hub:../../etc", "named hf-hub:OWNER/NAME or"),
        ("https://huggingface.co/owner/name/tree/main", "Name its repository: hf-hub:owner/name."),
    ],
)
def test_a_misspelled_name_says_what_is_near(folder, name, message):
    with pytest.raises(HubError) as raised:
        parse_checkpoint(name)
    assert message in str(raised.value)


def test_a_missing_folder_has_near_ones(folder):
    assert near_folder(Path("runs/frist")) == " Did you mean runs/first?"
    assert near_folder(Path("rnus/first")) == " Did you mean runs?"
    assert near_folder(folder / "zzz") == near_folder(Path("/")) == ""


def test_a_prefixed_folder_is_the_folder_for_outputs(folder):
    assert place("local-dir:runs/first") == place("runs/first") == str(folder / "runs" / "first")
    assert place("hf-hub:owner/name") == "hf-hub:owner/name"
    (folder / "x.json").touch()
    with (
        pytest.raises(OutputError, match="is read by this command"),
        claimed_file(folder / "x.json", Command.of("probe"), overwrite=True, reads=["local-dir:x.json"]),
    ):
        raise AssertionError
