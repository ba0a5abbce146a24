"""A run as the page sees it: its record, results and log, and the published artifacts that its cells name.

Tables are read batch by batch and only in the columns asked for, so the page costs constant memory at any size.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trawl.config import flat
from trawl.errors import ArtifactError, AskedWrongly
from trawl.report.slices import unpaired
from trawl.schemas import CONTRACTS
from trawl.store import Manifest, Store

_BATCH = 65536
_TEXT_BATCH = 256  # rows whose texts are looked at for examples
_MOST_PICKED = 200


@dataclass(frozen=True)
class Variant:
    """A published artifact and the cells ("arm/repetition") that use it."""

    artifact: str
    fingerprint: str
    cells: tuple[str, ...]
    manifest: Manifest

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cell.rpartition("/")[0] for cell in self.cells))


class Record:
    """The files of `<store>/runs/<name>/` and what they lead to."""

    def __init__(self, store: Store, name: str) -> None:
        """Raises AskedWrongly when there is no such run."""
        self.store, self.name = store, name
        self.run: dict[str, Any] = self._json("run.json")
        if not self.run:
            raise AskedWrongly(f"no run {name!r} in {store.uri}; `trawl run` makes one")
        self.recipe: dict[str, Any] = self.run["recipe"]
        self.cells: list[dict[str, Any]] = self.run["cells"]
        self.results: list[dict[str, Any]] = self._json("result.json") or []
        compared: list[dict[str, Any]] = self._json("comparisons.json") or []
        self.comparisons = [c for c in compared if _defined(c)]
        self.unpaired = unpaired(compared)
        self.log = self._log()
        self.all = self._variants()

    def _json(self, file: str) -> Any:
        if not self.store.exists("runs", self.name, file):
            return None
        return json.loads(self.store.read_text("runs", self.name, file))

    def _log(self) -> list[dict[str, Any]]:
        if not self.store.exists("runs", self.name, "log.jsonl"):
            return []
        lines = self.store.read_text("runs", self.name, "log.jsonl").splitlines()
        return [json.loads(line) for line in lines if line.strip()]

    def _variants(self) -> list[Variant]:
        users: dict[tuple[str, str], list[str]] = {}
        for cell in self.cells:
            for artifact, mark in cell["artifacts"].items():
                users.setdefault((artifact, mark), []).append(f"{cell['arm']}/{cell['repetition']}")
        found = [(key, tuple(cells), self.store.manifest(*key)) for key, cells in users.items()]
        return [Variant(*key, cells, manifest) for key, cells, manifest in found if manifest]

    @property
    def arms(self) -> list[str]:
        return list(dict.fromkeys(cell["arm"] for cell in self.cells))

    def setting(self, variant: Variant, key: str) -> Any:
        """The value of a recipe's key for the first cell that uses an artifact."""
        cell = next(c for c in self.cells if f"{c['arm']}/{c['repetition']}" == variant.cells[0])
        return cell["overrides"].get(key, flat(self.recipe).get(key))

    def variants(self, artifact: str) -> list[Variant]:
        """The published versions of an artifact in the first repetition, in the order of the arms."""
        first = min((cell["repetition"] for cell in self.cells), default=0)
        return [v for v in self.all if v.artifact == artifact and any(c.endswith(f"/{first}") for c in v.cells)]

    def first(self, artifact: str) -> Variant | None:
        return next(iter(self.variants(artifact)), None)

    def beside(self, variant: Variant, artifact: str) -> Variant | None:
        """The version of another artifact that the same cell uses."""
        return next((v for v in self.all if v.artifact == artifact and variant.cells[0] in v.cells), None)

    def batches(self, variant: Variant, columns: Sequence[str], rows: int = _BATCH) -> Iterator[pa.Table]:
        """All rows, so many at a time. Raises ArtifactError naming the file that is missing or broken."""
        for number in range(len(variant.manifest.parts)):
            yield from self.part(variant, number, columns, rows)

    def part(self, variant: Variant, number: int, columns: Sequence[str], rows: int = _BATCH) -> Iterator[pa.Table]:
        """The rows of one part, so many at a time."""
        names = (variant.artifact, variant.fingerprint, variant.manifest.parts[number].path)
        try:
            with self.store.fs.open_input_file(self.store.path(*names)) as source:
                for batch in pq.ParquetFile(source).iter_batches(batch_size=rows, columns=list(columns)):
                    yield pa.Table.from_batches([batch])
        except (OSError, pa.ArrowException) as error:
            raise ArtifactError(
                f"{self.store.where(*names)}: cannot be read ({error}); "
                f"remove {variant.artifact}/{variant.fingerprint} and run again"
            ) from None

    def pick(self, variant: Variant | None, key: str, wanted: Sequence[Any], columns: Sequence[str]) -> dict[Any, Any]:
        """First row, as a dict, of each of a few wanted keys; those that are not there are left out."""
        out: dict[Any, Any] = {}
        keys = list(dict.fromkeys(wanted))[:_MOST_PICKED]
        if variant is None or not keys:
            return out
        for number, part in enumerate(variant.manifest.parts):
            numeric = isinstance(keys[0], int) and key == CONTRACTS[variant.artifact].key[0]
            if numeric and not any(part.first <= k <= part.last for k in keys):
                continue
            for table in self.part(variant, number, [key, *columns], _TEXT_BATCH if numeric else _BATCH):
                found = table.filter(pc.is_in(table.column(key), pa.array(keys, table.schema.field(key).type)))
                for row in found.to_pylist(maps_as_pydicts="lossy"):
                    out.setdefault(row[key], row)
        return out

    def rows(self, variant: Variant, key: str, wanted: npt.NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """All rows of a few wanted indexes of the table's first key column; parts without any are not read."""
        keys = pa.array(np.sort(wanted))
        found = []
        for number, part in enumerate(variant.manifest.parts):
            if not ((wanted >= part.first) & (wanted <= part.last)).any():
                continue
            for table in self.part(variant, number, [key, *columns]):
                found.append(table.filter(pc.is_in(table.column(key), keys)))
        schema = CONTRACTS[variant.artifact].schema
        empty = pa.schema([schema.field(name) for name in (key, *columns)]).empty_table()
        return pa.concat_tables(found) if found else empty

    def counts(self, variant: Variant, columns: Sequence[str]) -> dict[tuple[Any, ...], int]:
        """How often each combination of values of some columns stands in a table; for columns of few values."""
        out: dict[tuple[Any, ...], int] = {}
        for table in self.batches(variant, columns):
            for row in table.group_by(list(columns)).aggregate([([], "count_all")]).to_pylist():
                key = tuple(row[c] for c in columns)
                out[key] = out.get(key, 0) + row["count_all"]
        return out

    def bincount(self, variant: Variant, column: str, size: int = 0) -> npt.NDArray[np.int64]:
        """How often each of the integers 0.. stands in a column."""
        out = np.zeros(size, dtype=np.int64)
        for table in self.batches(variant, [column]):
            found = np.bincount(table.column(column).to_numpy(), minlength=len(out))
            if len(found) > len(out):
                out = np.pad(out, (0, len(found) - len(out)))
            out += found
        return out


def _defined(comparison: Mapping[str, Any]) -> bool:
    """Rows of one label only define no AUC, and so no difference."""
    return all(comparison[k] is not None and np.isfinite(comparison[k]) for k in ("difference", "low", "high"))


def share(part: float, whole: float) -> float | None:
    """None where there is nothing to take a share of."""
    return part / whole if whole else None


def whose(variant: Variant, record: Record) -> str:
    """Which arms use a version of an artifact, in words; empty when all do."""
    return "" if list(variant.arms) == record.arms else ", ".join(variant.arms)


def settings(variant: Variant) -> Mapping[str, Any]:
    """The keys of the recipe that an artifact depends on, with their values."""
    return flat(variant.manifest.config)
