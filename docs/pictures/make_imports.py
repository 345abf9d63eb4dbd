"""Draw `imports.svg`, the imports between folders before and after, and print their counts.

    .venv/bin/python docs/pictures/make_imports.py [COMMIT]

"Before" is the tree of a commit (b0ec82a, the last one with flat packages), "after" this checkout.
Each row is a folder, each column too, in the same order; a cell is the number of imports from
modules of the row's folder in modules of the column's.  Folders are ordered so that imports point
to the right wherever possible: a red cell is part of a cycle.
"""  # noqa: INP001 (a script that runs by itself)

import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from html import escape
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import NamedTuple

import grimp

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BEFORE = "b0ec82a"
PACKAGE = "erasestream"
CELL, LABEL, TITLE = 15, 240, 34


class Imports(NamedTuple):
    """Folders in order, modules in each, and imports between folders."""

    folders: list[str]
    modules: Counter[str]
    between: Counter[tuple[str, str]]
    total: int


def read(tree: Path) -> Imports:
    """Read the imports of the package in this tree."""
    sys.path.insert(0, str(tree))
    sys.path_importer_cache.clear()
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    sys.path.remove(str(tree))
    packages = {name for name in graph.modules if graph.find_children(name)}

    def folder(module: str) -> str:
        name = module if module in packages else module.rpartition(".")[0]
        return name.partition(".")[2] or PACKAGE

    pairs = [
        (folder(importer), folder(imported))
        for importer in graph.modules - {PACKAGE}
        for imported in graph.find_modules_directly_imported_by(importer)
    ]
    between = Counter((one, other) for one, other in pairs if one != other)
    modules = Counter(folder(name) for name in graph.modules - packages)
    return Imports(_ordered(modules, between), modules, between, len(pairs))


def _ordered(modules: Counter[str], between: Counter[tuple[str, str]]) -> list[str]:
    """Put importers first; among folders of one cycle, the one that is imported least."""
    reached = set(between)
    for middle, one, other in product(sorted(modules), repeat=3):
        if (one, middle) in reached and (middle, other) in reached:
            reached.add((one, other))

    left, order = set(modules), []
    while left:
        importers = {name: [one for one in left if between[one, name]] for name in left}
        free = [name for name in left if all((name, one) in reached for one in importers[name])]
        first = min(free, key=lambda name: (sum(between[o, name] for o in importers[name]), name))
        order.append(first)
        left.remove(first)
    return order


def matrix(imports: Imports, title: str, top: int) -> Iterator[str]:
    """Yield the shapes of one matrix, from `top` downwards."""
    yield f'<text class="title" x="8" y="{top + 18}">{escape(title)}</text>'
    place = {name: number for number, name in enumerate(imports.folders)}
    side = CELL * len(place)
    for name, number in place.items():
        x, y = LABEL + number * CELL, top + TITLE + number * CELL
        yield f'<rect class="self" x="{x}" y="{y}" width="{CELL}" height="{CELL}"/>'
        yield f'<path d="M{LABEL} {y}h{side}M{x} {top + TITLE}v{side}"/>'
        label = f"{name.replace('.', '/')} ({imports.modules[name]})"
        yield f'<text x="{LABEL - 6}" y="{y + 11}" text-anchor="end">{escape(label)}</text>'
    for (one, other), count in sorted(imports.between.items()):
        x, y = LABEL + place[other] * CELL, top + TITLE + place[one] * CELL
        kind = "back" if place[other] < place[one] else "to"
        yield f'<rect class="{kind}" x="{x}" y="{y}" width="{CELL}" height="{CELL}"/>'
        yield f'<text class="count" x="{x + CELL / 2}" y="{y + 11}">{count}</text>'


def counts(imports: Imports) -> str:
    """Return the counts of one tree as text."""
    largest, modules = imports.modules.most_common(1)[0]
    return (
        f"{sum(imports.modules.values())} modules in {len(imports.folders)} folders, "
        f"at most {modules} ({largest.replace('.', '/')}); {imports.total} imports, "
        f"{sum(imports.between.values())} of them between {len(imports.between)} pairs of folders"
    )


def main(commit: str = BEFORE) -> None:
    """Write the picture beside this script."""
    archive = subprocess.run(
        ["git", "archive", commit], cwd=ROOT, check=True, capture_output=True
    ).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=BytesIO(archive)) as tar:
            tar.extractall(folder, filter="tar")
        before = read(Path(folder))
    after = read(ROOT)
    below = TITLE + CELL * len(before.folders) + 24
    height = below + TITLE + CELL * len(after.folders) + 12
    width = LABEL + CELL * len(after.folders) + 12
    shapes = (
        *matrix(before, f"Before ({commit})", 0),
        *matrix(after, "After", below),
    )
    style = (
        "text{font:10px sans-serif}.title{font-weight:bold}.count{text-anchor:middle;font-size:8px}"
        "path{stroke:#e3e3e3;fill:none}.self{fill:#ddd}.to{fill:#a9c8ee}.back{fill:#ef8d8d}"
    )
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="white"/>\n'
    )
    (HERE / "imports.svg").write_text(text + "\n".join(shapes) + "\n</svg>\n")
    print(f"before: {counts(before)}\nafter: {counts(after)}")  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
