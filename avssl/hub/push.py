"""Upload a release to the Hugging Face hub, by its client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avssl.core.checkpoint_names import HUB, HubError, HubName, local_checkpoint, parse_hub
from avssl.core.data_files import read_json
from avssl.core.hub_client import LOG_IN, hub_client, hub_errors
from avssl.hub.card import format_card, read_card
from avssl.hub.card_results import CardResult, model_index, results_of_benchmark, results_of_run, results_table
from avssl.hub.classifier import load_classifier
from avssl.hub.pretrained import from_pretrained
from avssl.hub.release import (
    CARD_NAME,
    CLASSIFIER,
    CONFIG_NAME,
    RELEASE_FILES,
    find_release,
    read_content,
    release_kind,
)

_OF_THE_HUB = {".gitattributes", CARD_NAME}
"""Files that any repository may have."""


@dataclass(frozen=True, eq=False)
class Upload:
    """Everything that is to be sent."""

    to: HubName
    kind: str
    folder: Path
    """The release."""
    card: bytes
    results: list[CardResult]
    metadata: dict[str, Any]
    """Metadata of the card."""
    files: dict[str, int] = field(init=False)
    """Size in bytes by name."""

    def __post_init__(self) -> None:
        present = [name for name in RELEASE_FILES if name != CARD_NAME and (self.folder / name).exists()]
        sizes = {name: (self.folder / name).stat().st_size for name in present}
        object.__setattr__(self, "files", {**sizes, CARD_NAME: len(self.card)})


@dataclass(frozen=True)
class Present:
    """The repository as it is."""

    exists: bool
    has_branch: bool = False
    commit: str | None = None
    """Newest commit of the branch."""
    removed: tuple[str, ...] = ()
    """Files of an earlier release that the new one does not have."""


def plan_upload(
    run: Path | str, to: str, *, license_id: str | None = None, results: Sequence[Path | str] = ()
) -> Upload:
    """Read a release and write its card for the hub; nothing is sent.

    Args:
        run: A run directory, or a release here.
        to: ``hf-hub:owner/name`` or ``hf-hub:owner/name@branch``.
        license_id: License of the weights, as the hub writes it; None keeps that of the release's card.
        results: ``results.json`` of ``avssl benchmark`` with scores of these weights.

    Raises:
        HubError: If there is no complete release, the name is no repository, or the results are of other weights.
    """
    name = parse_hub(to)
    if local_checkpoint(run) is None:
        raise HubError(f"{run}: is on the hub already. Name a run directory or a release here.")
    client, folder, kind = hub_client(name), find_release(run), release_kind(run)
    # Loading it checks every name, shape and value before they are published.
    weights = load_classifier(folder).weights_hash() if kind == CLASSIFIER else from_pretrained(folder).weights_hash()
    found = results_of_run(folder)
    for path in results:
        found += results_of_benchmark(path, weights)
    metadata, body = read_card(folder)
    metadata = {"library_name": "avssl"} | metadata | ({"license": license_id} if license_id else {})
    if bases := base_models(read_content(folder, kind)):
        metadata["base_model"] = bases
    if found:
        metadata["model-index"] = model_index(name.repository.split("/")[1], found, client)
        body += f"\n{results_table(found)}"
    body = body.replace('"this folder"', f'"{name}"')
    return Upload(name, kind, folder, format_card(metadata, body).encode(), found, metadata)


def base_models(content: Mapping[str, Any]) -> list[str]:
    """Return the repositories whose weights a release was made from, by its ``config.json``."""
    named = [content["config"].get("train", {}).get("checkpoint")]
    named += [base.get("pretrained") for base in content.get("bases", {}).values()]
    texts = [str(name) for name in named if name]
    return list(dict.fromkeys(parse_hub(text).repository for text in texts if text.startswith(HUB)))


def look_at_repository(upload: Upload, *, private: bool = False) -> Present:
    """Find out whether a repository can take an upload; nothing is sent.

    Raises:
        HubError: If the hub cannot be reached, there is no token, or the repository holds something else.
    """
    client, to = hub_client(upload.to), upload.to
    if client.constants.HF_HUB_OFFLINE:
        raise HubError(f"{to}: HF_HUB_OFFLINE is set, so nothing can be sent. Unset it, or use --dry-run.")
    if client.get_token() is None:
        raise HubError(f"{to}: there is no token of the hub. {LOG_IN}")
    api = client.HfApi()
    with hub_errors(to, client):
        try:
            whole = api.model_info(to.repository)
        except client.errors.RepositoryNotFoundError:
            return Present(exists=False)
        try:
            info = api.model_info(to.repository, revision=to.revision)
        except client.errors.RevisionNotFoundError:
            info, has_branch = whole, False
        else:
            has_branch = True
        names = {file.rfilename for file in info.siblings or []}
        _check_content(upload, names, info.sha, client)
    if private and not whole.private:
        raise HubError(f"{to}: the repository exists and is public. Change that on its page, or leave out --private.")
    removed = tuple(sorted(names & set(RELEASE_FILES) - set(upload.files)))
    return Present(True, has_branch, info.sha if has_branch else None, removed)


def _check_content(upload: Upload, names: set[str], commit: str, client: Any) -> None:
    """Raise HubError if a repository holds anything but an earlier release of the same kind."""
    others = sorted(names - _OF_THE_HUB)
    if not others:
        return
    to, found = upload.to, None
    if CONFIG_NAME in names:
        try:
            content = read_json(client.hf_hub_download(to.repository, CONFIG_NAME, revision=commit))
            found = content["kind"] if "format_version" in content else None
        except (ValueError, KeyError, TypeError):
            found = None
    advice = "Name another repository."
    if found is None:
        listed = ", ".join(others[:5]) + (" ..." if len(others) > 5 else "")
        raise HubError(f"{to}: the repository holds something else than a release of avssl ({listed}). {advice}")
    if found != upload.kind:
        raise HubError(f"{to}: the repository holds a {found} release, and this is a {upload.kind} release. {advice}")


def send(upload: Upload, present: Present, *, private: bool = False, message: str | None = None) -> str:
    """Create the repository and its branch if they are missing, and commit the files; return the commit's address.

    Raises:
        HubError: If the token may not write there, the repository has changed since, or the hub cannot be reached.
    """
    client, to = hub_client(upload.to), upload.to
    api = client.HfApi()
    operations = [
        client.CommitOperationAdd(name, upload.card if name == CARD_NAME else str(upload.folder / name))
        for name in upload.files
    ]
    operations += [client.CommitOperationDelete(name) for name in present.removed]
    with hub_errors(to, client):
        if not present.exists:
            api.create_repo(to.repository, private=private, exist_ok=True)
        if to.revision and not present.has_branch:
            api.create_branch(to.repository, branch=to.revision, exist_ok=True)
        made = api.create_commit(
            to.repository,
            operations,
            commit_message=message or f"Upload a {upload.kind} release of avssl",
            revision=to.revision,
            parent_commit=present.commit,
        )
    return str(made.commit_url)
