"""Converted models as releases: they state their terms, keep their weights, embed, search and localize."""

import pickle

import pytest
import torch

from avssl.cli import main
from avssl.hub.converters import ConvertError, read_checkpoint
from avssl.hub.pretrained import from_pretrained
from avssl.media import write_video


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Two clips of 10 seconds."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(2):
        generator = torch.Generator().manual_seed(number)
        frames = torch.randint(0, 256, (20, 3, 32, 48), dtype=torch.uint8, generator=generator)
        tone = 0.3 * torch.sin(torch.arange(160_000) * (0.05 + 0.1 * number))[None]
        write_video(folder / f"{number}.mp4", frames, 2.0, tone, 16_000)
    return folder


@pytest.fixture
def check_release(tmp_path, clips, capsys):
    """``check(layout, checkpoint, *texts_of_the_card)`` converts a file and runs the verbs on the release."""

    def check(layout, checkpoint, *texts):
        out, table, video = tmp_path / "release", tmp_path / "features.parquet", str(clips / "0.mp4")
        assert main(["convert", layout, str(checkpoint), str(out)]) == 0
        card = (out / "README.md").read_text()
        for text in (*texts, "- left out, ", "spectrogram statistics: those that its authors trained with"):
            assert text in card
        assert str(tmp_path) not in card + (out / "config.json").read_text()

        found, loaded = read_checkpoint(layout, checkpoint), from_pretrained(out, crop="full")
        for name, value in found.model.state_dict().items():
            assert torch.equal(loaded.model.state_dict()[name], value)

        assert main(["embed", str(clips), "--checkpoint", str(out), "-o", str(table), "--num-workers", "0"]) == 0
        assert main(["search", str(table), "--audio", video]) == 0
        words = ["localize", video, "--checkpoint", str(out), "-o", str(tmp_path / "m.png"), "--stride-seconds", "5"]
        assert main(words) == 0
        assert (tmp_path / "m.png").exists()
        assert main(["export", str(out), "-o", str(tmp_path / "exported"), "--format", "pt2"]) == 0
        capsys.readouterr()
        assert main(["convert", layout, str(checkpoint), str(tmp_path / "o"), "--data", str(clips)]) == 2
        assert f"{layout} has spectrogram statistics of its own" in capsys.readouterr().err
        return loaded

    return check


class Trap:
    """Runs code when a pickle of it is loaded."""

    def __reduce__(self):
        return print, ("code has run",)


@pytest.fixture
def check_code_is_refused(tmp_path, capsys):
    """``check(layout)`` reads files with code, as a checkpoint and as a plain pickle."""

    def check(layout):
        torch.save({"state_dict": {"w": Trap()}, "module.x": Trap()}, tmp_path / "c")
        (tmp_path / "p").write_bytes(pickle.dumps(Trap()))
        for name in ("c", "p"):
            with pytest.raises(ConvertError, match="objects that could run code when loaded, which is never done"):
                read_checkpoint(layout, tmp_path / name)
        assert "code has run" not in capsys.readouterr().out

    return check
