"""All prose uses the words of the table "Words" of CONTRIBUTING.md: docs, help, messages, comments and notebooks.

The right column of the table is the list of words to avoid. A word that has other senses, which are fine, has a pattern
of the wrong one in SENSES.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
CODE = [path for folder in ("avssl", "benchmarks", "datasets", "demos") for path in (REPOSITORY / folder).rglob("*.py")]
PAGES = [path for pattern in ("*.md", "docs/*.md", ".github/**/*.md") for path in REPOSITORY.glob(pattern)]
PAGES += [REPOSITORY / "datasets" / "README.md", *REPOSITORY.glob("benchmarks/results/*.md")]
CONFIGS = [*REPOSITORY.glob("configs/**/*.yaml"), *REPOSITORY.glob("*.toml"), REPOSITORY / "Makefile"]
NOTEBOOKS = [*REPOSITORY.glob("demos/notebooks/*.ipynb")]
FILES = sorted({*CODE, *PAGES, *CONFIGS, *NOTEBOOKS} - {REPOSITORY / "CHANGELOG.md"})

OTHERS = "the other|another|its|their|each other"
SENSES = {
    "sound": (
        r"(?:shuffled|own|same|other) sounds?\b(?! sources?| events?)|(?:with|without|no) sound\b(?! sources?| events?)"
        rf"|(?:videos?|frames?|images?) and (?:{OTHERS}|the)? ?sounds?\b(?! sources?)"
        rf"|sound (?:of|from) (?:{OTHERS}|the|a) (?:clip|scene|video|file|recording)"
    ),
    "passes": r"passes over (?:the (?:data|rows|clips|files)|them)",
    "what it looked at": r"what (?:it|a model|the model) (?:has )?looked at",
    "visit": r"visit(?:s|ed|ing)?",
    "place": r"places? in (?:the |a |its )?(?:clip|video|audio|recording|time)\b",
    "instant": r"instants? (?:of \d|lasting|that lasts?)|\d+[ -]s(?:econds?)? instants?",
    "asked for": r"asked (?:for|with)",
    "say of": r"sa(?:y|ys|id) of",
    "answer": (
        r"(?:real|true|right|wrong|each|same|whose|its) answers?|answers? (?:of|to)"
        r"|(?:holds?|has|have) (?:the|an) answer"
    ),
    "refuses": r"refus(?:e|es|ed|ing|als?)",
    "gives": r"(?:^|: )(?-i:Gives)|gives (?:an? |the )?(?:\w*Error|error|exception)|gives? back",
    "leaves": r"(?:^|: )(?-i:Leaves)|leaves (?:it|them|files?|rows?) unread",
    "colour": r"colour(?:s|ed)?",
    "centre": r"centre[ds]?",
    "labelled": r"(?:un)?labelled",
}
"""Patterns of the senses that are avoided, or of the forms of a word."""
ALLOWED = {"noise/colour"}
"""Strings that are part of a random key, and so cannot change."""


def glossary() -> dict[str, str]:
    """Return each word to avoid, and what to write in place of it."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.*) \| (.*) \|$", text.partition("| say | not |")[2].partition("\n\n")[0], re.MULTILINE)
    words = {}
    for instead, avoided in rows[1:]:
        for word in re.sub(r", except [^,]*|, unless [^,]*", "", avoided).split(", "):
            words[word] = instead
    return words


def pattern(word: str) -> re.Pattern[str]:
    found = SENSES.get(word, rf"{re.escape(word)}s?")
    return re.compile(rf"(?<![\w/-])(?:{found})(?![\w/-])", re.MULTILINE | re.IGNORECASE)


def code_texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every comment and every string that has a space in it (a key or a name has none)."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")


def page_texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the paragraphs of a page, without code and links; the glossary itself is left out."""
    text = path.read_text(encoding="utf-8")
    if path.name == "CONTRIBUTING.md":
        table = "| say | not |" + text.partition("| say | not |")[2].partition("\n\n")[0]
        text = text.replace(table, "\n" * table.count("\n"))
    text = re.sub(r"^```.*?^```", lambda match: "\n" * match[0].count("\n"), text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)|https?://\S+", "", text)
    for match in re.finditer(r"(?:.+\n?)+", text):
        yield text.count("\n", 0, match.start()) + 1, match[0]


def texts(path: Path) -> Iterator[tuple[int, str]]:
    if path.suffix == ".py":
        yield from code_texts(path)
    elif path.suffix == ".md":
        yield from page_texts(path)
    elif path.suffix == ".ipynb":
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            lines = "".join(cell["source"])
            yield 0, lines if cell["cell_type"] == "markdown" else "\n".join(re.findall(r"#.*", lines))
    else:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            yield number, line.partition("#")[2]


def avoided(path: Path, words: dict[str, str]) -> list[str]:
    """Return the words of a file that its texts should not have."""
    known = {pattern(word): word for word in words}
    found = []
    for line, text in texts(path):
        plain = re.sub(r"``[^`]*``|`[^`]*`|\{[^}]*\}", "", text)
        for compiled, word in known.items():
            for match in compiled.finditer(plain):
                if not any(match[0] in allowed for allowed in ALLOWED if allowed in text):
                    place = f"{path.relative_to(REPOSITORY)}:{line + plain.count(chr(10), 0, match.start())}"
                    found.append(f"{place}: {' '.join(match[0].split())!r}; write {words[word]}")
    return found


def test_every_word_of_the_table_has_a_pattern_and_no_pattern_lacks_its_word():
    words = glossary()
    assert len(words) >= 20
    assert set(SENSES) <= set(words)


@pytest.mark.parametrize("part", ["avssl", "benchmarks", "datasets", "demos", "docs", "configs", ""])
def test_prose_uses_the_words_of_the_table(part):
    words, top = glossary(), {"avssl", "benchmarks", "datasets", "demos", "docs", "configs"}
    chosen = [path for path in FILES if (path.relative_to(REPOSITORY).parts[0] if part else "") == part]
    if not part:
        chosen = [path for path in FILES if path.relative_to(REPOSITORY).parts[0] not in top]
    assert chosen
    assert [line for path in chosen for line in avoided(path, words)] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Pictures of the video and its sound.", ["picture", "sound"]),
        ("A clip with sound.", ["sound"]),
        ("A clip with sound sources, and a bell that sounds.", []),
        ("It passes over the data twice.", ["passes"]),
        ("The channel passes bytes on.", []),
        ("Each file is visited once.", ["visit"]),
        ("An instant of 2 s.", ["instant"]),
        ("The annotated instant, a point in time.", []),
        ("Gives the loss.", ["gives"]),
        ("The rule gives each class a weight.", []),
        ("The value that was asked for.", ["asked for"]),
        ("A wrong option is refused.", ["refuses"]),
        ("Coloured and unlabelled.", ["colour", "labelled"]),
    ],
)
def test_senses_are_told_apart(text, words):
    assert [word for word in glossary() if pattern(word).search(text)] == words
