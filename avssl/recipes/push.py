"""The verb ``push``: upload a release to the Hugging Face hub."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from avssl.core.errors import ConfigError
from avssl.hub.push import Present, Upload, look_at_repository, plan_upload, send
from avssl.hub.release import CARD_NAME


def push(
    run: Path | str,
    to: str,
    *,
    license: str | None = None,
    results: Sequence[Path | str] = (),
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    dry_run: bool = False,
    yes: bool = False,
) -> str | None:
    """Upload a release to the Hugging Face hub, after showing what is sent.

    Sent are the weights (safetensors, never a pickle), ``config.json``, the statistics of the training clips and the
    card, ``README.md``. The card gets the license, the base model, and the results as ``model-index``, each with its
    data set, n and baselines: those of the run itself, and with ``--results`` those of ``avssl benchmark``. Whoever
    has access loads it by ``avssl.from_pretrained("hf-hub:OWNER/NAME")`` or any ``--checkpoint hf-hub:OWNER/NAME``.

    Log in once with ``hf auth login``, or set HF_TOKEN. Another hub is named by HF_ENDPOINT.

    Args:
        run: A run directory, one of its folds, or a release.
        to: Repository, hf-hub:OWNER/NAME; created if missing.
        license: License of the weights, such as apache-2.0 or cc-by-nc-4.0; default: that of the release's card.
        results: Folders of avssl benchmark that have scores of these weights.
        private: Create a private repository.
        revision: Branch to commit to, created if missing; default: main. The same as hf-hub:OWNER/NAME@BRANCH.
        message: Message of the commit.
        dry_run: Show the files and the card, and send nothing.
        yes: Do not ask before sending; required where there is no terminal.

    Returns:
        Address of the commit; None if nothing was sent.

    Raises:
        ConfigError: If options exclude each other, or there is no terminal to ask at and no ``--yes``.
        HubError: If there is no complete release, no token, or the hub does not take it.
    """
    if revision is not None and "@" in to:
        raise ConfigError(f"--revision ({revision}) and {to}: name the branch once.")
    upload = plan_upload(run, f"{to}@{revision}" if revision else to, license_id=license, results=results)
    _show(upload)
    if dry_run:
        print(f"\n{CARD_NAME}:\n\n{upload.card.decode()}\nnothing is sent (--dry-run)")
        return None
    if not yes and not sys.stdin.isatty():
        raise ConfigError("there is no terminal to ask at: add --yes to send these files, or --dry-run to only look.")
    present = look_at_repository(upload, private=private)
    _show_target(upload, present, private)
    if not yes and input("Send these files? [y/N] ").strip().lower() not in ("y", "yes"):
        print("nothing is sent")
        return None
    address = send(upload, present, private=private, message=message)
    print(f"sent: {address}")
    reader = "load_classifier" if upload.kind == "classifier" else "from_pretrained"
    print(f'use it: avssl.{reader}("{upload.to}"), or --checkpoint {upload.to}')
    return address


def _show(upload: Upload) -> None:
    """Print the files, and what the card says."""
    width = max(map(len, upload.files))
    for name, size in upload.files.items():
        print(f"{name:<{width}}  {_size(size):>10}")
    metadata = upload.metadata
    print(f"license: {metadata.get('license') or 'none; name that of your weights with --license'}")
    if "base_model" in metadata:
        print(f"base model: {', '.join(metadata['base_model'])}")
    for each in upload.results:
        baselines = "".join(f", {name} {value:.3f}" for name, value in each.baselines.items())
        print(f"result: {each.data}, {each.protocol}: {each.measure} {each.value:.3f} (n = {each.n}{baselines})")
    if not upload.results:
        print("results: none; avssl benchmark measures some, and --results FOLDER puts them on the card")


def _show_target(upload: Upload, present: Present, private: bool) -> None:
    state = "new files in a repository that exists" if present.exists else f"new {'private' if private else 'public'}"
    print(f"to: {upload.to} ({state}{', new branch' if upload.to.revision and not present.has_branch else ''})")
    for name in present.removed:
        print(f"removed there: {name}")


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f} MiB" if num_bytes >= 2**20 else f"{num_bytes / 2**10:.1f} KiB"
