"""The exported bundle scores raw rows as the pipeline did, in a fresh process and without the store."""

import json
import pickletools
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small
from exported import files, raw_rows, trained

from trawl import cli
from trawl.errors import ArtifactError, AskedWrongly, InputError
from trawl.export import predictor
from trawl.export.bundle import FORMAT, VERSION
from trawl.export.predictor import load, predict_file
from trawl.export.rows import check_columns, clean
from trawl.export.writer import export
from trawl.inputs import Inputs
from trawl.model.bundle import CARD, WEIGHTS
from trawl.store import Store, digest_json

NONE = ("extraction.source=none", "training.w_user=0", "training.w_item=0")
ARMS = {
    "din-none": NONE,
    "din-knowledge": ("model.adapted_similarity=true",),
    "deepfm-none": ("model.backbone=deepfm", *NONE),
    "deepfm-knowledge": ("model.backbone=deepfm", "model.adapter=mlp", "model.injection=add"),
    "raw-similarity": ("model.adapter=raw", "model.side=item", "training.w_user=0", "training.w_item=0"),
    "similarity-alone": (
        "model.injection=none",
        "training.w_user=0",
        "training.w_item=0",
        "model.history_ratings=false",
    ),
}


class Exported:
    """Exports of all arms of one store, each made once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, Store(str(folder / "store"))
        self.made: dict[str, tuple[Inputs, Path]] = {}

    def arm(self, name: str) -> tuple[Inputs, Path]:
        if name not in self.made:
            inputs, wanted = trained(self.store, small.config(*ARMS[name]))
            export(inputs, wanted, {"run": "r", "arm": name, "repetition": 0}, str(self.folder / name))
            self.made[name] = inputs, self.folder / name
        return self.made[name]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(tmp_path_factory.mktemp("exported"))


@pytest.fixture
def copy(exported: Exported, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported.arm("din-knowledge")[1], tmp_path / "copy"))


@pytest.mark.parametrize("name", ARMS)
def test_the_bundle_scores_raw_rows_as_the_pipeline_did(exported: Exported, name: str) -> None:
    inputs, folder = exported.arm(name)
    expected = inputs.table("predictions")["score"].to_numpy()
    assert expected.std() > 1e-4
    np.testing.assert_allclose(load(folder).score(raw_rows(inputs)), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["din-knowledge", "deepfm-none"])
def test_a_fresh_process_scores_a_file_with_the_folder_alone(exported: Exported, tmp_path: Path, name: str) -> None:
    inputs, folder = exported.arm(name)
    alone = shutil.copytree(folder, tmp_path / "bundle")
    pq.write_table(raw_rows(inputs), tmp_path / "rows.parquet")
    words = ["predict", "--bundle", str(alone), "--rows", "rows.parquet", "--out", "scores.parquet"]
    done = subprocess.run(
        [sys.executable, "-m", "trawl.cli", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    scores = pq.read_table(tmp_path / "scores.parquet")
    expected = inputs.table("predictions")
    assert scores.column_names == ["user_id", "item_id", "score"]
    assert scores["item_id"].to_pylist() == raw_rows(inputs)["item_id"].to_pylist()
    np.testing.assert_allclose(scores["score"].to_numpy(), expected["score"].to_numpy(), atol=1e-6)
    assert files(tmp_path) == {"bundle", "rows.parquet", "scores.parquet"}


def test_files_are_scored_in_batches(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, folder = exported.arm("din-knowledge")
    rows = raw_rows(inputs)
    pq.write_table(rows, tmp_path / "rows.parquet", row_group_size=7)
    monkeypatch.setattr(predictor, "BATCH", 5)
    done = predict_file(str(folder), str(tmp_path / "rows.parquet"), str(tmp_path / "out.parquet"))
    scores = pq.read_table(tmp_path / "out.parquet")["score"].to_numpy()
    assert done.rows == len(scores) == rows.num_rows
    assert (done.unknown_users, done.unknown_items, done.ignored, done.notes()) == (0, 0, (), [])
    np.testing.assert_allclose(scores, load(folder).score(rows), atol=1e-6)


@pytest.mark.parametrize("name", ["din-knowledge", "deepfm-none"])
def test_unknown_ids_read_row_0_and_the_default_vector(exported: Exported, name: str) -> None:
    inputs, folder = exported.arm(name)
    loaded = load(folder)
    rows = raw_rows(inputs).slice(0, 1).to_pylist()[0] | {"fields": None}
    cases = [
        rows | {"user_id": "nobody"},
        rows | {"user_id": "another nobody"},
        rows | {"user_id": None},
        rows | {"user_id": "nobody", "item_id": "nowhere"},
        rows | {"user_id": "nobody", "item_id": "nowhere else"},
        rows | {"user_id": "nobody", "history": [], "ratings": [], "seen": [], "liked": []},
        rows | {"user_id": "nobody", "history": None, "ratings": None, "seen": None, "liked": None},
    ]
    scores = loaded.score(pa.Table.from_pylist(cases, schema=raw_rows(inputs).schema))
    assert ((scores > 0) & (scores < 1)).all()
    for one, other in ((0, 1), (0, 2), (3, 4), (5, 6)):
        assert scores[one] == scores[other]
    assert scores[0] != scores[3] != scores[5]
    before = scores[3]
    import torch

    with torch.no_grad():
        loaded.served.model.item.ids.weight[0] += 1.0
    assert loaded.score(pa.Table.from_pylist(cases, schema=raw_rows(inputs).schema))[3] != before
    bare = loaded.score(pa.table({"user_id": ["nobody"], "item_id": ["nowhere"]}))
    assert 0 < bare[0] < 1


def test_integer_ids_are_read_as_text(exported: Exported) -> None:
    loaded = load(exported.arm("din-knowledge")[1])
    numbers, texts = (pa.table({"user_id": kind, "item_id": kind}) for kind in ([7, 8], ["7", "8"]))
    assert loaded.score(numbers).tolist() == loaded.score(texts).tolist()


def wrong(rows: pa.Table, name: str, values: list[object], kind: pa.DataType) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, pa.array(values, kind))


def test_wrong_rows_are_named_by_file_column_and_row(exported: Exported, tmp_path: Path) -> None:
    inputs, folder = exported.arm("din-knowledge")
    good = raw_rows(inputs).slice(0, 3)
    strings, floats = pa.list_(pa.string()), pa.list_(pa.float32())
    cases = {
        "column item_id: is missing; add it": good.drop_columns(["item_id"]),
        "column item_id: is double, must be a text or integer": wrong(good, "item_id", [0.5] * 3, pa.float64()),
        "column item_id, row 2: is null": wrong(good, "item_id", ["a", None, "b"], pa.string()),
        "column ratings: is missing beside history": good.drop_columns(["ratings"]),
        "column liked: stands alone, it needs the column seen": good.drop_columns(["seen"]),
        "column history: is string, must be a list of item ids": wrong(good, "history", ["a"] * 3, pa.string()),
        "column history, row 3: holds a null": wrong(good, "history", [[], [], [None]], strings),
        "column ratings, row 1: 1 entries where history has": wrong(good, "ratings", [[5.0], [], []], floats),
        "column fields: is string, must be a map": wrong(good, "fields", ["a"] * 3, pa.string()),
    }
    for message, rows in cases.items():
        path = tmp_path / "rows.parquet"
        pq.write_table(rows, path)
        with pytest.raises(InputError) as caught:
            predict_file(str(folder), str(path), str(tmp_path / "out.parquet"))
        assert f"{path}, {message}" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert files(tmp_path) == {"rows.parquet"}, "a failure leaves nothing behind"


def test_what_is_no_parquet_file_is_named(exported: Exported, tmp_path: Path) -> None:
    folder, out = str(exported.arm("din-knowledge")[1]), str(tmp_path / "out.parquet")
    with pytest.raises(InputError, match=r"rows\.parquet: there is no such file"):
        predict_file(folder, str(tmp_path / "rows.parquet"), out)
    (tmp_path / "rows.parquet").write_text("user_id,item_id\n")
    with pytest.raises(InputError, match=r"rows\.parquet: is no Parquet file"):
        predict_file(folder, str(tmp_path / "rows.parquet"), out)
    with pytest.raises(InputError, match=r"nowhere: no exported model is there"):
        predict_file(str(tmp_path / "nowhere"), str(tmp_path / "rows.parquet"), out)
    with pytest.raises(InputError, match=r"none/out\.parquet: its folder does not exist"):
        predict_file(folder, str(tmp_path / "rows.parquet"), str(tmp_path / "none" / "out.parquet"))


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


def test_there_is_no_pickle_and_no_adapter_to_run(exported: Exported) -> None:
    folder = exported.arm("din-knowledge")[1]
    expected = {CARD, WEIGHTS, "items.parquet", "users.parquet"}
    expected |= {"item_vectors.parquet", "user_vectors.parquet", "item_neighbours.parquet"}
    assert files(folder) == expected
    for path in folder.iterdir():
        head = path.read_bytes()
        assert head.startswith((b"PAR1", b"{")) or path.name == WEIGHTS
        with pytest.raises(Exception):  # noqa: B017 - anything but a program for the unpickler
            list(pickletools.genops(head))
    assert load(folder).served.items.vectors is None
    card = json.loads((folder / CARD).read_text())
    assert "users" not in card["vocabularies"] and "items" not in card["vocabularies"]
    assert set(card["default"]) == {"user", "item"}


@pytest.mark.parametrize("name", [WEIGHTS, "items.parquet", "users.parquet", "user_vectors.parquet"])
def test_altered_or_missing_files_are_refused_by_name(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(ArtifactError, match=f"{name}: is not the file that {CARD} was written for"):
        load(copy)
    (copy / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name}: missing; copy the whole folder"):
        load(copy)


def test_cards_that_are_not_ours_are_refused(copy: Path) -> None:
    card = json.loads((copy / CARD).read_text())
    (copy / CARD).write_text(json.dumps(card | {"scale": {}}))
    with pytest.raises(ArtifactError, match=r"model\.json: altered"):
        load(copy)
    card.pop("digest")
    card["version"] = VERSION + 1
    (copy / CARD).write_text(json.dumps(card | {"digest": digest_json(card)}))
    with pytest.raises(ArtifactError, match=f"is {FORMAT} version {VERSION + 1}"):
        load(copy)
    (copy / CARD).write_text("{")
    with pytest.raises(ArtifactError, match="no model card"):
        load(copy)


def test_raw_ids_are_restored(exported: Exported) -> None:
    inputs, folder = exported.arm("din-knowledge")
    items = {r["item"]: r["item_id"] for r in inputs.table("items").to_pylist()}
    vectors = pq.read_table(folder / "item_vectors.parquet")
    assert vectors.column_names == ["item_id", "vector", "norm", "has_text"]
    assert vectors["item_id"].to_pylist() == [items[e] for e in inputs.table("item_vectors")["entity"].to_pylist()]
    assert vectors["vector"].to_pylist() == inputs.table("item_vectors")["vector"].to_pylist()
    near = pq.read_table(folder / "item_neighbours.parquet").to_pylist()
    expected = [
        (items[r["item"]], r["rank"], items[r["neighbour"]]) for r in inputs.table("item_neighbours").to_pylist()
    ]
    assert [(r["item_id"], r["rank"], r["neighbour_id"]) for r in near] == expected
    users = {r["user"]: r["user_id"] for r in inputs.table("users").to_pylist()}
    known = pq.read_table(folder / "user_vectors.parquet")["user_id"].to_pylist()
    assert known == [users[e] for e in inputs.table("user_vectors")["entity"].to_pylist()]


def test_only_an_earlier_export_is_replaced_and_only_when_asked(exported: Exported, tmp_path: Path) -> None:
    inputs, _ = exported.arm("din-none")
    out = tmp_path / "out"
    export(inputs, [], {}, str(out))
    before = (out / CARD).read_bytes()
    with pytest.raises(AskedWrongly, match=r"holds an earlier export.*--force"):
        export(inputs, [], {"arm": "new"}, str(out))
    assert (out / CARD).read_bytes() == before
    export(inputs, [], {"arm": "new"}, str(out), force=True)
    assert json.loads((out / CARD).read_text())["origin"] == {"arm": "new"}
    other = tmp_path / "letters"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    with pytest.raises(AskedWrongly, match="is no earlier export"):
        export(inputs, [], {}, str(other), force=True)
    assert files(other) == {"letter.txt"}
    assert files(tmp_path) == {"out", "letters"}
    with pytest.raises(AskedWrongly, match="folder of this machine"):
        export(inputs, [], {}, "s3://bucket/out")


def test_a_failed_export_leaves_nothing(exported: Exported, tmp_path: Path) -> None:
    inputs, _ = exported.arm("din-none")
    with pytest.raises(ArtifactError, match="item_vectors"):
        export(inputs, ["item_vectors"], {}, str(tmp_path / "out"))
    assert files(tmp_path) == set()
