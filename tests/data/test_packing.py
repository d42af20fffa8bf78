import pytest
import torch

from avssl.core.batch import BatchIndex, Clip
from avssl.data import collate
from avssl.data.packing import empty, gather, pack


def clip(row, height, width, frames=2, samples=5):
    video = torch.full((frames, 3, height, width), row + 1, dtype=torch.uint8)
    return Clip(str(row), row, 0, video, 0.0, torch.full((samples,), row / 10), 0.0)


def index(*rows):
    return BatchIndex(*(torch.tensor(rows) for _ in range(3)))


def test_collate_lays_clips_of_different_shapes_on_one_canvas():
    batch = collate([clip(0, 4, 6), clip(1, 8, 3)], index(0, 1))
    assert batch.video.shape == (2, 2, 3, 8, 6)
    assert batch.valid_hw.tolist() == [[4, 6], [8, 3]]
    for i, (height, width) in enumerate(batch.valid_hw.tolist()):
        assert (batch.video[i, :, :, :height, :width] == i + 1).all()
        rest = batch.video[i].clone()
        rest[:, :, :height, :width] = 0
        assert not rest.any()
    assert torch.equal(batch.audio[1], torch.full((5,), 0.1))


def test_collate_rejects_clips_of_different_length_and_another_index():
    with pytest.raises(ValueError, match=r"equal \(frames, planes, samples\), got \[\(2, 3, 5\), \(3, 3, 5\)\]"):
        collate([clip(0, 4, 4), clip(1, 4, 4, frames=3)], index(0, 1))
    with pytest.raises(ValueError, match=r"rows \[1, 0\], but the clips are of rows \[0, 1\]"):
        collate([clip(0, 4, 4), clip(1, 4, 4)], index(1, 0))


def noise(seed, height, width, *, planes=False, audio=None):
    draw = torch.Generator().manual_seed(seed)
    video = torch.randint(1, 255, (2, 1 if planes else 3, height, width), generator=draw, dtype=torch.uint8)
    half = (height + 1) // 2, (width + 1) // 2
    chroma = torch.randint(1, 255, (2, 2, *half), generator=draw, dtype=torch.uint8) if planes else None
    sound = torch.rand(400, generator=draw) * 2 - 1 if audio is None else audio
    return Clip(str(seed), seed, 0, video, 0.0, sound, 0.0, chroma)


def assert_same(a, b):
    for name, value in vars(a).items():
        other = getattr(b, name)
        assert value is other is None or (value.dtype == other.dtype and torch.equal(value, other)), name


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5), (1, 2, 4), (0, 2, 4, 3), (5, 5, 0), (3,), (4, 0, 5, 1)])
def test_gathering_from_packs_equals_packing_the_clips(planes, order):
    """Clips have several sizes, odd ones among them; the order and the canvases of the packs do not matter."""
    sizes = [(4, 7), (9, 3), (4, 7), (5, 5), (5, 5), (2, 8)]
    clips = [noise(i, *size, planes=planes) for i, size in enumerate(sizes)]
    for first in (2, 3, 6):
        packs = [pack(clips[i : i + first]) for i in range(0, 6, first)]
        places = [(packs[i // first], i % first) for i in order]
        assert_same(gather(places), pack([clips[i] for i in order]))


def test_int16_audio_is_kept_only_if_no_bit_of_it_changes():
    whole = torch.randint(-(2**15), 2**15, (400,)).float() / 2**15
    edge = torch.tensor([-1.0, 1 - 2**-15, 0.0]).repeat(100)
    for audio in (whole, edge):
        packed = pack([noise(1, 4, 4, audio=audio)], as_int16=True)
        assert packed.audio.dtype == torch.int16
        assert torch.equal(packed.samples(0), audio)
        assert torch.equal(gather([(packed, 0)]).audio[0], audio)
        assert gather([(packed, 0)], keep_int16=True).audio.dtype == torch.int16
    for value in (1.0, -1 - 2**-15, 2**-16, -0.0, float("nan"), float("inf")):
        audio = whole.clone()
        audio[-1] = value  # far behind the samples that are tried first
        packed = pack([noise(1, 4, 4, audio=audio)], as_int16=True)
        assert packed.audio.dtype == torch.float32
        assert torch.equal(packed.audio[0].view(torch.int32), audio.view(torch.int32))


def test_packs_with_and_without_int16_audio_are_gathered_as_float():
    sounds = [torch.tensor([0.5, -0.25]), torch.tensor([0.1, 0.2])]
    packs = [pack([noise(i, 4, 4, audio=sound)], as_int16=True) for i, sound in enumerate(sounds)]
    assert [packed.audio.dtype for packed in packs] == [torch.int16, torch.float32]
    assert torch.equal(gather([(packed, 0) for packed in packs], keep_int16=True).audio, torch.stack(sounds))


def test_packs_of_other_lengths_or_planes_are_not_gathered():
    packs = [pack([noise(0, 4, 4)]), pack([noise(1, 4, 4, planes=True)])]
    with pytest.raises(ValueError, match=r"got \[\(2, 1, 400\), \(2, 3, 400\)\]"):
        gather([(packed, 0) for packed in packs])


def test_new_tensors_lie_as_torch_would_put_them():
    for dtype in (torch.uint8, torch.int16, torch.float32):
        x = empty((3, 5), dtype)
        assert (x.shape, x.dtype, x.data_ptr() % 64, x.is_contiguous()) == ((3, 5), dtype, 0, True)
    assert empty((0, 2), torch.float32).shape == (0, 2)
