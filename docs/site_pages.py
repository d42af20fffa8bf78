"""Pages of the site that are made when it is built (a hook of mkdocs): root files, tutorials, the API of every room.

Pages of this repository link to each other as files, so that they also work on GitHub. Here a link out of docs/
becomes a link to its page of the site, or to the repository where there is none.
"""

from __future__ import annotations

import ast
import json
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

REPOSITORY = Path(__file__).resolve().parent.parent
COPIED = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contribute.md",
    "SECURITY.md": "security.md",
    "datasets/README.md": "datasets.md",
}
"""Page of the site for each file outside docs/ that has one."""
EXAMPLES = (
    "The examples know `avssl`, `torch`, NumPy as `np`, and the names on this page and on that of `avssl`. Their files "
    "stand for yours: `video.mp4`, a corpus of `avssl synthesize`, a run of `avssl pretrain` in `runs/first`."
)
"""Sentence on each page of the API, as the tests run the examples."""
LINK = re.compile(r"(\]\(|(?:src|href)=\")(?![a-z]+:|#|/)([^)\s\"#]+)(#[^)\s\"]*)?")


def on_config(config: Any) -> Any:
    """Put the tutorials, and a page for every room with public names, into the navigation."""
    for entry in config.nav:
        for group, made in (("Tutorials", _tutorials), ("API", _api_pages)):
            if group in entry:
                entry[group] = [{title: path} for path, title, _ in made()]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not files of docs/."""
    made = {page: (REPOSITORY / source).read_text(encoding="utf-8") for source, page in COPIED.items()}
    made |= {path: text for path, _, text in [*_tutorials(), *_api_pages()]}
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn links to files outside docs/ into links to the site's pages or to the repository."""
    own = page.file.src_uri
    if own == "objectives.md":  # its table needs the width
        page.meta["hide"] = ["toc"]
    source = next((source for source, target in COPIED.items() if target == own), f"docs/{own}")

    def target(match: re.Match[str]) -> str:
        file, anchor = os.path.normpath(os.path.join(os.path.dirname(source), match[2])), match[3] or ""
        inside = COPIED.get(file) or (file.removeprefix("docs/") if file.startswith("docs/") else "")
        if file == "README.md" and not anchor:
            inside = "index.md"
        if file.startswith("demos/") and not own.startswith("tutorials/"):
            inside = f"tutorials/{Path(file).stem}.md"
        if files.get_file_from_path(inside):
            return match[1] + os.path.relpath(inside, os.path.dirname(own) or ".") + anchor
        return f"{match[1]}{config.repo_url}/blob/main/{file}{anchor}"

    return LINK.sub(target, markdown)


def _tutorials() -> list[tuple[str, str, str]]:
    """Return path, title and text of a page for the script that trains, and for each notebook."""
    script = REPOSITORY / "demos" / "train_in_python.py"
    source = script.read_text(encoding="utf-8").rstrip()
    title = "Train in Python"
    where = f"The file [{script.name}](../../demos/{script.name}), whole: `python demos/{script.name}` runs it."
    pages = [(f"tutorials/{script.stem}.md", title, f"# {title}\n\n{where}\n\n```python\n{source}\n```\n")]
    for notebook in sorted(REPOSITORY.glob("demos/notebooks/*.ipynb")):
        blocks = []
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            text = "".join(cell["source"])
            blocks.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        title = blocks[0].partition("\n")[0].removeprefix("# ")
        where = f"This page is a notebook: [{notebook.name}](../../demos/notebooks/{notebook.name})."
        pages.append((f"tutorials/{notebook.stem}.md", title, "\n\n".join([blocks[0], where, *blocks[1:]]) + "\n"))
    return pages


def _api_pages() -> list[tuple[str, str, str]]:
    """Return path, title and text of one page for the top level and for each room with public names."""
    pages = []
    for init in [REPOSITORY / "avssl" / "__init__.py", *sorted((REPOSITORY / "avssl").glob("*/__init__.py"))]:
        names = _public_names(init)
        if names:
            module = ".".join(init.parent.relative_to(REPOSITORY).parts)
            summary = (ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
            lines = [f"# {module}", "", summary, "", EXAMPLES]
            lines += [f"::: {path}" for path in sorted(names, key=lambda path: path.rpartition(".")[2].lower())]
            path = "api/index.md" if module == "avssl" else f"api/{init.parent.name}.md"
            pages.append((path, module, "\n\n".join(lines)))
    return pages


def _public_names(init: Path) -> list[str]:
    """Return the dotted path of each name that the package defines, or re-exports by ``import name as name``."""
    tree = ast.parse(init.read_text(encoding="utf-8"))
    room = ".".join(init.parent.relative_to(REPOSITORY).parts)
    own = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return [f"{room}.{name}" for name in own if not name.startswith("_")] + [
        f"{statement.module}.{alias.name}"
        for statement in ast.walk(tree)
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
        if alias.asname == alias.name != "__version__"
    ]
