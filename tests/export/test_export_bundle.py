"""The exported bundle scores raw rows as the pipeline did, in a fresh process and without the store."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from exported import ARMS, Exported, files, raw_rows
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from trawl.errors import ArtifactError, AskedWrongly, InputError
from trawl.export import predictor
from trawl.export.bundle import FORMAT, VERSION
from trawl.export.predictor import load, predict_file
from trawl.export.writer import export
from trawl.model.bundle import CARD, WEIGHTS
from trawl.store import digest_bytes, digest_json


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
    whole, ids = loaded.served.items.whole, loaded.served.model.item.ids.weight
    assert whole is not None
    assert torch.equal(whole[0, : ids.shape[1]], ids[0])
    with torch.inference_mode():
        whole[0] += 1.0
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


def test_there_is_no_pickle_and_no_adapter_to_run(exported: Exported) -> None:
    folder = exported.arm("din-knowledge")[1]
    expected = {CARD, WEIGHTS, "items.parquet", "users.parquet"}
    expected |= {"item_vectors.parquet", "user_vectors.parquet", "item_neighbours.parquet"}
    assert files(folder) == expected
    for path in folder.iterdir():
        head = path.read_bytes()
        assert head.startswith((b"PAR1", b"{")) or path.name == WEIGHTS
        assert path.name != WEIGHTS or head[8:9] == b"{"  # eight bytes of length, then what safetensors says of itself
    assert load(folder).served.items.vectors is None
    tensors = [name for name in load_tensors((folder / WEIGHTS).read_bytes()) if ".adapter." in name]
    assert sorted(tensors) == ["weights.item.adapter.default", "weights.user.adapter.default"]
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


def _half(tensors: dict[str, torch.Tensor]) -> None:
    tensors["items.adapted"] = tensors["items.adapted"].half()


def _lost(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["weights.ratings"]


def _cut(tensors: dict[str, torch.Tensor]) -> None:
    tensors["weights.item.ids.weight"] = tensors["weights.item.ids.weight"][:-1].contiguous()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_half, r"items\.adapted is torch\.float16 .* says torch\.float32; export again"),
        (_lost, r"weights\.ratings is missing, model\.json says torch\.float32 \[\d+, \d+\]"),
        (_cut, r"weights\.item\.ids\.weight is torch\.float32 \[\d+, \d+\], model\.json says"),
    ],
)
def test_tensors_of_another_model_are_refused_by_name(copy: Path, change: Any, says: str) -> None:
    """Although the card has their digest."""
    tensors = load_tensors((copy / WEIGHTS).read_bytes())
    change(tensors)
    (copy / WEIGHTS).write_bytes(save_tensors(tensors))
    card = json.loads((copy / CARD).read_text()) | {"tensors": digest_bytes((copy / WEIGHTS).read_bytes())}
    card.pop("digest")
    (copy / CARD).write_text(json.dumps(card | {"digest": digest_json(card)}))
    with pytest.raises(ArtifactError, match=says):
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
