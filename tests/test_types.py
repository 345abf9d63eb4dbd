"""Types as a service sees them: under `mypy --strict`, without our settings and plugins."""

import dataclasses
import inspect
import typing
from collections.abc import Callable
from enum import Enum

import pytest
from mypy import api
from pydantic import BaseModel

import erasestream
from erasestream import CutoutOptions
from tests.paths import CACHE, ROOT
from tests.test_readme import blocks


def options_by_name() -> str:
    """Return a program that gives every option every value that has a name, as text."""
    lines = ["from erasestream import CutoutOptions"]
    for name, field in CutoutOptions.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Enum):
            lines += [f"CutoutOptions({name}={value.value!r})" for value in kind]
            lines.append(f"CutoutOptions({name}=CutoutOptions().{name})")
    lines.append('CutoutOptions(max_dimension=1000, crop=True, crop_margin="5%", bg_color="fff")')
    return "\n".join([*lines, "CutoutOptions(quality=90)", ""])


RIGHT = {
    f"right_{number}.py": program
    for number, program in enumerate([*blocks("python"), options_by_name()])
}
WRONG = {
    f"wrong_{number}.py": f"from erasestream import CutoutOptions\nCutoutOptions({options})\n"
    for number, options in enumerate(['format="gif"', "quality=[]", 'fromat="png"'])
}


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """Check all programs in one run, for which mypy loads our modules once."""
    folder = tmp_path_factory.mktemp("programs")
    paths = [folder / name for name in (RIGHT | WRONG)]
    for path, program in zip(paths, (RIGHT | WRONG).values(), strict=True):
        path.write_text(program)
    settings = folder / "mypy.ini"
    settings.write_text(f"[mypy]\nmypy_path = {ROOT}\nfollow_imports = silent\n")
    arguments = ["--strict", "--config-file", str(settings), "--cache-dir", str(CACHE / "mypy")]
    report, failed, status = api.run([*arguments, *map(str, paths)])
    assert status == 1, report + failed
    return lambda name: [line for line in report.splitlines() if f"{name}:" in line]


@pytest.mark.parametrize("name", RIGHT)
def test_programs_pass_strict_type_checks(errors: Callable[[str], list[str]], name: str) -> None:
    assert errors(name) == []


@pytest.mark.parametrize("name", WRONG)
def test_options_that_do_not_exist_fail_type_checks(
    errors: Callable[[str], list[str]], name: str
) -> None:
    assert any("error:" in line for line in errors(name))


def names_in(annotation: object) -> set[type]:
    """Return the classes that an annotation names."""
    found = {annotation} if isinstance(annotation, type) else set()
    for argument in typing.get_args(annotation):
        found |= names_in(argument)
    return found


def signatures(kind: type) -> list[object]:
    """Return the annotations of a public class: of its methods, properties and fields."""
    functions = [
        each.fget if isinstance(each, property) else each
        for name, each in vars(kind).items()
        if not name.startswith("_") or name == "__init__"
    ]
    hints = [typing.get_type_hints(each) for each in functions if inspect.isfunction(each)]
    if dataclasses.is_dataclass(kind) or issubclass(kind, BaseModel):
        hints.append(typing.get_type_hints(kind))
    return [hint for each in hints for name, hint in each.items() if not name.startswith("_")]


def test_every_type_in_a_public_signature_is_public() -> None:
    public = {getattr(erasestream, name) for name in erasestream.__all__}
    classes = {each for each in public if isinstance(each, type)}
    needed = {
        named
        for kind in classes
        for annotation in signatures(kind)
        for named in names_in(annotation)
        if named.__module__.startswith("erasestream")
    }
    assert {each.__qualname__ for each in needed - classes} == set()
