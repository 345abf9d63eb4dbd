"""Prose of the project: documents, docstrings, comments, sentences in strings, and names."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.paths import ROOT

CODE = ("deploy", "docs", "pipeline", "schemas", "sinks", "tests", "topics")
SENTENCE_WORDS = 3
"""A string with as many words is a sentence or part of one: an error, a help text."""


class Prose(NamedTuple):
    """One piece of text, and where it is."""

    where: str
    text: str


def documents() -> list[Path]:
    """Return every Markdown document."""
    folders = (ROOT, *(ROOT / name for name in ("deploy", "docs", "sinks")))
    found = {path for folder in folders for path in folder.glob("*.md")}
    return sorted(found | set((ROOT / "docs").glob("*/*.md")) | set(ROOT.glob("deploy/*/*.md")))


def modules() -> list[Path]:
    """Return every module, tests included."""
    return sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))


def of_document(path: Path) -> Iterator[Prose]:
    """Yield the paragraphs, table rows and list items of a document, without code."""
    text = re.sub(r"(?ms)^( *)```.*?^\1```$", "", path.read_text())
    text = re.sub(r"(?m)^    .*$", "", text)
    text = re.sub(r"(?<=\]\()[^)]*", "", text)
    for block in re.split(r"\n\s*\n|\n(?=\s*[-*|\d#])", text):
        yield Prose(path.name, _plain(block))


def of_module(path: Path) -> Iterator[Prose]:
    """Yield docstrings, comments, sentences in strings, and names that the module defines."""
    source = path.read_text()
    where = str(path.relative_to(ROOT))
    for node in ast.walk(ast.parse(source)):
        at = f"{where}:{getattr(node, 'lineno', 0)}"
        match node:
            case ast.Constant(value=str(value)) if len(value.split()) >= SENTENCE_WORDS:
                yield Prose(at, _plain(value))
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield Prose(at, name.replace("_", " "))
            case ast.ClassDef(name=name):
                yield Prose(at, re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()):
                yield Prose(at, name.replace("_", " ").lower())
    yield from _comments(where, source)


def _comments(where: str, source: str) -> Iterator[Prose]:
    """Yield comments; those on lines that follow each other are one."""
    block, last = Prose("", ""), -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or "noqa" in token.string:
            continue
        text = token.string.lstrip("#: ")
        if token.start[0] == last + 1:
            block = Prose(block.where, f"{block.text} {text}")
        else:
            yield Prose(block.where, _plain(block.text))
            block = Prose(f"{where}:{token.start[0]}", text)
        last = token.start[0]
    yield Prose(block.where, _plain(block.text))


def _plain(text: str) -> str:
    """Return the text on one line, without code spans."""
    return " ".join(re.sub(r"``?[^`]*``?", "`", text).split())
