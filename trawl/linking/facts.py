"""The stage `facts`: what is known of each item, as (relation, value), from its own fields and a table of the user's.

The table is read one row group at a time and its rows are sent to the part of the item that they are about, so that
nobody holds it. Its ids are those of items, or of entities of the knowledge base, whose facts are those of every item
that is linked to them. What it says of others is left out.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trawl.config import Config
from trawl.errors import InputError
from trawl.inputs import Inputs
from trawl.raw import Source, parquet, source
from trawl.stage import Phase, Stage, Task, numbered
from trawl.store import Part

_TEXTS = ("relation", "value")
_SCHEMA = pa.schema([("entity", pa.int64()), *((name, pa.large_string()) for name in _TEXTS)])


class FactFiles:
    """A table of facts in Parquet."""

    def __init__(self, path: str, of: str) -> None:
        """`of`: item or entity. Raises InputError when there is no Parquet file."""
        self._path, self._id = source(path), f"{of}_id"
        found: list[Source] = [*self._path.glob("*.parquet")] if self._path.is_dir() else [self._path]
        if not found or not found[0].is_file():
            raise InputError.at(self._path, "", "no such Parquet file or folder of them", "check facts.table")
        self._files = sorted(found, key=str)

    def pieces(self) -> list[tuple[int, int]]:
        """(number of the file, row group) of every row group. Raises InputError for a missing column."""
        out = []
        for number, path in enumerate(self._files):
            file = _open(path)
            there = file.schema_arrow.names
            for name in (self._id, *_TEXTS):
                if name not in there:
                    hint = "facts.of says whether item_id or entity_id is read" if name == self._id else "add it"
                    raise InputError.at(path, f"column {name!r}", f"missing; the file has {', '.join(there)}", hint)
            out += [(number, group) for group in range(file.num_row_groups)]
        return out

    def rows(self, number: int, group: int) -> pa.Table:
        """id, relation, value of a row group. Raises InputError naming file and row of a null or empty one."""
        path = self._files[number]
        file = _open(path)
        names = (self._id, *_TEXTS)
        found = file.read_row_group(group, columns=list(names))
        try:
            columns = [found[name].cast(pa.large_string()) for name in names]
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError.at(path, "", f"{', '.join(names)} must be text ({error})", "mend the file") from None
        for name, column in zip(names, columns, strict=True):
            row = pc.index(pc.fill_null(pc.equal(pc.binary_length(column), 0), True), True).as_py()
            if row >= 0:
                first = sum(file.metadata.row_group(g).num_rows for g in range(group))
                raise InputError.at(path, f"row {first + row + 1}", f"{name} is null or empty", "mend the file")
        return pa.table(dict(zip(("id", *_TEXTS), columns, strict=True)))


def _open(path: Source) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(parquet(path))
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError.at(path, "", f"not a Parquet file that can be read ({error})") from None


def _files(inputs: Inputs, cfg: Config) -> FactFiles:
    return FactFiles(inputs.sources["facts"], cfg.facts.of)


def _plan(inputs: Inputs, cfg: Config) -> list[Task]:
    if not cfg.facts.table:
        return numbered(_buckets(inputs, cfg))
    pieces = _files(inputs, cfg).pieces()
    return [Task(f"{i:06d}", {"number": i, "piece": list(piece)}) for i, piece in enumerate(pieces)]


def _buckets(inputs: Inputs, cfg: Config) -> int:
    return len(inputs.parts("items"))


def _scatter(inputs: Inputs, cfg: Config) -> Callable[[Task], Iterator[tuple[int, pa.Table]]]:
    """Rows of the table to the part of their item."""
    files, known = _files(inputs, cfg), _known(inputs, cfg)
    ends = np.cumsum([part.rows for part in inputs.parts("items")])  # parts hold the index in order

    def scatter(task: Task) -> Iterator[tuple[int, pa.Table]]:
        rows = files.rows(*task.args["piece"]).join(known, "id", join_type="inner").select(_SCHEMA.names)
        rows = rows.cast(_SCHEMA).sort_by("entity")
        bounds = np.searchsorted(rows["entity"].to_numpy(), [0, *ends], side="right")
        for number, (start, stop) in enumerate(pairwise(bounds.tolist())):
            if number == 0 or stop > start:  # one at least, so that the schema travels
                yield number, rows.slice(start, stop - start)

    return scatter


def _known(inputs: Inputs, cfg: Config) -> pa.Table:
    """id, entity: the ids that the table may speak of, and the items that they mean."""
    name, key = ("items", "item_id") if cfg.facts.of == "item" else ("knowledge", "entity_id")
    rows = inputs.mapped(name, ["item", key])
    rows = rows.filter(rows[key].is_valid())
    return pa.table({"id": rows[key].cast(pa.large_string()), "entity": rows["item"]})


class _Gather:
    """The facts of the items of a part, each once."""

    def __init__(self, inputs: Inputs, cfg: Config) -> None:
        self._inputs, self._keys = inputs, cfg.facts

    def __call__(self, task: Task) -> pa.Table:
        tables = [_SCHEMA.empty_table()]
        if self._keys.fields:
            tables.append(_own(self._inputs.part("items", task.number, ["item", "fields"])))
        if self._keys.table:
            tables.append(self._inputs.scattered(0, task.number))
        facts = pa.concat_tables(tables)
        if self._keys.relations:
            facts = facts.filter(pc.is_in(facts["relation"], pa.array(self._keys.relations, pa.large_string())))
        return facts.group_by(_SCHEMA.names).aggregate([])


def _own(items: pa.Table) -> pa.Table:
    """The values of the items' fields."""
    fields = items["fields"].combine_chunks()
    owner = np.repeat(items["item"].to_numpy(), pc.fill_null(pc.list_value_length(_as_lists(fields)), 0).to_numpy())
    lists = pc.list_flatten(_as_lists(fields))
    relation, values = pc.struct_field(lists, 0), pc.struct_field(lists, 1)
    many = pc.list_value_length(values).to_numpy(zero_copy_only=False)
    rows = pa.table(
        {
            "entity": pa.array(np.repeat(owner, many)),
            "relation": relation.take(pa.array(np.repeat(np.arange(len(many)), many))),
            "value": pc.list_flatten(values),
        }
    ).cast(_SCHEMA)
    return rows.filter(pc.greater(pc.binary_length(rows["value"]), 0))


def _as_lists(fields: pa.Array) -> pa.Array:
    """A map column as lists of (key, value)."""
    return fields.cast(pa.list_(pa.struct([("key", fields.type.key_type), ("value", fields.type.item_type)])))


def _reads(cfg: Config) -> tuple[str, ...]:
    return ("items", "knowledge") if cfg.facts.table and cfg.facts.of == "entity" else ("items",)


def _keys(cfg: Config) -> tuple[str, ...]:
    return ("facts.fields", "facts.relations", *(["facts.of"] if cfg.facts.table else []))


def _sources(cfg: Config) -> dict[str, str]:
    return {"facts": cfg.facts.table} if cfg.facts.table else {}


def _rounds(cfg: Config) -> tuple[Phase, ...]:
    return (Phase(worker=_scatter, buckets=_buckets),) if cfg.facts.table else ()


def _heard(parts: Sequence[Part], inputs: Inputs, cfg: Config) -> None:
    """Raises InputError for a table that says nothing of any item, and where no item has a fact at all."""
    if cfg.facts.table and not sum(inputs.scattered_rows(0)):
        of = "item_id is an item" if cfg.facts.of == "item" else "entity_id is linked to an item"
        raise InputError.at(cfg.facts.table, "", f"no {of}", "check facts.of and the ids")
    if not sum(part.rows for part in parts):
        some = f" of facts.relations = {', '.join(cfg.facts.relations)}" if cfg.facts.relations else ""
        raise InputError(
            f"facts: no item has a fact{some}; `trawl show RUN items` has the items' fields, facts.table brings others"
        )


FACTS = Stage(
    artifact="facts",
    version=1,
    plan=_plan,
    reads=_reads,
    keys=_keys,
    sources=_sources,
    rounds=_rounds,
    worker=_Gather,
    verify=_heard,
)
