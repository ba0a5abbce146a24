"""`trawl predict`: formats of its file, what it says of what it does not know, profiles as other tools write them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from exported import Exported, raw_rows

from trawl import cli
from trawl.errors import AskedWrongly, InputError
from trawl.export.predictor import load, predict_file
from trawl.export.rows import check_columns, clean


def test_the_ending_of_out_says_its_format(exported: Exported, tmp_path: Path) -> None:
    inputs, folder = exported.arm("din-none")
    rows = raw_rows(inputs)
    pq.write_table(rows, tmp_path / "rows.parquet")
    for name, separator in (("out.csv", ","), ("out.tsv", "\t")):
        predict_file(str(folder), str(tmp_path / "rows.parquet"), str(tmp_path / name))
        head, *lines = (tmp_path / name).read_text().splitlines()
        assert head.split(separator) == ["user_id", "item_id", "score"]
        scores = [float(line.split(separator)[2]) for line in lines]
        np.testing.assert_allclose(scores, load(folder).score(rows), atol=1e-6)
    with pytest.raises(InputError, match="says no format"):
        predict_file(str(folder), str(tmp_path / "rows.parquet"), str(tmp_path / "out.xlsx"))


def test_neither_the_rows_nor_the_bundle_are_overwritten(copy: Path, exported: Exported, tmp_path: Path) -> None:
    rows = tmp_path / "rows.parquet"
    pq.write_table(raw_rows(exported.arm("din-knowledge")[0]), rows)
    for path in (rows, copy / "items.parquet"):
        before = path.read_bytes()
        with pytest.raises(AskedWrongly, match="is the input"):
            predict_file(str(copy), str(rows), str(path))
        assert path.read_bytes() == before


def test_what_is_unknown_or_not_read_is_counted_and_told(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs, folder = exported.arm("din-knowledge")
    known = raw_rows(inputs).slice(0, 1).to_pylist()[0]
    rows = {"user_id": ["x", None, known["user_id"]], "item_id": ["y", known["item_id"], known["item_id"]]}
    pq.write_table(pa.table(rows | {"gender": ["F"] * 3, "blah": [1] * 3}), tmp_path / "rows.parquet")
    out = str(tmp_path / "out.parquet")
    code = cli.main(["predict", "--bundle", str(folder), "--rows", str(tmp_path / "rows.parquet"), "--out", out])
    said = capsys.readouterr()
    assert (code, said.out) == (0, f"3 rows scored: {out}\n")
    users, items, columns = said.err.splitlines()
    assert "the user of 2 of 3 rows is unknown" in users and "the item of 1 of 3 rows is unknown" in items
    assert columns.startswith("trawl: columns not read: gender, blah (read are user_id, item_id, history")
    assert cli.main(["predict", "--bundle", "/nope", "--rows", str(tmp_path / "rows.parquet"), "--out", out]) == 2


def test_fields_may_be_a_struct_as_pandas_writes_it(exported: Exported) -> None:
    inputs, folder = exported.arm("din-none")
    rows = raw_rows(inputs)
    dicts = rows["fields"].to_pylist(maps_as_pydicts="strict")
    assert any(dicts)
    bare = load(folder).score(rows.drop_columns(["fields"]))
    expected = load(folder).score(rows)
    assert not np.allclose(bare, expected)
    single = [{k: v[0] if v else None for k, v in row.items()} for row in dicts]
    at = rows.column_names.index("fields")
    for values in (dicts, *([single] if all(len(v) < 2 for row in dicts for v in row.values()) else [])):
        struct = pa.array(values)
        assert pa.types.is_struct(struct.type)
        np.testing.assert_array_equal(load(folder).score(rows.set_column(at, "fields", struct)), expected)


def test_values_of_a_struct_of_fields() -> None:
    struct = pa.array([{"a": "x", "b": ["y", None, "z"], "c": 7}, {"a": None, "b": None, "c": None}, None])
    table = pa.table({"user_id": ["u"] * 3, "item_id": ["i"] * 3, "fields": struct})
    check_columns(table.schema, "rows", rated=False)
    found = clean(table, "rows", 1)["fields"].to_pylist(maps_as_pydicts="strict")
    assert found == [{"a": ["x"], "b": ["y", "z"], "c": ["7"]}, {}, {}]
    wrong_kind = table.set_column(2, "fields", pa.array([{"a": {"deep": 1}}] * 3))
    with pytest.raises(InputError, match="must be a map of field name"):
        check_columns(wrong_kind.schema, "rows", rated=False)


def test_categories_are_read_as_their_values(exported: Exported, tmp_path: Path) -> None:
    """As pandas writes a column of categories."""
    inputs, folder = exported.arm("din-none")
    rows = raw_rows(inputs).slice(0, 5)
    coded = rows
    for name in ("user_id", "item_id"):
        coded = coded.set_column(coded.column_names.index(name), name, rows[name].dictionary_encode())
    history = rows["history"].combine_chunks()
    lists = pa.ListArray.from_arrays(history.offsets, history.values.dictionary_encode())
    coded = coded.set_column(coded.column_names.index("history"), "history", lists)
    pq.write_table(coded, tmp_path / "rows.parquet")
    assert pa.types.is_dictionary(pq.read_schema(tmp_path / "rows.parquet").field("user_id").type)
    for name in ("out.parquet", "out.csv"):
        assert predict_file(str(folder), str(tmp_path / "rows.parquet"), str(tmp_path / name)).unknown_items == 0
    found = pq.read_table(tmp_path / "out.parquet")
    np.testing.assert_array_equal(found["score"].to_numpy(), load(folder).score(rows))
    assert found["item_id"].to_pylist() == rows["item_id"].to_pylist()


def test_a_column_that_is_there_twice_is_refused(exported: Exported, tmp_path: Path) -> None:
    ids = [pa.array(["a"])] * 3
    pq.write_table(pa.Table.from_arrays(ids, ["user_id", "item_id", "user_id"]), tmp_path / "rows.parquet")
    with pytest.raises(InputError, match="column user_id: is there 2 times; leave one"):
        predict_file(str(exported.arm("din-none")[1]), str(tmp_path / "rows.parquet"), str(tmp_path / "out.parquet"))
