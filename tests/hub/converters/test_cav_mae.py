"""Converted CAV-MAE models against the networks of the papers, as formulas over the keys of such a checkpoint."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.hub.converters import ConvertError, read_checkpoint
from avssl.training.build import build_transform

WIDTH, HEADS, PATCH, GRID, ROWS, COLUMNS, BLOCKS = 24, 12, 16, 3, 8, 4, 2
DECODER_WIDTH = 8
NORMS = ("norm1", "norm1_a", "norm1_v", "norm2", "norm2_a", "norm2_v")
Weights = dict[str, Tensor]


def shapes_of(
    width: int,
    grid: int,
    columns: int,
    blocks: int,
    decoder: tuple[int, int],
    registers: int,
    has_class: bool,
    contrast: int,
) -> dict[str, tuple[int, ...]]:
    """Every tensor of a pretrained file; ``decoder`` is its width and its number of blocks."""
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, out: int, inputs: int) -> None:
        shapes.update({f"{name}.weight": (out, inputs), f"{name}.bias": (out,)})

    def block(name: str, width: int) -> None:
        for norm in NORMS:
            shapes.update({f"{name}.{norm}.weight": (width,), f"{name}.{norm}.bias": (width,)})
        linear(f"{name}.attn.qkv", 3 * width, width)
        linear(f"{name}.attn.proj", width, width)
        linear(f"{name}.mlp.fc1", 4 * width, width)
        linear(f"{name}.mlp.fc2", width, 4 * width)

    for letter, channels, patches in (("a", 1, ROWS * columns), ("v", 3, grid**2)):
        shapes[f"patch_embed_{letter}.proj.weight"] = (width, channels, PATCH, PATCH)
        shapes[f"patch_embed_{letter}.proj.bias"] = (width,)
        shapes[f"modality_{letter}"] = (1, 1, width)
        shapes[f"pos_embed_{letter}"] = (1, patches, width)
        shapes[f"decoder_modality_{letter}"] = (1, 1, decoder[0])
        shapes[f"decoder_pos_embed_{letter}"] = (1, patches, decoder[0])
        linear(f"decoder_pred_{letter}", PATCH**2 * channels, decoder[0])
        for number in range(blocks):
            block(f"blocks_{letter}.{number}", width)
        if has_class:
            shapes[f"cls_token_{letter}"] = (1, 1, width)
        for number in range(contrast):
            block(f"constrative_head_{'audio' if letter == 'a' else 'visual'}.{number}", width)
    if registers:
        shapes["register_tokens"] = (2 * registers, width)
    block("blocks_u.0", width)
    for number in range(decoder[1]):
        block(f"decoder_blocks.{number}", decoder[0])
    for norm, size in (("norm", width), ("norm_a", width), ("norm_v", width), ("decoder_norm", decoder[0])):
        shapes.update({f"{norm}.weight": (size,), f"{norm}.bias": (size,)})
    shapes["mask_token"] = (1, 1, decoder[0])
    linear("decoder_embed", decoder[0], width)
    return {f"module.{name}": shape for name, shape in shapes.items()}


def random_state(*, registers: int = 0, has_class: bool = False, contrast: int = 0) -> Weights:
    """A file of a small model, with values that an exchange of two tensors would show."""
    generator = torch.Generator().manual_seed(7)
    shapes = shapes_of(WIDTH, GRID, COLUMNS, BLOCKS, (DECODER_WIDTH, 1), registers, has_class, contrast)
    return {name: torch.randn(shape, generator=generator) / 4 for name, shape in shapes.items()}


def test_whole_model_has_the_published_number_of_parameters():
    shapes = shapes_of(768, 14, 64, 11, (512, 8), 0, False, 0)
    assert round(sum(map(math.prod, shapes.values())) / 1e6, 3) == 191.036  # "Total parameter number" of their logs


def run_block(state: Weights, name: str, x: Tensor, suffix: str = "") -> Tensor:
    def norm(which: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (WIDTH,), state[f"{which}.weight"], state[f"{which}.bias"], 1e-5)

    def layer(which: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.{which}.weight"].T + state[f"{name}.{which}.bias"]

    q, k, v = layer("attn.qkv", norm(f"{name}.norm1{suffix}", x)).chunk(3, dim=-1)
    q, k, v = (y.unflatten(-1, (HEADS, -1)).transpose(1, 2) for y in (q, k, v))
    weights = (q @ k.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5).softmax(dim=-1)
    x = x + layer("attn.proj", (weights @ v).transpose(1, 2).flatten(2))
    return x + layer("mlp.fc2", F.gelu(layer("mlp.fc1", norm(f"{name}.norm2{suffix}", x))))


def their_tokens(state: Weights, letter: str, images: Tensor, registers: int, contrast: int) -> tuple[Tensor, Tensor]:
    """The tokens of patches, and the vector that the authors compare."""
    p = "module."
    x = F.conv2d(
        images, state[f"{p}patch_embed_{letter}.proj.weight"], state[f"{p}patch_embed_{letter}.proj.bias"], stride=PATCH
    )
    x = x.flatten(2).transpose(1, 2) + state[f"{p}pos_embed_{letter}"] + state[f"{p}modality_{letter}"]
    cls = state.get(f"{p}cls_token_{letter}")
    if cls is not None:
        x = torch.cat([cls.expand(len(x), -1, -1), x], dim=1)
    if registers:
        both = state[f"{p}register_tokens"]
        own = both[:registers] if letter == "a" else both[registers:]
        x = torch.cat([x, own.expand(len(x), -1, -1)], dim=1)
    for number in range(BLOCKS):
        x = run_block(state, f"{p}blocks_{letter}.{number}", x)
    if registers:
        x = x[:, :-registers]
    x = run_block(state, f"{p}blocks_u.0", x, f"_{letter}")
    for number in range(contrast):
        x = run_block(state, f"{p}constrative_head_{'audio' if letter == 'a' else 'visual'}.{number}", x)
    x = F.layer_norm(x, (WIDTH,), state[f"{p}norm_{letter}.weight"], state[f"{p}norm_{letter}.bias"], 1e-5)
    return (x, x.mean(dim=1)) if cls is None else (x[:, 1:], x[:, 0])


def write(path: Path, state: Weights) -> Path:
    torch.save(state, path)
    return path


VARIANTS = {
    "cav-mae": {},
    "cav-mae-sync": {"registers": 2, "has_class": True},
    "cav-mae-sync with contrastive heads": {"registers": 3, "contrast": 2},
}


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_converted_model_computes_what_the_checkpoint_stands_for(tmp_path, variant):
    torch.manual_seed(0)
    options = VARIANTS[variant]
    state = random_state(**options)
    model = read_checkpoint(variant.partition(" ")[0], write(tmp_path / "c.pth", state)).model
    extra = options.get("registers", 0), options.get("contrast", 0)
    video = torch.randn(2, 3, 1, GRID * PATCH, GRID * PATCH)
    audio = torch.randn(2, 1, COLUMNS * PATCH, ROWS * PATCH)
    frames, frame_vector = their_tokens(state, "v", video[:, :, 0], *extra)
    sounds, sound_vector = their_tokens(state, "a", audio.transpose(2, 3), *extra)
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(model.embed_video(video), frame_vector, **close)
    torch.testing.assert_close(model.embed_audio(audio), sound_vector, **close)
    torch.testing.assert_close(model.video_map(video).flatten(2).transpose(1, 2), frames, **close)
    features = model.audio_encoder.forward_features(audio)  # (B, C, T', F')
    torch.testing.assert_close(features.transpose(2, 3).flatten(2).transpose(1, 2), sounds, **close)
    embeddings = model(video, audio, needs_maps=True)
    torch.testing.assert_close(embeddings.video, frame_vector, **close)


def test_input_is_the_authors(tmp_path):
    found = read_checkpoint("cav-mae", write(tmp_path / "c.pth", random_state()))
    transform = build_transform(found.config).eval()
    transform.standardize.set_statistics(*found.statistics)
    audio = transform.audio_input(torch.zeros(1, 16_000 // 4))
    assert audio.shape == (1, 1, COLUMNS * PATCH, 128)
    floor = torch.tensor(torch.finfo(torch.float32).eps).log()
    torch.testing.assert_close(audio[0, 0, 0], ((floor + 5.081) / 4.4849).expand(128))
    torch.testing.assert_close(audio[0, 0, -1], torch.full((128,), 5.081 / 4.4849))  # filled before it is scaled
    frame = torch.randint(0, 256, (1, 1, 3, 60, GRID * PATCH), dtype=torch.uint8)
    square = frame[0, 0, :, 6 : 6 + GRID * PATCH] / 255  # its short side is the square's
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (square - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(transform.video_input(frame)[0, :, 0], expected, rtol=1e-4, atol=1e-4)


def test_lengths_are_those_of_the_papers(tmp_path):
    state = random_state()
    for columns, layout, seconds in ((64, "cav-mae", 10.0), (26, "cav-mae-sync", 4.175)):
        state["module.pos_embed_a"] = torch.randn(1, ROWS * columns, WIDTH)
        state["module.decoder_pos_embed_a"] = torch.randn(1, ROWS * columns, DECODER_WIDTH)
        config = read_checkpoint(layout, write(tmp_path / "c.pth", state)).config
        assert (config.sampling.audio_seconds, config.sampling.num_frames) == (seconds, 1)
        assert config.transform.spectrogram.num_columns == columns * PATCH


def test_every_tensor_is_accounted_for(tmp_path):
    path = tmp_path / "c.pth"

    def error(layout: str, **changes: Tensor | None) -> str:
        state = {**random_state(), **{name.replace("__", "."): value for name, value in changes.items()}}
        with pytest.raises(ConvertError) as caught:
            read_checkpoint(layout, write(path, {name: x for name, x in state.items() if x is not None}))
        return str(caught.value)

    key = "module__blocks_v__1__mlp__fc1__weight"
    assert "module.blocks_v.1.mlp.fc1.weight is missing (1 of " in error("cav-mae", **{key: None})
    assert "is (5, 24) torch.float32" in error("cav-mae", **{key: torch.zeros(5, WIDTH)})
    assert "holds NaN" in error("cav-mae", **{key: torch.full((4 * WIDTH, WIDTH), torch.nan)})
    assert "cannot be combined" in error("cav-mae", module__modality_v=torch.zeros(1, 1, 5))
    assert "decoder_norm.bias is missing" in error("cav-mae", module__decoder_norm__bias=None)
    assert "'module.mlp_head.1.bias' is not a key" in error("cav-mae", module__mlp_head__1__bias=torch.zeros(3))
    assert "'module.register_tokens' is not a key" in error("cav-mae", module__register_tokens=torch.zeros(8, WIDTH))
    assert "patch_embed_v.proj.weight is missing; this is not" in error(
        "cav-mae", **dict.fromkeys((name.replace(".", "__") for name in random_state()), None)
    )
    assert "frames are square" in error("cav-mae", module__pos_embed_v=torch.zeros(1, 7, WIDTH))
    assert "must be a tensor of 3 dimensions" in error("cav-mae", module__pos_embed_a=torch.zeros(7))


@pytest.mark.parametrize(("variant", "paper"), [("cav-mae", "2210.07839"), ("cav-mae-sync", "2505.01237")])
def test_release_states_its_terms_and_serves_the_verbs(tmp_path, check_release, variant, paper):
    state = random_state(**VARIANTS[variant])
    checkpoint = write(tmp_path / "c.pth", state)
    num_left_out = sum("decoder" in name or "mask_token" in name for name in state)
    texts = (
        "\nlicense: bsd-2-clause\n---\n",
        f"https://arxiv.org/abs/{paper}",
        f"left out, decoder of masked patches: {num_left_out} tensors",
    )
    loaded = check_release(variant, checkpoint, *texts)
    assert loaded.transform.video_eval.size == GRID * PATCH  # never trained on enlarged crops


def test_keys_without_the_wrapper_are_read_and_code_is_refused(tmp_path, check_code_is_refused):
    bare = {name.removeprefix("module."): value for name, value in random_state().items()}
    assert read_checkpoint("cav-mae", write(tmp_path / "bare", bare)).config.model.video.name == "vit_frames"
    check_code_is_refused("cav-mae")
