"""Mutable attributes of a class, found in its source.

An attribute counts, once, if a method other than `__init__` and `__post_init__`

* assigns, augments, annotates with a value or deletes `self.name`, in a tuple, as the target of a
  loop or of a `with` as well; or
* changes `self.name` in place, where the class makes it a list, dict, set, deque, Counter,
  defaultdict, OrderedDict or bytearray (in `__init__` or `__post_init__`, or as a dataclass's
  default): assigns, augments or deletes an item, or calls a method that changes it (`CHANGES`).

Events, locks and objects of other classes do not count: their state is theirs.  Nor does what
other objects assign from outside, or a base class has.
"""

import ast
from collections.abc import Iterator

INITIALISERS = {"__init__", "__post_init__"}
CONTAINERS = {
    "bytearray",
    "Counter",
    "defaultdict",
    "deque",
    "dict",
    "list",
    "OrderedDict",
    "set",
}
DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
CHANGES = {
    *("add", "append", "appendleft", "clear", "difference_update", "discard", "extend"),
    *("extendleft", "insert", "intersection_update", "move_to_end", "pop", "popitem", "popleft"),
    *("remove", "reverse", "rotate", "setdefault", "sort", "subtract"),
    *("symmetric_difference_update", "update"),
}
"""Methods that change a container in place."""


def mutable_attributes(node: ast.ClassDef) -> set[str]:
    """Return the names of the mutable attributes of a class."""
    containers = set(_containers(node))
    found: set[str] = set()
    for method in _methods(node):
        if method.name not in INITIALISERS:
            for inner in ast.walk(method):
                found.update(filter(None, _assigned(inner, containers)))
    return found


def _methods(node: ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (e for e in node.body if isinstance(e, ast.FunctionDef | ast.AsyncFunctionDef))


def _containers(node: ast.ClassDef) -> Iterator[str]:
    """Yield the attributes that the class makes a mutable container."""
    for each in node.body:
        match each:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                if _is_container(value):
                    yield name
    for method in _methods(node):
        if method.name in INITIALISERS:
            for inner in ast.walk(method):
                match inner:
                    case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
                        if _is_container(value):
                            yield from filter(None, map(_name_of, _targets(inner)))


def _is_container(value: ast.expr) -> bool:
    match value:
        case ast.Call(func=ast.Name(id="field"), keywords=keywords):
            made = {ast.unparse(each.value) for each in keywords if each.arg == "default_factory"}
            return any(each.partition("[")[0] in CONTAINERS for each in made)
        case ast.Call(func=ast.Subscript(value=function)) | ast.Call(func=function):
            return ast.unparse(function).rpartition(".")[2] in CONTAINERS
    return isinstance(value, DISPLAYS)


def _assigned(node: ast.AST, containers: set[str]) -> Iterator[str]:
    """Yield the attributes that one node assigns, or changes in place."""
    match node:
        case ast.Call(func=ast.Attribute(attr=method, value=value)) if method in CHANGES:
            if (name := _name_of(value)) in containers:
                yield name
    for target in _targets(node):
        yield _name_of(target)
        if isinstance(target, ast.Subscript) and (name := _name_of(target.value)) in containers:
            yield name


def _targets(node: ast.AST) -> Iterator[ast.expr]:
    """Yield what a node assigns or deletes, one by one."""
    found: list[ast.expr] = []
    match node:
        case ast.Assign(targets=found) | ast.Delete(targets=found):
            pass
        case ast.AnnAssign(value=None):
            pass
        case (
            ast.AugAssign(target=target)
            | ast.AnnAssign(target=target)
            | ast.For(target=target)
            | ast.AsyncFor(target=target)
            | ast.withitem(optional_vars=ast.expr() as target)
        ):
            found = [target]
    for each in found:
        yield from _flat(each)


def _flat(target: ast.expr) -> Iterator[ast.expr]:
    match target:
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            for part in parts:
                yield from _flat(part)
        case ast.Starred(value=inner):
            yield from _flat(inner)
        case _:
            yield target


def _name_of(node: ast.expr) -> str:
    """Return the name in `self.name`; empty for anything else."""
    match node:
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            return name
    return ""
