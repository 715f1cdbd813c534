"""Text files and JSON in every form that people have them in: read right, or named in one line."""

import codecs
import json
import re

import pytest

from spatialvlm import text_files
from spatialvlm.errors import UserError
from spatialvlm.files import rows

ROWS = [{"id": 1, "text": "caf\u00e9 \u2028 and \x85"}, {"id": 2, "text": "\u4e2d\u6587"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
FORMS = {
    "plain": LINES.encode(),
    "byte order mark": codecs.BOM_UTF8 + LINES.encode(),
    "two files with marks": b"".join(codecs.BOM_UTF8 + line.encode() for line in re.findall(".+\n", LINES)),
    "UTF-16": LINES.encode("utf-16"),
    "UTF-16, the other order": codecs.BOM_UTF16_BE + LINES.encode("utf-16-be"),
    "UTF-16 without a mark": LINES.encode("utf-16-le"),
    "UTF-32": LINES.encode("utf-32"),
    "CRLF": LINES.replace("\n", "\r\n").encode(),
    "CR alone": LINES.replace("\n", "\r").encode(),
    "blank lines": LINES.replace("\n", "\n\n \n").encode(),
    "no last line end": LINES.rstrip("\n").encode(),
    "one after the other": LINES.replace("\n", "").encode(),
    "over several lines each": "".join(json.dumps(row, indent=2) for row in ROWS).encode(),
    "a list": json.dumps(ROWS).encode(),
    "a list in a record": json.dumps(
        {"args": {"limit": 2}, "logs": ROWS}
    ).encode(),  # as lmms-eval has written
    "a list over several lines": json.dumps(ROWS, indent=1).encode("utf-16"),
}


@pytest.mark.parametrize("name", ["test.jsonl", "test.json", "test.ndjson"])
@pytest.mark.parametrize("form", FORMS)
def test_rows_are_read_in_every_form(form, name, tmp_path):
    (tmp_path / name).write_bytes(FORMS[form])
    assert [row for _, row in rows.read(tmp_path / name, "test")] == ROWS


BAD = {
    "Latin-1": (LINES.encode().replace("é".encode(), b"\xe9"), "line 1 is not UTF-8 (byte 0xe9"),
    "UTF-16 in UTF-8": (LINES.encode() + '{"id": 3}'.encode("utf-16-le"), "line 3 holds a byte 0"),
    "trailing comma": (b'{"id": 1}\n{"id": 2,}\n', "line 2 is not JSON: Expecting property name"),
    "cut off": (b'{"id": 1}\n{"id": 2, "te', "line 2 is not JSON"),
    "single quotes": (b"{'id': 1}\n", "line 1 is not JSON"),
    "a separator between rows": ('{"id": 1}\u2028{"id": 2}'.encode(), "line 1 is not JSON"),
    "too deep": (b'{"id": 1}\n' + b'{"a":' * 5000, "line 2 is not JSON: it is nested too deeply"),
    "too many digits": (b'{"id": %s}' % (b"9" * 5000), "more than 4,300 digits at line 1 column 8"),
    "a name twice": (b'{"id": 1}\n\n{"id": 2, "id": 3}\n', "line 3 is not JSON: a record has 'id' twice"),
    "a number": (b'{"id": 1}\n2\n', "row 1 is no record"),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00", "is compressed (gzip): unpack it"),
    "parquet": (b"PAR1\x15\x04\x15", "is a parquet file: give it the ending .parquet"),
    "a spreadsheet": (b"PK\x03\x04\x14\x00", "is a zip archive or a spreadsheet"),
    "Git LFS": (text_files.LFS + b"v1\noid sha256:4d7a\nsize 12\n", "Git LFS's pointer"),
    "a web page": (b"\n<!DOCTYPE html><html><title>404</title>", "is a web page: download the file itself"),
    "XML": (b'<?xml version="1.0"?>\n<rows/>', "looks like XML"),
    "YAML": (b"- id: 1\n  text: x\n", "looks like YAML: write a JSON record per line"),
    "YAML with a head": (b"---\nid: 1\n", "looks like YAML"),
    "CSV": (b"id,prediction\n0,(A)\n", "looks like a table in CSV: convert it by pandas.read_csv(FILE)"),
    "a comment": (b'# made by x, y\n{"id": 1}\n', "line 1 is not JSON"),
    "pandas by columns": (b'{"id": {"0": 1, "1": 2}, "a": {"0": 3, "1": 4}}', "orient='records'"),
}  # fmt: skip


@pytest.mark.parametrize("form", BAD)
def test_what_is_no_table_is_named_in_one_line(form, tmp_path):
    content, message = BAD[form]
    file = tmp_path / "test.jsonl"
    file.write_bytes(content)
    with pytest.raises(UserError) as error:
        rows.read(file, "test")
    assert str(error.value).startswith(f"{file} ") and message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ending", ["csv", "tsv", "xlsx"])
def test_other_tables_say_how_to_convert_them(ending, tmp_path):
    file = tmp_path / f"test.{ending}"
    file.write_text("id,text\n1,a\n")
    with pytest.raises(UserError, match=r"pandas\.read_\w+\(FILE.*\)\.to_json\('test.jsonl'"):
        rows.read(file, "test")


def test_one_json_value_is_one(tmp_path):
    file = tmp_path / "scenes.json"
    for content, message in (
        ("", "holds nothing"),
        ("{} {}", "holds 2 JSON values"),
        ("[1", "fetch it again"),
    ):
        file.write_text(content)
        with pytest.raises(UserError, match=message):
            text_files.json_value(file)
    file.write_bytes(codecs.BOM_UTF8 + b'{"a": [1]}\r\n')
    assert text_files.json_value(file) == {"a": [1]}
    with pytest.raises(UserError, match=r"gone\.json cannot be read"):
        text_files.json_value(tmp_path / "gone.json")


def test_lines_end_where_editors_end_them(tmp_path):
    (tmp_path / "ids.txt").write_bytes("\ufeff0\r\n 2 \r\r\na\x85b\n".encode("utf-16"))
    assert text_files.lines(tmp_path / "ids.txt") == [(1, "0"), (2, "2"), (4, "a\x85b")]
