import numpy as np
import pytest
import torch

from avssl.hub.converters import ConvertError, read_statistics


def test_flat_and_padded_shapes_of_any_float_are_read(tmp_path):
    mean, std = np.arange(5.0), np.arange(1.0, 6.0)
    for name, shape in (("flat", (5,)), ("row", (1, 5)), ("column", (5, 1))):
        np.savez(tmp_path / f"{name}.npz", mean=mean.reshape(shape), std=std.reshape(shape))
        found = read_statistics(tmp_path / f"{name}.npz", 5)
        assert torch.equal(found[0], torch.arange(5.0))
        assert torch.equal(found[1], torch.arange(1.0, 6.0))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mean": np.zeros(5)}, "not an .npz with the arrays mean and std"),
        ({"mean": np.zeros(3), "std": np.ones(3)}, r"mean is \(3,\), but the spectrogram has 5 bins"),
        ({"mean": np.zeros(5), "std": np.ones((5, 5))}, r"std is \(5, 5\)"),
        ({"mean": np.zeros(5), "std": np.zeros(5)}, "std must be finite and above 0"),
        ({"mean": np.full(5, np.nan), "std": np.ones(5)}, "mean must be finite in every bin"),
        ({"mean": np.array([{}] * 5, dtype=object), "std": np.ones(5)}, "Python objects"),
    ],
)
def test_other_statistics_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(ConvertError, match=message):
        read_statistics(tmp_path / "s.npz", 5)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ConvertError, match="no such file"):
        read_statistics(tmp_path / "none.npz", 5)
    (tmp_path / "text.npz").write_text("mean,std")
    with pytest.raises(ConvertError, match=r"not an \.npz"):
        read_statistics(tmp_path / "text.npz", 5)
    np.savez_compressed(tmp_path / "large.npz", mean=np.zeros(2**18), std=np.ones(5))
    with pytest.raises(ConvertError, match="at most 1048576"):
        read_statistics(tmp_path / "large.npz", 5)
