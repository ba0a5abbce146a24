"""An earlier result to go on from: the table of partners and, beside it, a small manifest of what it was made of.

`positives.parquet` has `positives.parquet.manifest.json`, written last. A result without one, with another recipe's,
or that is not what its manifest says, is no base; why not is told in one line and everything is mined.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from trawl import __version__
from trawl.errors import InputError, StoreError
from trawl.swing.days import Window, day_name, parse_day
from trawl.swing.sides import SideGraph

SUFFIX = ".manifest.json"
_FORMAT = 1
SCHEMA = pa.schema(
    [
        ("anchor", pa.large_string()),
        ("rank", pa.int32()),
        ("partner", pa.large_string()),
        ("score", pa.float64()),
        ("shared", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Earlier:
    """A result whose manifest fits; its table and its graph are checked where they are used."""

    path: Path
    window: Window
    graph: str  # digest
    result: str  # digest of the file

    def rows(self) -> pa.Table:
        """The partners, anchors and partners as text. Raises InputError when the file is not what was written."""
        if not self.path.is_file():
            raise InputError.at(self.path, "", "is no longer there")
        if _digest(self.path) != self.result:
            raise InputError.at(self.path, "", "was altered since its manifest was written")
        if self.path.suffix.lower() == ".parquet":
            return pq.read_table(self.path).cast(SCHEMA)
        kinds = pacsv.ConvertOptions(
            column_types={field.name: field.type for field in SCHEMA}, strings_can_be_null=False
        )
        delimiter = pacsv.ParseOptions(
            delimiter="," if self.path.suffix.lower() == ".csv" else "\t", newlines_in_values=True
        )
        return pacsv.read_csv(self.path, parse_options=delimiter, convert_options=kinds).cast(SCHEMA)


def find(base: str, recipe: Mapping[str, Any], last: int | None = None) -> Earlier | str:
    """The result `base`, or the newest of the folder `base`, made by the same recipe; or why there is none.

    last: no later window than this is taken from a folder.
    """
    path = Path(base)
    if not path.is_dir():
        return _opened(path, recipe)
    whys, found = [], []
    for manifest in sorted(path.glob(f"*{SUFFIX}")):
        one = _opened(manifest.with_name(manifest.name.removesuffix(SUFFIX)), recipe)
        if isinstance(one, str):
            whys.append(one)
        elif last is None or one.window.last <= last:
            found.append(one)
    if found:
        return max(found, key=lambda one: (one.window.last, one.path.name))
    return f"{path}: there is no earlier result with a manifest" if not whys else whys[-1]


def written(out: Path, recipe: Mapping[str, Any], window: Window, graph: SideGraph, rows: int) -> None:
    """Write the manifest of the result `out`, whole or not at all. Raises StoreError."""
    text = json.dumps(
        {
            "made_by": "trawl swing",
            "format": _FORMAT,
            "recipe": recipe,
            "window": {
                "last": day_name(window.last),
                "days": window.days,
                "half_life_days": window.half_life_days,
            },
            "graph": {
                "anchors": graph.graph.n,
                "features": graph.graph.p,
                "edges": len(graph.graph.rows),
                "digest": graph.digest(),
            },
            "result": {"file": out.name, "rows": rows, "digest": _digest(out)},
        },
        indent=1,
    )
    target = _manifest(out)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)
    except OSError as error:
        raise StoreError(f"{target}: {error.strerror or error}; {out} stands without a manifest") from error
    finally:
        temporary.unlink(missing_ok=True)


def forget(out: Path) -> None:
    """Remove the manifest of a result that is about to be replaced. Raises StoreError."""
    try:
        _manifest(out).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{_manifest(out)}: {error.strerror or error}; nothing was written") from error


def recipe(**values: Any) -> dict[str, Any]:
    """What must agree for a result to be a base: the caller's values and this version."""
    plain: dict[str, Any] = json.loads(json.dumps({**values, "version": __version__}))
    return plain


def _manifest(out: Path) -> Path:
    return out.with_name(out.name + SUFFIX)


def _opened(path: Path, wanted: Mapping[str, Any]) -> Earlier | str:
    source = _manifest(path)
    if not source.is_file():
        return f"{path}: has no manifest {source.name}" if path.exists() else f"{path}: no such file or folder"
    try:
        found = json.loads(source.read_text(encoding="utf-8"))
        made, window = found["recipe"], found["window"]
        if found["format"] != _FORMAT:
            return f"{source}: is of format {found['format']}, not {_FORMAT}"
        differ = [name for name in sorted({*made, *wanted}) if made.get(name) != wanted.get(name)]
        if differ:
            name = differ[0]
            return f"{path}: was made with another {name} ({_short(made.get(name))}, not {_short(wanted.get(name))})"
        span = Window(
            last=parse_day(window["last"]), days=int(window["days"]), half_life_days=float(window["half_life_days"])
        )
        return Earlier(path, span, str(found["graph"]["digest"]), str(found["result"]["digest"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError) as error:
        return f"{source}: cannot be read ({' '.join(str(error).split()) or type(error).__name__})"


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
