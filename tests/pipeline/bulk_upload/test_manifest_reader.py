"""Manifests in CSV and JSON lines, well-formed and not."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.pipeline.bulk_upload.manifest_reader import BadRow, Row, read_rows, sha256_of
from erasestream.schemas.errors import Refused


def written(folder: Path, content: str | bytes, name: str = "m.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_csv_rows(tmp_path: Path) -> None:
    manifest = written(
        tmp_path,
        "\ufeffaccount,path,reference,idempotency_key\r\n"
        'acct-1,a.jpg,"a, b",k1\r\n\r\nacct-2,sub/ü.png,,\r\n',
    )
    assert list(read_rows(manifest)) == [
        Row(
            number=1,
            path=tmp_path / "a.jpg",
            account="acct-1",
            reference="a, b",
            idempotency_key="k1",
        ),
        Row(number=2, path=tmp_path / "sub/ü.png", account="acct-2"),
    ]


def test_json_lines(tmp_path: Path) -> None:
    lines = [
        {"path": "/photos/a.jpg", "account": "a", "reference": None},
        {"path": "b.jpg", "account": "b", "idempotency_key": "k"},
    ]
    manifest = written(tmp_path, "\n".join(map(json.dumps, lines)), "m.jsonl")
    assert list(read_rows(manifest)) == [
        Row(number=1, path=Path("/photos/a.jpg"), account="a"),
        Row(number=2, path=tmp_path / "b.jpg", account="b", idempotency_key="k"),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", b'path,account\na,b\nc\nd,e,f\n,g\nh,\ni,"j"k\n%s,l\nm,n\n' % (b"x" * 200_000)),
        (
            "m.jsonl",
            b'{"path": "a", "account": "b"}\n{"path": "c"}\n[]\nnull\n{"path": 1, "account": "b"}\n'
            b'{"path": "p", "account": "a", "acount": "x"}\n' + b"[" * 100_000 + b"\n"
            b'{"path": "m", "account": "n"}\n',
        ),
    ],
)
def test_bad_rows_do_not_affect_the_rows_around_them(
    tmp_path: Path, name: str, content: bytes
) -> None:
    rows = list(read_rows(written(tmp_path, content, name)))
    assert isinstance(rows[0], Row)
    assert isinstance(rows[-1], Row)
    assert rows[-1].path == tmp_path / "m"
    assert rows[1:-1] == [BadRow(number=number) for number in range(2, 8)]


@pytest.mark.parametrize(
    "header", ["", "path\n", "path,acount\n", "path,account,path\n", "a.jpg,b"]
)
def test_a_wrong_header_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(Refused, match="idempotency_key"):
        list(read_rows(written(tmp_path, header)))


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="No such file"):
        sha256_of(tmp_path / "nothing.csv")


def test_the_hash_covers_the_content(tmp_path: Path) -> None:
    one = sha256_of(written(tmp_path, "path,account\na,b\n"))
    two = sha256_of(written(tmp_path, "path,account\na,c\n"))
    assert one != two


STRAY = ('"', '"24 inch monitor', 'a "big" one"', '"24" monitor', '"a, b', '"a"b"')
"""Fields with a quotation mark too many, or in the wrong place."""


@given(at=st.integers(1, 40), field=st.sampled_from(STRAY), end=st.sampled_from(["\n", "\r\n"]))
def test_a_stray_quotation_mark_costs_at_most_its_own_row(
    tmp_path_factory: pytest.TempPathFactory, at: int, field: str, end: str
) -> None:
    lines = [f"a.jpg,acct-1,listing-{n}" for n in range(1, 41)]
    lines[at - 1] = f"a.jpg,acct-1,{field}"
    content = end.join(["path,account,reference", *lines])
    rows = list(read_rows(written(tmp_path_factory.getbasetemp(), content)))
    assert len(rows) == 40
    good = {row.reference for row in rows if isinstance(row, Row)}
    assert good >= {f"listing-{n}" for n in range(1, 41) if n != at}


def _content(line: bytes) -> bytes:
    return line.strip(b" \t")


@given(body=st.binary(max_size=300), suffix=st.sampled_from([".csv", ".jsonl"]))
def test_every_line_of_any_bytes_is_a_numbered_row_and_the_same_one_twice(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, suffix: str
) -> None:
    start = b"path,account\n" if suffix == ".csv" else b""
    folder = tmp_path_factory.getbasetemp()
    manifest = written(folder, start + body, f"any{suffix}")
    rows = list(read_rows(manifest))
    lines = re.split(rb"\r\n|\r|\n", body)
    assert [row.number for row in rows] == list(range(1, sum(map(bool, map(_content, lines))) + 1))
    assert rows == list(read_rows(manifest))
