"""Whose sound is borrowed."""

from __future__ import annotations

from itertools import islice

import pytest

from avssl.core.manifest import ManifestError
from avssl.downstream.localization.partners import Partners
from avssl.downstream.localization.rows import find_instants, sources_of


def names(manifest, instants, partners, number, count=99):
    return [manifest.value(each.row, "id") for each in islice(partners.of(number), count)]


def test_everyone_borrows_from_another_picture_with_a_source(pairs):
    for name in "cd":
        pairs.row(name, name, [(0, 0, 0.5, 1)])
    pairs.row("silent", "e", [])
    manifest = pairs.manifest()
    instants, _ = find_instants(manifest, 1.0)
    partners = Partners(manifest, instants, seed=0)
    sources = sources_of(manifest, instants)
    for number in range(len(instants)):
        found = list(partners.of(number))
        assert all(each.is_positive for each in found)
        assert sources[number] not in {sources[instants.index(each)] for each in found}
        assert len(found) == (4 if sources[number].startswith("pair") else 6 if number == 6 else 5)


def test_one_lends_to_one_where_nobody_is_passed_over(corpus):
    for number in range(9):
        corpus.row(f"r{number}", f"p{number}", [(0, 0, 1, 1)])
    manifest = corpus.manifest()
    instants, _ = find_instants(manifest, 1.0)
    lenders = {
        seed: [names(manifest, instants, Partners(manifest, instants, seed), number, 1)[0] for number in range(9)]
        for seed in (0, 0, 1)
    }
    assert sorted(lenders[0]) == sorted(manifest["id"])  # a ring
    assert lenders[0] != lenders[1]


def test_a_sound_is_no_partner_of_itself(corpus):
    for name in "abc":
        corpus.row(name, name, [(0, 0, 1, 1)])
    corpus.rows[1]["audio_path"] = "sounds/a.wav"
    manifest = corpus.manifest()
    instants, _ = find_instants(manifest, 1.0)
    partners = Partners(manifest, instants, seed=0)
    assert [names(manifest, instants, partners, number) for number in (0, 1)] == [["c"], ["c"]]


def test_one_clip_alone_is_refused(corpus):
    corpus.row("a", "a", [(0, 0, 1, 1)])
    corpus.row("b", "b", [])
    manifest = corpus.manifest()
    with pytest.raises(ManifestError, match=r"all 2 instants are of one clip.*at least two clips"):
        Partners(manifest, find_instants(manifest, 1.0)[0], seed=0)
