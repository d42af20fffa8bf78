"""Features that several cells read: extracted in one pass over the clips, into the cache that their verbs read."""

from __future__ import annotations

from collections.abc import Sequence

from avssl.config.command import Verb
from avssl.core.cpus import decoding_workers
from avssl.core.manifest import read_manifest
from avssl.data.splits import labeled_rows
from avssl.downstream.probing import MULTI_LABEL_PROTOCOLS, ProbeProtocol, ProbeSettings
from avssl.downstream.probing import PROTOCOLS as PROBES
from avssl.engine import choose_device
from avssl.features.extract import FeatureRequest, cache_features
from avssl.hub.pretrained import PretrainedModel, from_pretrained, random_init
from avssl.recipes.benchmark.cells import Cell, How
from avssl.recipes.benchmark.checks import divisions_of


def share_features(cells: Sequence[Cell], how: How, *, progress: bool) -> None:
    """Extract what cells of one data set and model read, if several read the same rows.

    These are the probes of all labeled rows; ``av_retrieval`` chooses its own. Windows of different numbers for each
    clip, or of one stream alone, are passes of their own. The random weights that each probe measures too are seeded by
    it, so they are the same for all.

    Raises:
        AvsslError: As from the cells themselves.
    """
    probes = [(cell, probe) for cell in cells if (probe := _probe(cell)) is not None and probe.choose is None]
    if len(probes) < 2:
        return
    cell, _ = probes[0]
    manifest = read_manifest(cell.words[0])
    rows = manifest.select(labeled_rows(divisions_of(manifest, cell.data)))
    pretrained = from_pretrained(cell.model.checkpoint, choose_device(how.device))
    settings = [_settings(cell) for cell, _ in probes]
    for model in (pretrained, random_init(pretrained, settings[0].seed + 1)):
        requests = [_request(probe, each, model) for (_, probe), each in zip(probes, settings, strict=True)]
        workers = decoding_workers(how.num_workers)
        cache_features(model, rows, requests, how.out / "features", num_workers=workers, progress=progress)


def _probe(cell: Cell) -> ProbeProtocol | None:
    known = MULTI_LABEL_PROTOCOLS if cell.data.fields.multi_label else PROBES
    return known.get(cell.entry.protocol)


def _settings(cell: Cell) -> ProbeSettings:
    verb = cell.protocol.verb
    return Verb(verb.name, verb.path).parse(list(cell.words)).get("settings") or ProbeSettings()


def _request(probe: ProbeProtocol, settings: ProbeSettings, model: PretrainedModel) -> FeatureRequest:
    extraction = probe.extraction(model, settings)
    windows = settings.windows_per_clip or probe.windows
    return FeatureRequest(windows, stages=extraction.get("stages") or {}, stream=extraction["stream"])
