"""Read the options of a class or function from its source, without importing it.

An option is declared once: as a keyword argument (or dataclass field) of the class or function that
uses it, with its default, and documented in the ``Args`` of that docstring. This module reads both
with :mod:`ast`, so that ``avssl VERB --help`` needs neither torch nor anything else that is slow.

Example:
    >>> declared = read_declaration("avssl.objectives.info_nce:InfoNCE")
    >>> declared["temperature"].default
    0.07
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Optional, Union

import docstring_parser

from avssl.core.ranges import Range, plain

_KNOWN_NAMES = {
    **{kind.__name__: kind for kind in (bool, dict, float, int, list, str, tuple)},
    "Annotated": Annotated,
    "Any": Any,
    "Range": Range,
    "Literal": Literal,
    "Optional": Optional,
    "Path": Path,
    "Union": Union,
    "Callable": Callable,
    "Mapping": Mapping,
    "Sequence": Sequence,
}
"""Names that may stand in the annotation of an option without being looked up."""


@dataclass(frozen=True)
class Option:
    """One keyword argument or field."""

    name: str
    type: Any
    """The evaluated annotation, such as ``int | None`` or ``Literal["mean", "max"]``."""
    default: Any
    """Default value; :data:`dataclasses.MISSING` if the option is required."""
    help: str
    """Documentation on one line; empty if there is none."""
    is_positional: bool = False
    """True if it may be given by position."""
    settings: str | None = None
    """``module:Class`` of a dataclass of this project, if that is the annotation: a group of further options."""
    annotation: Any = None
    """``type`` with the ranges of its numbers."""


@dataclass(frozen=True)
class Declaration:
    """The options and documentation of a class or function."""

    path: str
    """``module:name``."""
    summary: str
    """First line of the docstring."""
    description: str
    """The rest of the docstring before ``Args``."""
    options: Mapping[str, Option]
    """Options by name, in the order of the signature."""

    def __getitem__(self, name: str) -> Option:
        return self.options[name]


@cache
def read_declaration(path: str) -> Declaration:
    """Read the options of a class, dataclass or function.

    Args:
        path: ``"package.module:Name"``. The module is parsed, not imported. The name may also be that of a
            ``functools.partial`` of a class or function, whose remaining options are returned.

    Raises:
        ValueError: If there is no such class or function, or an annotation or default is not a plain one.
    """
    module_name, _, name = path.partition(":")
    module, node = _find(_parse(module_name), name)
    num_bound = 0
    if isinstance(node, ast.Call):
        num_bound = len(node.args) - 1
        module, node = _find(module, ast.unparse(node.args[0]))
    if not isinstance(node, _Declared):
        raise ValueError(f"{path}: there is no class or function {name} in {module_name}.")
    doc = docstring_parser.parse(ast.get_docstring(node) or "", docstring_parser.DocstringStyle.GOOGLE)
    return Declaration(
        path,
        doc.short_description or "",
        doc.long_description or "",
        MappingProxyType({option.name: option for option in islice(_options(module, node), num_bound, None)}),
    )


def read_constant(module_name: str, name: str, default: Any = None) -> Any:
    """Return the value that a module assigns to a name at its top level, without importing the module."""
    value = _Names(_parse(module_name))[name]
    return default if isinstance(value, _Opaque) else value


def has_function(module_name: str, name: str) -> bool:
    """Return True if a module defines a function of this name, without importing the module."""
    return any(isinstance(s, ast.FunctionDef) and s.name == name for s in _parse(module_name).statements())


@dataclass(frozen=True)
class _Module:
    name: str
    tree: ast.Module

    def statements(self) -> Iterator[ast.stmt]:
        """Yield the top-level statements, including those under ``if TYPE_CHECKING``."""
        for statement in self.tree.body:
            yield statement
            if isinstance(statement, ast.If):
                yield from statement.body


@cache
def _parse(name: str) -> _Module:
    return _Module(name, ast.parse(_source_file(name).read_text(encoding="utf-8")))


def _source_file(module_name: str) -> Path:
    """Return the file of a module without importing its parent package, which ``find_spec`` would do."""
    if module_name in sys.modules and getattr(sys.modules[module_name], "__file__", None):
        return Path(sys.modules[module_name].__file__ or "")
    top, *rest = module_name.split(".")
    spec = importlib.util.find_spec(top)
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    if spec is not None and spec.origin is not None and not rest:
        return Path(spec.origin)
    for folder in folders:
        place = Path(folder, *rest)
        for file in (place / "__init__.py", place.with_suffix(".py")):
            if file.is_file():
                return file
    raise ValueError(f"{module_name}: there is no module of this name.")


def _is_read(module_name: str | None, importer: str) -> bool:
    """Return whether to follow an import: avssl and the importer's own package are read, other libraries are not."""
    return (module_name or "").split(".")[0] in ("avssl", importer.split(".")[0])


_Declared = ast.ClassDef | ast.FunctionDef


def _find(module: _Module, name: str) -> tuple[_Module, _Declared | ast.Call | None]:
    """Return the definition of a name, followed through imports: a class, a function or a call of partial."""
    for statement in module.statements():
        match statement:
            case ast.Assign(targets=[ast.Name(id=target)], value=ast.Call(func=ast.Name(id="partial")) as call):
                if target == name:
                    return module, call
        if isinstance(statement, _Declared) and statement.name == name:
            return module, statement
        if isinstance(statement, ast.ImportFrom) and _is_read(statement.module, module.name):
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    return _find(_parse(statement.module or ""), alias.name)
    return module, None


def _options(module: _Module, node: _Declared) -> Iterator[Option]:
    if isinstance(node, ast.FunctionDef):
        yield from _arguments(module, node, _documented(node))
        return
    docs = _documented(node)
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            inherited = {option.name: option for option in _inherited(module, node)}
            texts = {name: option.help for name, option in inherited.items()}
            for option in _arguments(module, statement, texts | docs | _documented(statement)):
                inherited.pop(option.name, None)
                yield option
            if statement.args.kwarg is not None:  # **options: the rest goes to the base class
                yield from inherited.values()
            return
    own = {option.name: option for option in _fields(module, node, docs)} if _is_dataclass(node) else {}
    for option in _inherited(module, node):
        yield own.pop(option.name, option)
    yield from own.values()


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def _inherited(module: _Module, node: ast.ClassDef) -> Iterator[Option]:
    """Yield the options of base classes whose source is read; others, such as ``nn.Module``, have none."""
    for base in node.bases:
        if isinstance(base, ast.Name):
            where, definition = _find(module, base.id)
            if isinstance(definition, ast.ClassDef):
                yield from _options(where, definition)


def _documented(node: _Declared) -> dict[str, str]:
    doc = docstring_parser.parse(ast.get_docstring(node) or "", docstring_parser.DocstringStyle.GOOGLE)
    return {entry.arg_name: " ".join((entry.description or "").split()) for entry in doc.params}


def _arguments(module: _Module, function: ast.FunctionDef, docs: Mapping[str, str]) -> Iterator[Option]:
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(positional) - len(given.defaults)) + list(given.defaults)
    pairs = [(a, d, True) for a, d in zip(positional, defaults, strict=True) if a.arg not in ("self", "cls")]
    pairs += [(a, d, False) for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    for argument, default, is_positional in pairs:
        yield _option(module, argument.arg, argument.annotation, default, docs.get(argument.arg, ""), is_positional)


def _fields(module: _Module, node: ast.ClassDef, docs: Mapping[str, str]) -> Iterator[Option]:
    """Yield the fields of a dataclass; the string under a field documents it."""
    for statement, after in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = docs.get(statement.target.id, "")
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                text = " ".join(str(after.value.value).split())
            yield _option(module, statement.target.id, statement.annotation, statement.value, text, True)


def _option(
    module: _Module, name: str, annotation: ast.expr | None, default: ast.expr | None, text: str, is_positional: bool
) -> Option:
    if (settings := _dataclass_of(module, annotation)) is not None:
        return Option(name, Any, MISSING if default is None else None, text, is_positional, settings)
    kind = Any if annotation is None else _evaluate(module, annotation)
    value = MISSING if default is None else _evaluate(module, default)
    return Option(name, plain(kind), value, text, is_positional, annotation=kind)


def _dataclass_of(module: _Module, annotation: ast.expr | None) -> str | None:
    """Return ``module:Class`` if the annotation is a dataclass of the same package, or that or None."""
    match annotation:
        case ast.Name(id=name) | ast.BinOp(left=ast.Name(id=name), op=ast.BitOr(), right=ast.Constant(value=None)):
            where, node = (module, None) if name in _KNOWN_NAMES else _find(module, name)
            if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(d) for d in node.decorator_list):
                return f"{where.name}:{node.name}"
    return None


def _evaluate(module: _Module, expression: ast.expr) -> Any:
    """Return the value of an annotation or default: literals, known types and names of the module itself."""
    try:
        return eval(compile(ast.Expression(expression), module.name, "eval"), {"__builtins__": {}}, _Names(module))
    except Exception as error:
        where = f"{module.name}, line {expression.lineno}"
        raise ValueError(f"{where}: {ast.unparse(expression)} is not a plain type or value ({error}).") from error


class _Names(dict[str, Any]):
    """Names in an expression: known types, otherwise assignments and imports of the module."""

    def __init__(self, module: _Module) -> None:
        super().__init__(_KNOWN_NAMES)
        self._module = module

    def __missing__(self, name: str) -> Any:
        for statement in self._module.statements():
            match statement:
                case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                    return _evaluate(self._module, value)
                case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value) if target == name:
                    return _evaluate(self._module, value)
                case ast.ImportFrom(module=str(source), names=aliases) if _is_read(source, self._module.name):
                    for alias in aliases:
                        if (alias.asname or alias.name) == name:
                            return _Names(_parse(source))[alias.name]
        return _Opaque(name)


@dataclass(frozen=True)
class _Opaque:
    """A class in an annotation that is only known at run time, such as ``Tensor``."""

    name: str

    def __getattr__(self, name: str) -> _Opaque:
        return _Opaque(f"{self.name}.{name}")

    def __getitem__(self, parameters: Any) -> _Opaque:
        return self

    def __or__(self, other: Any) -> Any:
        return Any

    __ror__ = __or__
