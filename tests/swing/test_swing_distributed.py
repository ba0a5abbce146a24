"""Mining of a folder by many calls: the partners that one process finds, to the last bit and in the same order."""

import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trawl.errors import AskedWrongly, ConfigError, InputError
from trawl.pool import InProcess
from trawl.swing import distributed, mine, numbering
from trawl.swing.cap_plan import settings_of
from trawl.swing.distributed import Options, mine_distributed
from trawl.swing.formula import Formula
from trawl.swing.reading import Columns

COLUMNS = Columns(user="who", item="what")


def draw(rows=300, seed=0, who=str, what=str):
    rng = np.random.default_rng(seed)
    users, items = rng.integers(0, 40, rows), np.minimum(rng.lognormal(1.5, 0.8, rows).astype(int), 30)
    return pa.table({"who": [who(int(u)) for u in users], "what": [what(int(i)) for i in items]})


def write(folder, table, files=3):
    folder.mkdir(exist_ok=True)
    cuts = np.linspace(0, table.num_rows, files + 1).astype(int)
    for n, (a, b) in enumerate(itertools.pairwise(cuts)):
        pq.write_table(table.slice(a, b - a), folder / f"{n}.parquet", row_group_size=40)
    return str(folder)


def mined(out):
    found = sorted(p for p in out.glob("part-*.parquet"))
    return pa.concat_tables([pq.read_table(p) for p in found])


def same(found, table, side, **options):
    expected = mine(table, "who", "what", side, **options)
    assert found.to_pylist() == expected.to_pylist()
    assert found.num_rows > 50


@pytest.mark.parametrize("side", ["user", "item"])
@pytest.mark.parametrize(
    ("who", "what"),
    [(int, int), (str, "film {}".format), (lambda u: f"{u:03d}", lambda i: i * 10**15)],
    ids=["numbers", "numbers as text, text", "leading zeros, large numbers"],
)
def test_as_in_one_process(tmp_path, monkeypatch, side, who, what):
    monkeypatch.setattr(numbering, "_IDS", 12)  # several ranges of ids
    monkeypatch.setattr(numbering, "_PART_ROWS", 60)
    monkeypatch.setattr(distributed.sharing, "_TASK_EDGES", 50)
    monkeypatch.setattr(distributed.adjacency, "_EDGES", 70)
    table = draw(who=who, what=what)
    source = write(tmp_path / "in", table)
    assert len(numbering.parts_of(source, COLUMNS)) > 3
    report = mine_distributed(
        InProcess(), source, COLUMNS, Options(side=side, formula=Formula(), top_k=5), str(tmp_path / "out")
    )
    same(mined(tmp_path / "out"), table, side, top_k=5)
    assert report["read"] == 300 and report["parts"] > 3
    assert report["rows"] == mined(tmp_path / "out").num_rows
    assert json.loads((tmp_path / "out/_report.json").read_text()) == report
    assert not (tmp_path / "out/_work").exists()


@pytest.mark.parametrize(
    "formula", [Formula(normalize="none"), Formula(normalize="degree", node_weight="power")], ids=str
)
def test_in_blocks_as_in_one_process_and_the_bytes_are_told(tmp_path, monkeypatch, formula):
    monkeypatch.setattr(distributed.sharing, "_TASK_EDGES", 50)
    table = draw(who=int)
    report = mine_distributed(
        InProcess(),
        write(tmp_path / "in", table),
        COLUMNS,
        Options(side="user", formula=formula, top_k=3),
        str(tmp_path / "out"),
        shuffle="always",
        block_bytes=40 * 100,
    )
    same(mined(tmp_path / "out"), table, "user", top_k=3, formula=formula)
    told = report["shuffle"]
    assert told["blocks"] > report["parts"]
    assert 4 * report["pairs"] < told["bytes"] <= told["bound"]


def test_csv_and_what_is_not_liked(tmp_path):
    rows = draw(seed=4).append_column("stars", pa.array(np.random.default_rng(1).integers(1, 6, 300)))
    path = tmp_path / "views.csv"
    path.write_text("who,what,stars\n" + "".join(",".join(map(str, r.values())) + "\n" for r in rows.to_pylist()))
    columns = Columns(user="who", item="what", rating="stars", like_above=2)
    options = Options(side="item", formula=Formula(), top_k=4)
    report = mine_distributed(InProcess(), str(path), columns, options, str(tmp_path / "out"))
    liked = rows.filter(pa.compute.greater(rows["stars"], 2))
    same(mined(tmp_path / "out"), liked, "item", top_k=4)
    assert report["items"] == len(liked["what"].unique()) and report["read"] == 300 > report["interactions"]


def test_a_call_goes_on_where_it_was_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed.sharing, "_TASK_EDGES", 50)
    table = draw()
    source, out = write(tmp_path / "in", table), tmp_path / "out"
    options = Options(side="user", formula=Formula(), top_k=5)

    class Ends(InProcess):
        def results(self, function, given):
            for n, value in enumerate(super().results(function, given)):
                if function is distributed._mine and n == 2:
                    raise KeyboardInterrupt
                yield value

    with pytest.raises(KeyboardInterrupt):
        mine_distributed(Ends(), source, COLUMNS, options, str(out))
    kept = {p.name: p.stat().st_mtime_ns for p in out.glob("part-*")}
    assert len(kept) == 3 and not (out / "_report.json").exists()
    report = mine_distributed(InProcess(), source, COLUMNS, options, str(out))
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept
    same(mined(out), table, "user", top_k=5)
    assert mine_distributed(InProcess(), source, COLUMNS, options, str(out)) == report, "done: nothing is mined"
    with pytest.raises(InputError, match="something else than this call's partners; name another folder"):
        mine_distributed(InProcess(), source, COLUMNS, Options(side="item", formula=Formula()), str(out))


def test_a_folder_in_other_use_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("precious")
    with pytest.raises(InputError, match="name another folder"):
        mine_distributed(
            InProcess(),
            write(tmp_path / "in", draw()),
            COLUMNS,
            Options(side="user", formula=Formula()),
            str(tmp_path / "out"),
        )
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_empty_file_gives_no_partners(tmp_path):
    table = pa.table({"who": pa.array([], pa.string()), "what": pa.array([], pa.int64())})
    options = Options(side="user", formula=Formula())
    report = mine_distributed(InProcess(), write(tmp_path / "in", table, 1), COLUMNS, options, str(tmp_path / "out"))
    assert (report["rows"], report["anchors"], mined(tmp_path / "out").num_rows) == (0, 0, 0)


@pytest.mark.parametrize(("who", "what"), [(None, "the id is null"), ("", "the id is empty"), ("-4", "negative")])
def test_wrong_ids_are_refused_by_file_and_row(tmp_path, monkeypatch, who, what):
    monkeypatch.setattr(numbering, "_PART_ROWS", 60)
    rows = draw().to_pylist()
    rows[190]["who"] = who
    source = write(tmp_path / "in", pa.Table.from_pylist(rows))
    with pytest.raises(InputError, match=rf"1.parquet, row 91, column who: .*{what}"):
        mine_distributed(InProcess(), source, COLUMNS, Options(side="user", formula=Formula()), str(tmp_path / "out"))


def test_a_file_that_is_none_is_named(tmp_path):
    write(tmp_path / "in", draw())
    (tmp_path / "in/2.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"2.parquet: cannot be read"):
        mine_distributed(
            InProcess(), str(tmp_path / "in"), COLUMNS, Options(side="user", formula=Formula()), str(tmp_path / "out")
        )


def test_options_are_checked():
    with pytest.raises(ConfigError, match="choose user or item"):
        Options(side="users", formula=Formula())
    with pytest.raises(AskedWrongly, match="top_k = 0"):
        Options(side="user", formula=Formula(), top_k=0)


def test_caps_keep_what_the_ids_say_and_their_error_is_told(tmp_path):
    rng = np.random.default_rng(7)
    table = pa.table({"who": rng.integers(0, 300, 6000), "what": rng.integers(0, 40, 6000)})
    turned = pa.table({name: pa.array([f"{v:06d}" for v in table[name].to_pylist()]) for name in table.column_names})
    options = Options(side="user", formula=Formula(normalize="none"), top_k=5, caps=settings_of(users_per_item=60))
    reports = [
        mine_distributed(InProcess(), write(tmp_path / name, some), COLUMNS, options, str(tmp_path / f"{name} out"))
        for name, some in (("a", turned), ("b", turned.take(rng.permutation(6000))))
    ]
    assert mined(tmp_path / "a out").equals(mined(tmp_path / "b out"))
    assert reports[0]["caps"]["lists"] == 60 and reports[0]["caps"]["cut_lists"] == 40
    assert reports[0]["cap_error"] == reports[1]["cap_error"]
    assert reports[0]["cap_error"]["targets"] > 0 and reports[0]["cap_error"]["recall"] < 1


def test_the_other_side_is_mined_without_reading_again(tmp_path, monkeypatch):
    table = draw()
    source, pool = write(tmp_path / "in", table), InProcess()
    read = []
    numbered = distributed.numbered
    monkeypatch.setattr(distributed, "numbered", lambda *given: read.append(1) or numbered(*given))
    for side in ("user", "item"):
        options = Options(side=side, formula=Formula(), top_k=5)
        mine_distributed(pool, source, COLUMNS, options, str(tmp_path / side))
        same(mined(tmp_path / side), table, side, top_k=5)
    assert len(read) == 1
    write(tmp_path / "in", draw(seed=3))
    mine_distributed(pool, source, COLUMNS, options, str(tmp_path / "changed"))
    assert len(read) == 2
