"""Advice when memory runs out: the options of a verb that need less of it."""

from __future__ import annotations

from avssl.config.command import Verb
from avssl.core.errors import RunError
from avssl.core.memory import is_on_gpu

_FEWER = {
    "train.embed_chunk_size": "encode fewer clips at a time, with the same loss",
    "train.activation_checkpointing": "block computes the activations of each block twice and keeps none",
    "optim.batch_size": "fewer clips per step",
    "batch_size": "fewer clips at a time",
    "test.batch_size": "fewer clips at a time in the test",
    "windows_per_clip": "fewer windows of a clip",
    "transform.video.size": "smaller frames",
    "sampling.num_frames": "shorter clips",
}
_ON_GPU = {"train.precision": "bf16 takes about half", "device": "cpu", "train.device": "cpu"}
_ON_HOST = {
    "num_workers": "fewer processes",
    "data.num_workers": "fewer processes",
    "data.clips_per_read": "fewer clips held ready",
    "rows_per_shard": "smaller shards",
}


def out_of_memory(verb: Verb, error: BaseException) -> RunError:
    """Return the error of a verb that ran out of memory, which says what to lower."""
    on_gpu = is_on_gpu(error)
    # The first sentences have the sizes; the others advise on the settings of torch's allocator.
    words = " ".join(str(error).split("Of the allocated memory")[0].split())
    doing = next((note for note in getattr(error, "__notes__", []) if note.startswith("while ")), "")
    asked = _FEWER | _ON_GPU if on_gpu else _ON_HOST | _FEWER
    known = verb.option_names()
    options = [f"--{name.replace('_', '-')} ({what})" for name, what in asked.items() if name in known]
    place = "the GPU" if on_gpu else "this machine"
    change = f"Change one of {', '.join(options)}, or end" if options else "End"
    advice = f"{change} other programs that use its memory."
    found = f"{place} ran out of memory{f' {doing}' if doing else ''}"
    return RunError(f"{found}{f' ({words[:400]})' if words else ''}. {advice}")
