import dataclasses

import pytest
import torch

from avssl.core.batch import Batch, BatchIndex
from avssl.core.draws import splitmix64, text_key
from avssl.transforms.disturbances import (
    GRAY,
    add_noise,
    drawn_rectangles,
    occlude,
    paste,
    reverse_frames,
    silence,
    swap_audio,
    swap_video,
    to_rgb,
)

B, T, S = 6, 3, 4000
SIZES = torch.tensor([[20, 30], [16, 16], [20, 12], [9, 30], [20, 30], [7, 5]])


def make_batch(first=0, sizes=SIZES) -> Batch:
    """Noise in the canvas of the largest clip, 0 elsewhere; a tone of its own loudness for each."""
    generator = torch.Generator().manual_seed(first)
    video = torch.zeros(B, T, 3, 20, 30, dtype=torch.uint8)
    for i, (height, width) in enumerate(sizes.tolist()):
        video[i, :, :, :height, :width] = torch.randint(0, 100, (T, 3, height, width), generator=generator).byte()
    seconds = torch.arange(S) / 8000
    audio = torch.stack([0.1 * (i + 1) * torch.sin(2 * torch.pi * (300 + first) * seconds) for i in range(B)])
    row = torch.arange(first, first + B)
    return Batch(video, audio, BatchIndex(row, row, splitmix64(row + text_key("disturbances"))), sizes)


def part(batch: Batch, rows) -> Batch:
    index = BatchIndex(*(value[rows] for value in (batch.index.row, batch.index.group, batch.index.key)))
    return Batch(batch.video[rows], batch.audio[rows], index, batch.valid_hw[rows])


def masks(batch: Batch) -> torch.Tensor:
    """A disc that moves one pixel a frame to the right, cut by the clip's edge."""
    row, column = torch.arange(20)[:, None], torch.arange(30)[None]
    discs = [((row - 3) ** 2 + (column - 2 - t) ** 2) <= 4 for t in range(T)]
    valid = batch.valid_hw[:, :, None, None]
    return torch.stack(discs)[None] & (row < valid[:, 0])[:, None] & (column < valid[:, 1])[:, None]


DISTURBANCES = {
    "noise": lambda batch, other: add_noise(batch, 10),
    "silence": lambda batch, other: silence(batch),
    "other sound": swap_audio,
    "other picture": swap_video,
    "reversed": lambda batch, other: reverse_frames(batch),
    "occluded": lambda batch, other: occlude(batch, 0.25),
    "pasted": lambda batch, other: paste(batch, other, masks(other)),
}
PICTURE = {"other picture", "reversed", "occluded", "pasted"}


@pytest.mark.parametrize("name", DISTURBANCES)
def test_one_modality_is_disturbed_and_the_other_is_the_very_tensor(name):
    batch, other = make_batch(), make_batch(100)
    before = batch.video.clone(), batch.audio.clone(), other.video.clone(), other.audio.clone()
    disturbed = DISTURBANCES[name](batch, other)
    if name in PICTURE:
        assert disturbed.audio is batch.audio
        assert not torch.equal(disturbed.video, batch.video)
    else:
        assert disturbed.video is batch.video
        assert not torch.equal(disturbed.audio, batch.audio)
    assert disturbed.index is batch.index
    for was, now in zip(before, (batch.video, batch.audio, other.video, other.audio), strict=True):
        assert torch.equal(was, now)  # nothing is changed in place


@pytest.mark.parametrize("name", DISTURBANCES)
def test_a_clip_is_disturbed_alike_in_every_batch(name):
    batch, other = make_batch(), make_batch(100)
    whole = DISTURBANCES[name](batch, other)
    rows = [4, 1]
    few = DISTURBANCES[name](part(batch, rows), part(other, rows))
    assert torch.equal(few.video, whole.video[rows])
    assert torch.equal(few.audio, whole.audio[rows])


@pytest.mark.parametrize("snr_db", [20.0, 10.0, 0.0, -5.0])
def test_noise_has_the_asked_ratio(snr_db):
    batch = make_batch()
    noise = add_noise(batch, snr_db).audio.double() - batch.audio.double()
    measured = 10 * torch.log10(batch.audio.double().square().mean(1) / noise.square().mean(1))
    torch.testing.assert_close(measured, torch.full((B,), snr_db, dtype=torch.float64), atol=1e-3, rtol=0)


def test_noise_is_white_gaussian_and_another_for_each_clip():
    batch = make_batch()
    noise = (add_noise(batch, 0).audio - batch.audio).double()
    unit = noise / noise.square().mean(1, keepdim=True).sqrt()
    assert unit.mean(1).abs().max() < 0.06  # deviation of the mean of 4000: 0.016
    assert (unit.pow(4).mean(1) - 3).abs().max() < 0.6  # deviation: sqrt(96 / 4000) = 0.155
    assert (unit[:, 1:] * unit[:, :-1]).mean(1).abs().max() < 0.06
    assert (unit @ unit.T / S - torch.eye(B)).abs().max() < 0.07


def test_noise_leaves_silence_silent():
    batch = silence(make_batch())
    assert torch.equal(batch.audio, torch.zeros(B, S))
    assert torch.equal(add_noise(batch, 10).audio, batch.audio)


def test_swaps_take_what_the_other_clips_hold():
    batch, other = make_batch(), make_batch(100, sizes=SIZES.roll(1, 0))
    assert torch.equal(swap_audio(batch, other).audio, other.audio)
    swapped = swap_video(batch, other)
    assert torch.equal(swapped.video, other.video)
    assert torch.equal(swapped.valid_hw, other.valid_hw)


def test_reversed_frames_run_backwards_and_twice_is_nothing():
    batch = make_batch()
    reverse = reverse_frames(batch)
    assert torch.equal(reverse.video[:, 0], batch.video[:, 2])
    assert torch.equal(reverse.video[:, 1], batch.video[:, 1])
    assert torch.equal(reverse_frames(reverse).video, batch.video)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_occlusion_covers_the_share_of_each_picture_and_no_more(share):
    batch = make_batch()
    covered = (occlude(batch, share).video == GRAY).all(2)  # pixels of the batch are all below 100
    assert (covered == covered[:, :1]).all()  # the same in all frames
    for i, (height, width) in enumerate(SIZES.tolist()):
        sides = round(height * share**0.5), round(width * share**0.5)
        assert covered[i, 0].sum() == sides[0] * sides[1]
        assert abs(sides[0] * sides[1] / (height * width) - share) <= 0.5 / height + 0.5 / width  # half a pixel a side
        assert covered[i, 0, :height, :width].sum() == covered[i, 0].sum()
        assert covered[i, 0].any(1).sum() == sides[0]  # one rectangle
    kept = ~covered[:, :, None].expand_as(batch.video)
    assert torch.equal(occlude(batch, share).video[kept], batch.video[kept])


def test_rectangles_may_lie_anywhere_in_the_picture():
    batch = make_batch()
    keys = dataclasses.replace(batch.index, key=splitmix64(torch.arange(B) + 77))
    places = [
        drawn_rectangles(
            dataclasses.replace(batch, index=dataclasses.replace(keys, key=splitmix64(keys.key + n))), 0.25, "x"
        )
        for n in range(2000)
    ]
    ever = torch.stack(places).any(0)
    for i, (height, width) in enumerate(SIZES.tolist()):
        assert ever[i, :height, :width].all()
    assert ever.sum() == SIZES.prod(1).sum()


def box(mask):
    """The rows and columns that (H, W) touches."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def test_pasted_pixels_are_the_objects_and_move_as_it_moved():
    batch, other = make_batch(), make_batch(100, sizes=SIZES.roll(1, 0))
    other.video.add_(150)  # what is pasted differs everywhere from what was there
    mask = masks(other)
    pasted = paste(batch, other, mask).video
    changed = (pasted != batch.video).all(2)
    for i, (height, width) in enumerate(SIZES[:5].tolist()):  # the last picture is narrower than the disc's way
        assert changed[i, :, :height, :width].sum() == changed[i].sum() > 0  # inside the picture
        (y, x), (to_y, to_x) = box(mask[i].any(0)), box(changed[i].any(0))
        shape = mask[i][:, y, x]
        assert torch.equal(changed[i][:, to_y, to_x], shape)
        source, target = other.video[i][:, :, y, x], pasted[i][:, :, to_y, to_x]
        assert torch.equal(target.movedim(1, -1)[shape], source.movedim(1, -1)[shape])


def test_pasting_what_is_larger_than_the_scene_fills_it():
    batch, other = make_batch(), make_batch(100, sizes=torch.tensor([[20, 30]] * B))
    everything = torch.ones(B, T, 20, 30, dtype=torch.bool)
    pasted = paste(batch, other, everything).video
    for i, (height, width) in enumerate(SIZES.tolist()):
        assert torch.equal(pasted[i, :, :, :height, :width], other.video[i, :, :, :height, :width])
        assert pasted[i].sum() == other.video[i, :, :, :height, :width].sum()


def test_pasting_nothing_changes_nothing():
    batch = make_batch()
    assert torch.equal(paste(batch, make_batch(100), torch.zeros(B, T, 20, 30, dtype=torch.bool)).video, batch.video)


def test_planes_become_rgb_first():
    batch = make_batch()
    luma = batch.video[:, :, :1]
    gray = torch.full((B, T, 2, 10, 15), 128, dtype=torch.uint8)
    planes = dataclasses.replace(batch, video=luma, chroma=gray)
    assert torch.equal(to_rgb(planes).video, luma.expand(-1, -1, 3, -1, -1))
    assert to_rgb(batch) is batch
    assert torch.equal(reverse_frames(planes).video, luma.flip(1))
    for disturb in (lambda: occlude(planes, 0.5), lambda: paste(planes, batch, masks(batch))):
        with pytest.raises(ValueError, match="convert them with to_rgb"):
            disturb()


@pytest.mark.parametrize(
    ("disturb", "message"),
    [
        (lambda a, b: swap_audio(a, part(b, [0, 1])), "partners must have as many"),
        (lambda a, b: swap_video(a, dataclasses.replace(b, audio=b.audio[:, 1:])), "partners must have as many"),
        (lambda a, b: paste(a, b, masks(b)[:, :, 1:]), "mask must be"),
        (lambda a, b: paste(a, b, masks(b).float()), "mask must be"),
        (lambda a, b: occlude(a, 0.0), r"share \(0.0\) must be in"),
        (lambda a, b: occlude(a, 1.1), r"share \(1.1\) must be in"),
    ],
)
def test_what_does_not_fit_is_refused(disturb, message):
    with pytest.raises(ValueError, match=message):
        disturb(make_batch(), make_batch(100))
