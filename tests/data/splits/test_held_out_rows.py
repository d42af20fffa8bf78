import numpy as np

from avssl.core.manifest import Manifest
from avssl.data.splits import held_out_rows


def manifest(files, segments=1):
    rows = [(f"{file}#{part}", file) for file in files for part in range(segments)]
    return Manifest.from_columns({"id": [r[0] for r in rows], "path": [r[1] for r in rows]}, "/videos")


def chosen(of, most):
    return {of["id"][row] for row in np.flatnonzero(held_out_rows(of, most))}


def test_exactly_as_many_rows_as_asked_whatever_their_order():
    files = [f"{number}.mp4" for number in range(500)]
    assert len(chosen(manifest(files), 25)) == 25
    assert chosen(manifest(files), 25) == chosen(manifest(files[::-1]), 25)
    assert chosen(manifest(files), 25) < chosen(manifest(files), 50)
    assert chosen(manifest(files), 0) == set()


def test_files_are_held_out_whole():
    of = manifest([f"{number}.mp4" for number in range(50)], segments=4)
    keep = held_out_rows(of, 11)
    assert keep.sum() == 8  # two files; a third would make 12
    assert set(of["path"][keep]).isdisjoint(of["path"][~keep])


def test_other_rows_change_little():
    """Without a file, its place is taken by one other and nothing else changes."""
    files = [f"{number}.mp4" for number in range(100)]
    whole = chosen(manifest(files), 10)
    gone = sorted(whole)[0].removesuffix("#0")
    without = chosen(manifest([name for name in files if name != gone]), 10)
    assert len(whole & without) == 9


def test_too_long_a_file_is_passed_over():
    rows = [("long.mp4#" + str(part), "long.mp4") for part in range(30)] + [(f"{n}.mp4", f"{n}.mp4") for n in range(10)]
    of = Manifest.from_columns({"id": [r[0] for r in rows], "path": [r[1] for r in rows]}, "/videos")
    keep = held_out_rows(of, 5)
    assert keep.sum() == 5
    assert "long.mp4" not in set(of["path"][keep])
