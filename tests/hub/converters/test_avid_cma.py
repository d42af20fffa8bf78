"""Converted models against the networks of the published tables, as formulas over the keys of such a checkpoint."""

import math
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.cli import main
from avssl.config import load_config
from avssl.hub.converters import ConvertError, read_checkpoint
from avssl.hub.pretrained import from_pretrained
from avssl.training.build import build_sampling

NUM_BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
WIDTHS = (64, 128, 256, 512)
HEADS = {"mlp": {0: (512, 512), 2: (512, 512), 4: (128, 512)}, "linear": {0: (128, 512)}}
BN = ("weight", "bias", "running_mean", "running_var")


Weights = dict[str, Tensor]


def block_names(depth: int) -> list[list[str]]:
    """Of each stage of the video network; with one block to a stage, the stage is the block."""
    stages = [f"module.video_model.conv{number}x" for number in (2, 3, 4, 5)]
    if depth == 10:
        return [[stage] for stage in stages]
    return [[f"{stage}.{i}" for i in range(count)] for stage, count in zip(stages, NUM_BLOCKS[depth], strict=True)]


def random_model(depth: int, head: str) -> OrderedDict[str, Tensor]:
    """What is under ``model``, with weights and statistics that an exchange of two layers would show."""
    generator = torch.Generator().manual_seed(depth)
    state: OrderedDict[str, Tensor] = OrderedDict()

    def add_conv(name: str, *shape: int) -> None:
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]) / 2)

    def add_norm(name: str, width: int) -> None:
        for part in BN:
            low, high = (-0.3, 0.3) if part in ("bias", "running_mean") else (0.7, 1.3)
            state[f"{name}.{part}"] = torch.empty(width).uniform_(low, high, generator=generator)
        state[f"{name}.num_batches_tracked"] = torch.tensor(1234)

    add_conv("module.video_model.conv1.0", 64, 3, 3, 7, 7)
    add_norm("module.video_model.conv1.1", 64)
    width_in = 64
    for blocks, width in zip(block_names(depth), WIDTHS, strict=True):
        for block in blocks:
            for number, inputs in ((1, width_in), (2, width)):
                add_conv(f"{block}.spt_conv{number}", width, inputs, 1, 3, 3)
                add_norm(f"{block}.spt_bn{number}", width)
                add_conv(f"{block}.tmp_conv{number}", width, width, 3, 1, 1)
                add_norm(f"{block}.tmp_bn1" if number == 1 else f"{block}.out_bn", width)
            if width_in != width:
                add_conv(f"{block}.res_conv", width, width_in, 1, 1, 1)
            width_in = width
    add_conv("module.audio_model.conv1.0", 64, 1, 7, 7)
    add_norm("module.audio_model.conv1.1", 64)
    for number, (inputs, width) in enumerate(zip((64, *WIDTHS), WIDTHS, strict=False), start=1):
        for layer, channels in ((1, inputs), (2, width)):
            add_conv(f"module.audio_model.block{number}.conv{layer}", width, channels, 3, 3)
            add_norm(f"module.audio_model.block{number}.bn{layer}", width)
    for side in ("video", "audio"):
        for index, shape in HEADS[head].items():
            add_conv(f"module.{side}_proj.projection.{index}", *shape)
            state[f"module.{side}_proj.projection.{index}.bias"] = torch.randn(shape[0], generator=generator)
    return state


def normed(state: Weights, name: str, x: Tensor) -> Tensor:
    """BatchNorm by hand."""
    weight, bias, mean, var = (state[f"{name}.{part}"].view(-1, *[1] * (x.ndim - 2)) for part in BN)
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def video_features(state: Weights, x: Tensor, depth: int, *, stem_pool: bool) -> Tensor:
    def conv(name: str, x: Tensor, stride: tuple[int, ...] = (1, 1, 1)) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv3d(x, weight, stride=stride, padding=tuple(size // 2 for size in weight.shape[2:]))

    x = normed(state, "module.video_model.conv1.1", conv("module.video_model.conv1.0", x, (1, 2, 2))).relu()
    x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1)) if stem_pool else x
    for stage, blocks in enumerate(block_names(depth)):
        for block in blocks:
            s = 2 if stage and block == blocks[0] else 1
            y = normed(state, f"{block}.spt_bn1", conv(f"{block}.spt_conv1", x, (1, s, s))).relu()
            y = normed(state, f"{block}.tmp_bn1", conv(f"{block}.tmp_conv1", y, (s, 1, 1))).relu()
            y = normed(state, f"{block}.spt_bn2", conv(f"{block}.spt_conv2", y)).relu()
            y = conv(f"{block}.tmp_conv2", y)
            x = conv(f"{block}.res_conv", x, (s, s, s)) if s == 2 else x
            x = normed(state, f"{block}.out_bn", x + y).relu()
    return x.amax(dim=(2, 3, 4))


def audio_features(state: Weights, x: Tensor, first_stride: int) -> Tensor:
    part = "module.audio_model"
    x = F.conv2d(x, state[f"{part}.conv1.0.weight"], stride=2, padding=3)
    x = normed(state, f"{part}.conv1.1", x).relu()
    for number, stride in ((1, first_stride), (2, 2), (3, 2), (4, 1)):
        for layer in (1, 2):
            weight = state[f"{part}.block{number}.conv{layer}.weight"]
            x = F.conv2d(x, weight, stride=stride if layer == 1 else 1, padding=1)
            x = normed(state, f"{part}.block{number}.bn{layer}", x).relu()
    return x.amax(dim=(2, 3))


def embedding(state: Weights, side: str, head: str, x: Tensor) -> Tensor:
    last = max(HEADS[head])
    for index in HEADS[head]:
        name = f"module.{side}_proj.projection.{index}"
        x = x @ state[f"{name}.weight"].T + state[f"{name}.bias"]
        x = x if index == last else x.relu()
    return x


def write_checkpoint(path: Path, model: object, *, is_cma: bool = False, old_format: bool = False, **more) -> Path:
    """All four keys of a released file; torch 1.4, which wrote those, knew the old format alone."""
    memory = {f"nce_average.view{view}_mem": torch.randn(5, 128) for view in (1, 2)}
    criterion = OrderedDict(memory, **{"criterion.avg_exp_score": torch.tensor([2.2])})
    if is_cma:
        criterion["nce_average.positive_set"] = torch.zeros(5, 2, dtype=torch.int64)
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"betas": (0.9, 0.999)}]}
    content = {"epoch": 20, "model": model, "optimizer": optimizer, "train_criterion": criterion, **more}
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    return path


def write_statistics(path: Path, num_bins: int) -> Path:
    np.savez(path, mean=np.linspace(-50, 0, num_bins), std=np.linspace(17, 21, num_bins))
    return path


@pytest.mark.parametrize(
    ("layout", "depth", "head", "old_format"),
    [
        ("avid-cma", 18, "mlp", True),
        ("avid-cma", 34, "linear", False),
        ("avid-cma-ablation", 10, "linear", False),
    ],
)
@torch.no_grad()
def test_converted_model_computes_what_the_checkpoint_stands_for(tmp_path, layout, depth, head, old_format):
    is_small = layout == "avid-cma-ablation"
    state = random_model(depth, head)
    checkpoint = write_checkpoint(tmp_path / "c.pth.tar", state, old_format=old_format)
    statistics = write_statistics(tmp_path / "s.npz", 129 if is_small else 257)
    assert main(["convert", layout, str(checkpoint), str(tmp_path / "out"), "--statistics", str(statistics)]) == 0

    loaded = from_pretrained(tmp_path / "out")
    assert loaded.config.model.video.name == f"avid_r2plus1d_{depth}"
    # In float64, as 34 layers round differently on two ways through them.
    state, model = {name: value.double() for name, value in state.items()}, loaded.model.double()
    video = torch.randn(1, 3, 8, 33, 44, dtype=torch.float64)
    audio = torch.randn(1, 1, 40, 129 if is_small else 257, dtype=torch.float64)
    expected_video = video_features(state, video, depth, stem_pool=not is_small)
    expected_audio = audio_features(state, audio, 1 if is_small else 2)
    assert float(expected_video.std()) > 0.1  # neither dead nor all the same
    assert float(expected_audio.std()) > 0.1
    close = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(model.encode_video(video), expected_video, **close)
    torch.testing.assert_close(model.encode_audio(audio), expected_audio, **close)
    embeddings = model(video, audio)
    torch.testing.assert_close(embeddings.video, embedding(state, "video", head, expected_video), **close)
    torch.testing.assert_close(embeddings.audio, embedding(state, "audio", head, expected_audio), **close)


def test_whole_model_has_the_published_number_of_entries_and_parameters():
    state = random_model(18, "mlp")
    assert len(state) == 267
    trained = [value for name, value in state.items() if not name.endswith(("_mean", "_var", "_tracked"))]
    assert sum(value.numel() for value in trained) == 21_286_784


@pytest.fixture(scope="module")
def model():
    """Of depth 10, the smallest; tests change copies of the mapping."""
    return random_model(10, "linear")


@pytest.mark.filterwarnings("ignore:.*depth 10")
@pytest.mark.parametrize(
    ("layout", "recipe"),
    [("avid-cma", "avid_kinetics.yaml"), ("avid-cma-ablation", "avid_audioset100k.yaml")],
)
def test_release_describes_the_input_of_the_published_runs(tmp_path, model, layout, recipe):
    config = read_checkpoint(layout, write_checkpoint(tmp_path / "c", model)).config
    published = load_config(Path(__file__).parents[3] / "configs" / recipe)
    assert build_sampling(config) == build_sampling(published)
    assert config.transform.video == published.transform.video
    assert config.transform.audio == published.transform.audio
    assert config.transform.spectrogram == replace(published.transform.spectrogram, padding="reflect")
    assert config.model.video.options() == published.model.video.options()
    assert config.model.audio == published.model.audio


def test_full_network_of_depth_10_is_pointed_out(tmp_path, model):
    with pytest.warns(UserWarning, match=r"depth 10 is read as the full network.*avid-cma-ablation"):
        read_checkpoint("avid-cma", write_checkpoint(tmp_path / "c", model))


def test_card_tells_license_and_origin(tmp_path, model, capsys):
    path = write_checkpoint(tmp_path / "c", model, is_cma=True)
    statistics = write_statistics(tmp_path / "s.npz", 129)
    assert main(["convert", "avid-cma-ablation", str(path), str(tmp_path / "o"), "--statistics", str(statistics)]) == 0
    card = (tmp_path / "o" / "README.md").read_text()
    assert "\nlicense: cc-by-nc-4.0\n---\n" in card
    assert "Never redistribute this folder" in card
    assert "by cma." in card
    assert "- epoch: 20\n" in card
    assert "- left behind: optimizer, train_criterion\n" in card
    assert "- spectrogram statistics: from a file\n" in card
    assert str(tmp_path) not in card + (tmp_path / "o" / "config.json").read_text()
    assert "license: cc-by-nc-4.0. Read" in capsys.readouterr().out


def test_objective_is_told_by_the_criterion(tmp_path, model):
    for is_cma, name in ((False, "avid"), (True, "cma")):
        path = write_checkpoint(tmp_path / name, model, is_cma=is_cma)
        assert read_checkpoint("avid-cma-ablation", path).config.objective.name == name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("module.video_model.conv3x.res_conv.weight"), r"conv3x.res_conv.weight is missing \(1 of 163"),
        (lambda m: m.pop("module.audio_proj.projection.0.bias"), "audio_proj.projection.0.bias is missing"),
        (
            lambda m: m.update({"module.video_model.fc.weight": torch.zeros(2)}),
            r"'module.video_model.fc.weight' is not",
        ),
        (lambda m: m.update({7: torch.zeros(2)}), "7 is not a key"),
        (
            lambda m: m.update({"module.audio_model.block2.conv1.weight": torch.zeros(128, 64, 3, 1)}),
            r"block2.conv1.weight is \(128, 64, 3, 1\) torch.float32 .*must be \(128, 64, 3, 3\)",
        ),
        (
            lambda m: m.update({"module.audio_model.conv1.1.bias": torch.zeros(64, dtype=torch.float16)}),
            r"conv1.1.bias is \(64,\) torch.float16",
        ),
        (lambda m: m.update({"module.audio_model.conv1.1.bias": 3}), "conv1.1.bias is int, but must be"),
        (
            lambda m: m.update({"module.video_proj.projection.0.bias": torch.full((128,), torch.nan)}),
            "projection.0.bias holds NaN",
        ),
    ],
)
def test_models_that_do_not_fit_are_refused_by_name(tmp_path, model, change, message):
    change(changed := OrderedDict(model))
    with pytest.raises(ConvertError, match=message) as error:
        read_checkpoint("avid-cma-ablation", write_checkpoint(tmp_path / "c", changed))
    assert str(tmp_path / "c") in str(error.value)


def test_model_without_the_wrapper_or_of_another_depth_is_refused(tmp_path, model):
    bare = OrderedDict((name.removeprefix("module."), value) for name, value in model.items())
    with pytest.raises(ConvertError, match=r"model: module\..* is missing \(163 of 163 are\)"):
        read_checkpoint("avid-cma-ablation", write_checkpoint(tmp_path / "bare", bare))
    with pytest.raises(ConvertError, match=r"module.video_model.conv2x.out_bn.bias is missing"):
        read_checkpoint("avid-cma-ablation", write_checkpoint(tmp_path / "deep", random_model(18, "linear")))


def test_other_files_are_refused(tmp_path, model):
    with pytest.raises(ConvertError, match="'ema' is not a key of this layout, which has epoch, model"):
        read_checkpoint("avid-cma", write_checkpoint(tmp_path / "more", model, ema=model))
    torch.save({"state_dict": model}, tmp_path / "other")
    with pytest.raises(ConvertError, match=r"the key model is missing or no state dict; .*, not state_dict"):
        read_checkpoint("avid-cma", tmp_path / "other")
    with pytest.raises(ConvertError, match=r"'mae' is not a known layout. Known: avid-cma, avid-cma-ablation"):
        read_checkpoint("mae", tmp_path / "other")


def test_optimizer_and_criterion_may_be_gone(tmp_path, model):
    torch.save({"model": model}, tmp_path / "c")
    found = read_checkpoint("avid-cma-ablation", tmp_path / "c")
    assert list(found.about) == ["converted from"]
    assert found.config.objective.name == "avid"
