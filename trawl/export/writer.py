"""`trawl export`: what a cell of a run trained, as files for others, with raw ids."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trawl.errors import ArtifactError, AskedWrongly, StoreError
from trawl.export.bundle import FORMAT, USER_VECTORS, write
from trawl.export.stage import trained
from trawl.inputs import Inputs
from trawl.model.bundle import CARD

_FILES = {"item_vectors": "item_vectors.parquet", "user_vectors": USER_VECTORS}
_NEIGHBOURS = "item_neighbours.parquet"


def export(inputs: Inputs, wanted: list[str], origin: dict[str, Any], out: str, force: bool = False) -> list[str]:
    """Write the bundle and the wanted tables into the folder `out`; it is whole or absent. Returns the file names.

    `wanted`: those of item_vectors, user_vectors, item_neighbours that the recipe makes. `force` replaces an earlier
    export, never another folder. Raises AskedWrongly when `out` is there, ArtifactError for what is not published.
    """
    folder = _free(out, force)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        for name in wanted:
            if name in _FILES:
                _write(_vectors(inputs, name), temporary / _FILES[name])
            else:
                _write(_neighbours(inputs), temporary / _NEIGHBOURS)
        write(trained(inputs), origin, temporary)
        _swap(temporary, folder)
    except OSError as error:
        raise StoreError(f"{out}: {error.strerror or error}; nothing was exported") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return sorted(path.name for path in folder.iterdir())


def _free(out: str, force: bool) -> Path:
    """The folder to write; one that is there must be empty, or with `force` an earlier export."""
    if "://" in out:
        raise AskedWrongly(f"--out {out}: name a folder of this machine, and copy it from there")
    folder = Path(out).absolute()
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return folder
    card = folder / CARD
    ours = card.is_file() and f'"format": "{FORMAT}"' in card.read_text(encoding="utf-8", errors="replace")
    if not ours:
        raise AskedWrongly(f"--out {out}: is there and is no earlier export; name another folder")
    if not force:
        raise AskedWrongly(f"--out {out}: holds an earlier export; name another folder, or replace it with --force")
    return folder


def _swap(temporary: Path, folder: Path) -> None:
    """Put the new folder in the old one's place: two renames, the old one removed last."""
    old = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.old")
    if folder.exists():
        folder.rename(old)
    try:
        temporary.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write(tables: Iterator[pa.Table], path: Path) -> None:
    """One row group per part: nothing is held but the part at hand."""
    writer: pq.ParquetWriter | None = None
    for table in tables:
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is None:
        raise ArtifactError(f"{path.name}: the table has no part; run the recipe again")
    writer.close()


def _ids(inputs: Inputs, kind: str) -> pa.ChunkedArray:
    """Raw ids in order of the index, memory-mapped."""
    return inputs.mapped(f"{kind}s", [f"{kind}_id"]).column(0)


def _vectors(inputs: Inputs, name: str) -> Iterator[pa.Table]:
    kind = name.removesuffix("_vectors")
    ids = _ids(inputs, kind)
    for rows in inputs.each(name):
        yield rows.set_column(0, f"{kind}_id", _named(ids, rows["entity"]))


def _neighbours(inputs: Inputs) -> Iterator[pa.Table]:
    ids = _ids(inputs, "item")
    for rows in inputs.each("item_neighbours"):
        yield pa.table(
            {
                "item_id": _named(ids, rows["item"]),
                "rank": rows["rank"],
                "neighbour_id": _named(ids, rows["neighbour"]),
                "similarity": rows["similarity"],
            }
        )


def _named(ids: pa.ChunkedArray, index: pa.ChunkedArray) -> pa.Array:
    return ids.take(pa.array(index.to_numpy() - np.int64(1))).combine_chunks()
