"""Exported files, compared with the models that they were made of."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from avssl import cli
from avssl.config import Config, FinetuneConfig, config_from_dict, to_dict
from avssl.core.errors import RunError
from avssl.evaluation.calibration import Calibration
from avssl.hub.classifier import create_classifier, load_classifier, save_classifier
from avssl.hub.export.fourier import FourierSpectrogram
from avssl.hub.export.programs import convert, write
from avssl.hub.export.towers import Port, Tower, towers_of
from avssl.hub.pretrained import PretrainedModel, from_pretrained
from avssl.hub.release import HubError
from avssl.training.build import build_model, build_sampling, build_transform
from avssl.transforms import create_spectrogram

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def exported(tiny_release, tmp_path_factory):
    """Return the folder of the tiny model as ONNX, with the spectrogram inside."""
    folder = tmp_path_factory.mktemp("export") / "tiny"
    assert cli.main(["export", f"local-dir:{tiny_release}", "-o", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("name", ["log_mel", "avid"])
@pytest.mark.parametrize("padding", ["constant", "reflect"])
def test_fourier_spectrogram_equals_the_spectrogram(name, padding):
    spectrogram = create_spectrogram(name, sample_rate_hz=8000, window_length=256, padding=padding)
    decay = torch.linspace(0, -4, 4001)
    waveform = torch.randn(2, 4001) * 10**decay  # 80 dB from the loudest to the quietest
    expected = spectrogram(waveform)
    torch.testing.assert_close(FourierSpectrogram(spectrogram)(waveform), expected, atol=0.02, rtol=0)
    assert torch.equal(
        FourierSpectrogram(spectrogram)(torch.zeros(1, 800)), torch.full((1, 1, 10, expected.shape[3]), -100.0)
    )


def test_files_return_what_the_model_returns_for_raw_clips(exported, tiny_release):
    about = json.loads((exported / "export.json").read_text())
    pretrained = from_pretrained(tiny_release, crop="full")
    transform, sampling = pretrained.transform, pretrained.sampling
    pixels = torch.randint(256, (2, sampling.num_frames, 3, 48, 48), dtype=torch.uint8)
    waveform = torch.rand(2, sampling.num_samples) * 2 - 1
    encoder = pretrained.encoder()
    embeddings = {
        "video": encoder.encode("video", transform.video_input(_resized(pixels, 48))).vectors("embeddings"),
        "audio": encoder.encode("audio", transform.audio_input(waveform)).vectors("embeddings"),
    }
    inputs = {"video": {"frames": pixels.transpose(1, 2).float() / 255}, "audio": {"waveform": waveform}}
    for name, expected in embeddings.items():
        tower = about["towers"][name]
        assert tower["inputs"][next(iter(inputs[name]))]["shape"][0] == "batch"
        session = onnxruntime.InferenceSession(exported / tower["file"])
        given = {key: value.numpy() for key, value in inputs[name].items()}
        found = dict(zip(tower["outputs"], session.run(None, given), strict=True))
        np.testing.assert_allclose(found["embedding"], expected.numpy(), atol=1e-4)
        assert found["map"].shape[1] == expected.shape[1]
    query = np.linalg.norm(found["query"].reshape(2, 2, -1, found["query"].shape[2]), axis=2)
    np.testing.assert_allclose(query, 1, atol=1e-5)  # unit vectors in each of two heads


def _resized(pixels: torch.Tensor, size: int) -> torch.Tensor:
    assert pixels.shape[-1] == size, "the size of full frames, which the transform keeps"
    return pixels


def test_description_has_everything_that_a_stranger_needs(exported):
    about = json.loads((exported / "export.json").read_text())
    assert about["towers"]["video"]["inputs"]["frames"]["shape"] == ["batch", 3, "frames", "height", "width"]
    assert about["towers"]["audio"]["inputs"]["waveform"]["shape"] == ["batch", "samples"]
    assert about["input"]["audio"]["sample_rate_hz"] == 8000
    assert about["input"]["video"]["frames_per_second"] == 4.0
    assert about["num_heads"] == 2
    assert about["license"] is None
    assert about["towers"]["audio"]["check"]["largest_difference"] < 1e-4
    text = (exported / "README.md").read_text()
    assert "License of the weights: not named by the release." in text
    assert "[batch, 3, frames, height, width]" in text
    stored = {each.key: each.value for each in onnx.load(exported / "audio.onnx").metadata_props}
    assert stored["weights"] == about["weights"]
    names = [dim.dim_param for dim in onnx.load(exported / "audio.onnx").graph.input[0].type.tensor_type.shape.dim]
    assert names == ["batch", "samples"]


def test_example_needs_numpy_and_onnxruntime_alone(exported, tmp_path):
    np.save(tmp_path / "frames.npy", np.zeros((3, 2, 32, 32)))
    blocked = "import sys; sys.modules |= dict.fromkeys(['torch', 'avssl', 'onnx', 'scipy']); "
    code = blocked + "import runpy; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    words = [str(REPOSITORY / "demos" / "use_onnx.py"), str(exported)]
    for more in ([], [str(tmp_path / "frames.npy")]):
        done = subprocess.run([sys.executable, "-c", code, *words, *more], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].startswith("similarity ")


def test_an_export_is_repeated_by_its_own_command_only(exported, tiny_release, capsys):
    assert cli.main(["export", str(tiny_release), "-o", str(exported), "--format", "pt2"]) == 1
    assert "Replace it with --overwrite" in capsys.readouterr().err


def test_programs_of_torch_take_spectrograms(tiny_release, tmp_path):
    pretrained = from_pretrained(tiny_release)
    _, audio = towers_of(pretrained, "outside")
    written = write(convert(audio, "pt2", {}), tmp_path / "audio.pt2")
    assert written.inputs == {"spectrogram": ["batch", 1, "time", 16]}
    module = torch.export.load(str(written.path)).module()
    spectrogram = pretrained.transform.spectrogram(torch.randn(3, 8000))
    embedding, _, query = module(spectrogram)
    x = pretrained.transform.standardize(spectrogram)
    with torch.no_grad():
        torch.testing.assert_close(embedding, nn.functional.normalize(pretrained.model.embed_audio(x)))
        assert query.shape == pretrained.model.sound_queries(x).shape


def test_a_classifier_of_both_streams_is_one_file(tiny_release, tmp_path):
    base = to_dict(from_pretrained(tiny_release).config)
    tree = {name: base[name] for name in ("sampling", "transform", "model")}
    config = config_from_dict({**tree, "classifier": {"inputs": "both"}}, "", FinetuneConfig)
    model, transform = create_classifier(config, 3)
    transform.standardize.set_statistics(torch.zeros(16), torch.ones(16))
    release = save_classifier(
        tmp_path / "weights", model, transform, ["a", "b", "c"], config, calibration=Calibration(temperature=2.0)
    )
    assert cli.main(["export", str(release), "-o", str(tmp_path / "out"), "--format", "pt2"]) == 0
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (about["classes"], about["temperature"], about["multi_label"]) == (["a", "b", "c"], 2.0, False)
    tower = about["towers"]["classifier"]
    assert list(tower["inputs"]) == ["frames", "waveform"]
    module = torch.export.load(str(tmp_path / "out" / tower["file"])).module()
    frames, waveform = torch.zeros(1, 3, 2, 32, 32), torch.zeros(1, 8000)
    classifier = load_classifier(release)
    with torch.no_grad():
        x = classifier.transform.video_input(torch.zeros(1, 2, 3, 32, 32, dtype=torch.uint8))
        expected = classifier.model(x, classifier.transform.audio_input(waveform))
        torch.testing.assert_close(module(frames, waveform)[0], expected, atol=1e-4, rtol=0)


def test_a_transformer_keeps_its_class_token_and_takes_batches_of_any_size(tmp_path):
    vit = {"width": 12, "num_blocks": 1, "num_heads": 3, "pool": "class"}
    tree = {
        "data": {"source": "none"},
        "sampling": {"num_frames": 2, "audio_seconds": 0.4, "sample_rate_hz": 8000},
        "transform": {
            "video": {"size": 32},
            "spectrogram": {"num_mels": 32, "window_length": 256, "hop_seconds": 0.0125},
        },
        "model": {
            "video": {"name": "vit_frames", "grid": 2, **vit},
            "audio": {"name": "vit_spectrogram", "num_columns": 2, "num_rows": 2, "class_token": True, **vit},
            "head": {"hidden": 8, "out_features": 8},
        },
    }
    config = config_from_dict(tree, "", Config)
    transform = build_transform(config).eval()
    transform.standardize.set_statistics(torch.zeros(32), torch.ones(32))
    pair = PretrainedModel(build_model(config, 0).eval(), transform, build_sampling(config), config, "test")
    for tower in towers_of(pair, "inside"):
        (shape,) = write(convert(tower, "pt2", {}), tmp_path / f"{tower.name}.pt2").inputs.values()
        assert shape[0] == "batch"


class Network(nn.Module):
    """A network with an embedding of each position, that fails in one of several ways at other lengths.

    Args:
        way: "positions", "branch" (other lengths are computed in another way), "data" (by the values of the input) or
            "bug".
    """

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.positions = way, nn.Parameter(torch.randn(10, 4))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self.way == "positions":
            return ((x + self.positions).mean(dim=2),)
        if self.way == "data" and x.sum() > 0:
            return (x.mean(dim=2),)
        if self.way == "bug" and x.shape[2] != 10:
            raise RuntimeError("out of memory")
        if self.way == "branch" and x.shape[2] // 2 * x.shape[3] != 20:
            return (2 * x.mean(dim=2),)
        return (x.mean(dim=2),)


def tower_of(way: str) -> Tower:
    port = Port("spectrogram", ("batch", 1, "time", 4), "", (1, 10, 4))
    module = Network(way)
    return Tower("audio", module, (port,), (Port("mean", ("batch", 1, 4), ""),), module)


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("positions", r"at another one the network raises: The size of tensor a \(20\) must match .*"),
        ("branch", r"the network computes other ones in another way \(not .* == 20\)"),
    ],
)
def test_a_network_of_one_length_keeps_it_and_says_why(way, reason, tmp_path):
    written = write(convert(tower_of(way), "pt2", {}), tmp_path / "x.pt2")
    assert written.inputs == {"spectrogram": ["batch", 1, 10, 4]}
    assert re.fullmatch(reason, written.fixed["time"])
    assert list(written.fixed) == ["time"]


@pytest.mark.parametrize(("way", "message"), [("data", "cannot be exported: "), ("bug", "raises: out of memory")])
def test_any_other_error_is_one(way, message):
    with pytest.raises(HubError, match=message):
        convert(tower_of(way), "pt2", {})


def test_a_difference_is_an_error_and_leaves_no_file(tmp_path):
    tower = tower_of("positions")
    wrong = replace(tower, reference=lambda x: tuple(value * 1.001 for value in tower.module(x)))
    with pytest.raises(RunError, match=r"mean differs by 0.001 from the model on random input .* than 0.0001"):
        write(convert(wrong, "pt2", {}), tmp_path / "wrong.pt2")
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_if_a_tower_cannot_be_exported(tiny_release, tmp_path, monkeypatch, capsys):
    from avssl.models.small import SmallAudioEncoder

    forward = SmallAudioEncoder.forward_features
    monkeypatch.setattr(SmallAudioEncoder, "forward_features", lambda self, x: forward(self, x if x.sum() > 0 else -x))
    assert cli.main(["export", str(tiny_release), "-o", str(tmp_path / "out"), "--format", "pt2"]) == 1
    assert "the audio tower cannot be exported: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_package_has_the_line_that_installs_it(tiny_release, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert cli.main(["export", str(tiny_release), "-o", str(tmp_path / "out")]) == 1
    assert "needs onnxscript: pip install 'avssl[export]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
