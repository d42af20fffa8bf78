"""Write docs/architecture.md and its drawing: the map of the package, made from its imports.

python docs/make_architecture.py
"""

from __future__ import annotations

import ast
import itertools
import tomllib
from pathlib import Path

import grimp

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "avssl"
PAGE = REPOSITORY / "docs" / "architecture.md"
DRAWING = PAGE.with_suffix(".svg")

INTRODUCTION = """\
# Architecture

Made by `python docs/make_architecture.py` from the imports of the code; do not edit it by hand. `avssl/` has one folder
("room") for each question that a reader may have, in layers: a room imports only rooms of lower layers, and
`lint-imports` checks that. Arrows point from a room to what it imports; those that follow from other arrows are left
out of the drawing.

*media decodes, data samples, transforms augment, models embed, objectives score, engine steps, evaluation measures,
localization points; training puts them together for one run, and a recipe is the story of one verb.*

Start reading at `avssl/recipes/pretrain.py`, then `avssl/engine/loop.py`, `avssl/objectives/info_nce.py` and
`avssl/localization/heatmap.py`. What to change for a new objective, encoder, dataset, verb or metric:
[CONTRIBUTING.md](../CONTRIBUTING.md).
"""


def layers() -> list[list[str]]:
    """Return the layers of the import contract, highest first, each a list of rooms."""
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = (c for c in contracts if c["type"] == "layers")
    return [[room.strip() for room in layer.split("|")] for layer in contract["layers"]]


def arrows(rooms: list[str]) -> dict[str, set[str]]:
    """Return the rooms that each room imports, in any of its modules and functions."""
    graph = grimp.build_graph("avssl", exclude_type_checking_imports=True, cache_dir=None)
    imports: dict[str, set[str]] = {room: set() for room in rooms}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            source, target = (name.split(".")[1] if "." in name else "" for name in (module, imported))
            if source in imports and target in imports and source != target:
                imports[source].add(target)
    return imports


def summary(path: Path) -> str:
    """Return the first sentence of a module's or a package's docstring, without the final period."""
    text = ast.get_docstring(ast.parse((path / "__init__.py" if path.is_dir() else path).read_text())) or ""
    return " ".join(text.split("\n\n")[0].split()).removesuffix(".")


def size(path: Path) -> str:
    """Return how many files and non-blank lines a room has, the lines to two digits, as they change daily."""
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    lines = sum(bool(line.strip()) for file in files for line in file.read_text().splitlines())
    return f"{len(files)} | {float(f'{lines:.2g}'):.0f}"


def place(room: str) -> Path:
    """Return the folder or the file of a room."""
    return PACKAGE / room if (PACKAGE / room).is_dir() else PACKAGE / f"{room}.py"


def drawing(floors: list[list[str]], imports: dict[str, set[str]]) -> str:
    """Return an SVG image: a row of boxes for each layer, and the arrows that do not follow from others."""

    def reached(room: str) -> set[str]:
        return set().union(*({below} | reached(below) for below in imports[room]))

    width, height, row, wide = 860, 34, 74, 116
    across, down = {}, {}
    for number, floor in enumerate(floors):
        aside = (0, 150, -150)[number % 3] / len(floor)  # so that arrows between far layers pass beside the boxes
        for i, room in enumerate(floor):
            across[room] = width * (2 * i + 1) / (2 * len(floor)) + aside
            down[room] = 12 + row * number
    total = 24 + row * (len(floors) - 1) + height
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total}" font-family="sans-serif" '
        'font-size="15" role="img" aria-label="The rooms of avssl in layers, and what they import">',
        f'  <rect width="{width}" height="{total}" rx="10" fill="#ffffff"/>',
        '  <defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L10 5 L0 10 z" fill="#555"/></marker></defs>',
        '  <g fill="none" stroke="#555" stroke-width="1.2">',
    ]
    for room, below in imports.items():
        follows = set().union(*(reached(other) for other in below))
        for other in sorted(below - follows):
            x, y, to_x, to_y = across[room], down[room] + height, across[other], down[other]
            bend = f"C{x:.0f} {y + row / 2} {to_x:.0f} {to_y - row / 2}"
            lines.append(f'    <path d="M{x:.0f} {y} {bend} {to_x:.0f} {to_y - 2}" marker-end="url(#tip)"/>')
    lines += ["  </g>", '  <g fill="#eef1fb" stroke="#5c6bc0" stroke-width="1.5">']
    for room, x in across.items():
        lines.append(f'    <rect x="{x - wide / 2:.0f}" y="{down[room]}" width="{wide}" height="{height}" rx="8"/>')
    lines += ["  </g>", '  <g text-anchor="middle" fill="#222">']
    lines += [f'    <text x="{x:.0f}" y="{down[room] + 22}">{room}</text>' for room, x in across.items()]
    return "\n".join([*lines, "  </g>", "</svg>"]) + "\n"


def made() -> dict[Path, str]:
    """Return the texts of the page and of its drawing by file."""
    floors = layers()
    rooms = list(itertools.chain(*floors))
    imports = arrows(rooms)
    return {PAGE: page(floors, rooms, imports), DRAWING: drawing(floors, imports)}


def page(floors: list[list[str]], rooms: list[str], imports: dict[str, set[str]]) -> str:
    """Return the text of docs/architecture.md."""
    height = {room: -number for number, floor in enumerate(floors) for room in floor}
    pairs = [(a, b) for a in rooms for b in imports[a]]
    twice = sum(a < b and a in imports[b] for a, b in pairs)
    upward = sum(height[b] >= height[a] for a, b in pairs)
    lines = [INTRODUCTION]
    lines += [
        f"{len(rooms)} rooms on {len(floors)} layers, {len(pairs)} arrows between rooms, {twice} pairs that import "
        f"each other, {upward} imports upward or sideways; {sum(1 for _ in PACKAGE.rglob('*.py'))} files.\n"
    ]
    lines += [f"![The rooms in layers, and what they import; the table below says the same]({DRAWING.name})\n"]
    lines += [
        "| layer | room | what it is | imports | files | lines, about |",
        "| ---: | --- | --- | --- | ---: | ---: |",
    ]
    for number, floor in enumerate(floors):
        for room in floor:
            below = ", ".join(sorted(imports[room], key=rooms.index)) or "–"
            cells = [str(len(floors) - number), f"`{room}`", summary(place(room)), below, size(place(room))]
            lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "## Folders inside the rooms",
        "",
        "| folder | what it is | files | lines, about |",
        "| --- | --- | ---: | ---: |",
    ]
    inner = [path.parent for path in PACKAGE.rglob("__init__.py") if len(path.relative_to(PACKAGE).parts) > 2]
    for path in sorted(inner, key=lambda path: (rooms.index(path.relative_to(PACKAGE).parts[0]), path)):
        lines.append(f"| `{path.relative_to(PACKAGE).as_posix()}` | {summary(path)} | {size(path)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")
