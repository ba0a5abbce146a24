"""Small worlds for tests: hand-made tables published as artifacts, and behaviour tables from a list of ratings.

Import it as `from worlds import publish` (pytest puts tests/ on the path).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trawl import pipeline
from trawl.checks import conform, describe
from trawl.config import Config
from trawl.executors import Inline
from trawl.inputs import Inputs
from trawl.schemas import CONTRACTS, TEST, TRAIN, VALID
from trawl.stage import run_stage
from trawl.store import MANIFEST, Manifest, Store, digest_bytes, digest_json

Rating = tuple[int, int, float]  # user 1..n, item 1..m, stars; a user's ratings in the order of time


def table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table in the contract of `name`; a column that a row lacks is null."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=CONTRACTS[name].schema)


def publish(store: Store, name: str, parts: Sequence[pa.Table], notes: Mapping[str, Any] | None = None) -> str:
    """Write tables as the parts of a published artifact; returns its fingerprint, which is derived from the content.

    Raises ArtifactError when a part breaks the contract of `name`.
    """
    contract = CONTRACTS[name]
    tables = [conform(contract, part, f"part {number} of {name}") for number, part in enumerate(parts)]
    mark = digest_json([name, [_digest(t) for t in tables], dict(notes or {})])[:20]
    done = []
    for number, part in enumerate(tables):
        path = f"part-{number:05d}.parquet"
        size, digest = store.write_parquet(part, name, mark, path)
        done.append(replace(describe(contract, part), path=path, bytes=size, digest=digest))
    statuses: dict[str, int] = {}
    for entry in done:
        for status, count in entry.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    manifest = Manifest(
        artifact=name,
        contract=contract.version,
        version=1,
        fingerprint=mark,
        config={},
        inputs={},
        sources={},
        parts=tuple(done),
        rows=sum(p.rows for p in done),
        statuses=statuses,
        seconds=0.0,
        notes=dict(notes or {}),
    )
    store.write_text(manifest.to_json(), name, mark, MANIFEST)
    return mark


def _digest(part: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, part.schema) as writer:
        writer.write_table(part)
    return digest_bytes(sink.getvalue())


def split_ids(count: int, partitions: int) -> list[list[int]]:
    """1..count in contiguous runs, one per part."""
    return [[int(i) for i in run] for run in np.array_split(np.arange(1, count + 1), partitions)]


def behaviour(  # noqa: PLR0913 - a test names only what it is about
    store: Store,
    ratings: Sequence[Rating],
    *,
    users: int = 0,
    items: int = 0,
    partitions: int = 2,
    cutoff_max: int = 30,
    cutoffs: Mapping[int, int] | None = None,
    splits: Mapping[int, str] | None = None,
    cold: Sequence[int] = (),
    like_above: float = 3.0,
    user_fields: Mapping[int, Mapping[str, list[str]]] | None = None,
    item_fields: Mapping[int, Mapping[str, list[str]]] | None = None,
    titles: Mapping[int, tuple[str, int | None]] | None = None,
) -> dict[str, str]:
    """Publish users, items, log, cutoffs, splits, cold_items, samples; returns {name: fingerprint}.

    `users`, `items`: how many there are (0: the largest index rated). Raw ids are `u7` and `i7`. Without `splits`
    the users 8, 18, ... are valid and 9, 19, ... test; without `cutoffs` a user's cut-off is
    min((n + 1) // 2, cutoff_max). The rows of users stand in `partitions` contiguous parts, as in real tables.
    """
    users = users or max((u for u, _, _ in ratings), default=1)
    items = items or max((i for _, i, _ in ratings), default=1)
    everybody = range(1, users + 1)
    part_of = {u: (splits or {}).get(u, TRAIN if splits else _DRAWN.get(u % 10, TRAIN)) for u in everybody}
    log = _log(ratings, like_above)
    cut = {u: (cutoffs or {}).get(u, min((len(log.get(u, [])) + 1) // 2, cutoff_max)) for u in everybody}
    rows: dict[str, Callable[[int], list[dict[str, Any]]]] = {
        "users": lambda u: [{"user": u, "user_id": f"u{u}", "fields": list((user_fields or {}).get(u, {}).items())}],
        "log": lambda u: log.get(u, []),
        "cutoffs": lambda u: [{"user": u, "cutoff": cut[u], "events": len(log.get(u, []))}],
        "splits": lambda u: [{"user": u, "part": part_of[u], "cutoff": cut[u]}],
        "samples": lambda u: _samples(log.get(u, []), cut[u], part_of[u], cold),
        "items": lambda i: [_item(i, titles or {}, item_fields or {})],
        "cold_items": lambda i: [{"item": i, "cold": i in cold}],
    }
    return {
        name: publish(store, name, [table(name, [row for i in run for row in make_rows(i)]) for run in runs])
        for name, make_rows in rows.items()
        for runs in [split_ids(items if name in ("items", "cold_items") else users, partitions)]
    }


_DRAWN = {8: VALID, 9: TEST}


def _samples(log: Sequence[dict[str, Any]], cutoff: int, part: str, cold: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {k: row[k] for k in ("user", "position", "item", "label")} | {"split": part}
        for row in log
        if row["position"] >= cutoff and not (part == TRAIN and row["item"] in cold)
    ]


def _log(ratings: Sequence[Rating], like_above: float) -> dict[int, list[dict[str, Any]]]:
    out: dict[int, list[dict[str, Any]]] = {}
    for user, item, rating in ratings:
        mine = out.setdefault(user, [])
        mine.append(
            {
                "user": user,
                "position": len(mine),
                "item": item,
                "rating": rating,
                "time": 1000 + len(mine),
                "label": rating > like_above,
            }
        )
    return out


def _item(
    item: int, titles: Mapping[int, tuple[str, int | None]], fields: Mapping[int, Mapping[str, list[str]]]
) -> dict[str, Any]:
    title, year = titles.get(item, (f"Film {item} (19{60 + item % 40})", 1960 + item % 40))
    return {
        "item": item,
        "item_id": f"i{item}",
        "title": title,
        "year": year,
        "fields": list(fields.get(item, {}).items()),
    }


def make(cfg: Config, store: Store, *names: str, marks: Mapping[str, str] | None = None) -> dict[str, str]:
    """Run the stages that the named artifacts need, or all of the data room but truth; returns {name: fingerprint}."""
    stages = pipeline.stages()
    wanted = list(names) or [n for n in pipeline.rooms()["data"] if n not in ("entities", "truth")]
    out = dict(marks or {})
    for name in wanted:
        for needed in stages[name].reads(cfg):
            if needed not in out:
                out |= make(cfg, store, needed, marks=out)
        if name not in out:
            out[name] = run_stage(stages[name], cfg, store, out, Inline()).fingerprint
    return out


RawRating = tuple[str, str, int, int]  # user id, film id, stars, time


def raw_ratings(users: int = 20, films: int = 15, each: int = 10, seed: int = 0) -> list[RawRating]:
    """Ratings of distinct films by each user, with some equal times, in no order."""
    rng = np.random.default_rng(seed)
    out = [
        (str(u), str(f + 1), int(rng.integers(1, 6)), 1000 + int(t))
        for u in range(1, users + 1)
        for f, t in zip(rng.permutation(films)[:each], rng.integers(0, each, each), strict=True)
    ]
    return [out[i] for i in rng.permutation(len(out))]


def write_movielens(folder: Path, ratings: Sequence[RawRating], users: int = 20, films: int = 15) -> Path:
    """The three files of a small world in the original layout: users and films are 1..n."""
    folder.mkdir(parents=True, exist_ok=True)
    genres = ("Drama", "Comedy|Drama", "Children's|Animation")
    files = {
        "users.dat": [f"{u}::{'MF'[u % 2]}::{(18, 25, 56)[u % 3]}::{u % 21}::{u:05d}" for u in range(1, users + 1)],
        "movies.dat": [f"{f}::Café: The Film, {f} ({1950 + f})::{genres[f % 3]}" for f in range(1, films + 1)],
        "ratings.dat": ["::".join(map(str, row)) for row in ratings],
    }
    for name, rows in files.items():
        (folder / name).write_bytes("".join(f"{row}\n" for row in rows).encode("latin-1"))
    return folder


def small_movielens(folder: Path, *settings: str | tuple[str, Any]) -> Config:
    """A recipe that reads such a folder."""
    source = (("data.path", str(folder)), ("data.source", "movielens"), ("data.check_counts", False))
    return Config().override(*source, *settings)


def leak_versions(
    folder: Path,
    store: Store,
    *settings: str | tuple[str, Any],
    parts: Sequence[str] = (VALID, TEST),
    seen: bool = False,
) -> tuple[Config, Config]:
    """Recipes of two worlds that differ in the targets of valid and test users only.

    In the second one every rating of these users at or after their cut-off has other stars and is of another film, at
    the same time. Any table that prompts, positives or training see must be the same for both. `parts`: whose ratings
    change; `seen`: those before the cut-off change, and not the targets.
    """
    users, films = 30, 25
    ratings = raw_ratings(users, films, each=10)
    before = small_movielens(write_movielens(folder / "before", ratings, users, films), *settings)
    opened = Inputs(store, make(before, store, "users", "splits"))
    ids = dict(zip(*opened.table("users", ["user", "user_id"]).to_pydict().values(), strict=True))
    held = {ids[r["user"]]: r["cutoff"] for r in opened.table("splits").to_pylist() if r["part"] in parts}
    assert len(held) > 1, f"no {' and '.join(parts)} users to change"
    changed = list(ratings)
    for user, cutoff in held.items():
        mine = sorted((row[3], place) for place, row in enumerate(ratings) if row[0] == user)
        unseen = [str(f) for f in range(1, films + 1) if str(f) not in {r[1] for r in ratings if r[0] == user}]
        for (time, place), film in zip(mine[:cutoff] if seen else mine[cutoff:], unseen, strict=False):
            stars = ratings[place][2]
            changed[place] = (user, film, 5 if stars <= 3 else 1, time)
    return before, small_movielens(write_movielens(folder / "after", changed, users, films), *settings)


def world(folder: Path, *settings: str | tuple[str, Any]) -> tuple[Config, Store, dict[str, str]]:
    """A small synthetic world (60 users, 40 films, 40 other entities) with all tables of the data room published."""
    size = {"users": 60, "items": 40, "events_per_user": 12, "distractors": 40}
    cfg = Config().override(*((f"data.synthetic.{k}", v) for k, v in size.items()), ("data.partitions", 2), *settings)
    store = Store(str(folder / "store"))
    return cfg, store, make(cfg, store, *pipeline.rooms()["data"])
