"""Arms and repetitions: one DAG without duplicates, results cell by cell, interruption, names, why, gc, show."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import small

from trawl import arms, experiment, pipeline, views
from trawl.config import Config
from trawl.errors import AskedWrongly, ConfigError, RunNameTaken
from trawl.executors import Inline
from trawl.experiment import Listener
from trawl.runs import Run, claim, find
from trawl.stage import Job, Outcome
from trawl.store import Store
from trawl.training.comparing import over_the_table

ARMS = (
    "experiment.arms.none.extraction.source=none",
    "experiment.arms.none-cl.extraction.source=none",
    "experiment.arms.none-cl.training.w_user=0.5",
    "experiment.arms.extracted.extraction.source=extracted",
    "experiment.arms.shuffled.extraction.source=shuffled",
    "experiment.repetitions=2",
    "experiment.bootstrap=50",
)


class Heard:
    def __init__(self) -> None:
        self.stages: list[Outcome] = []
        self.cells: list[dict[str, Any]] = []
        self.listener = Listener(lambda outcome, cell: self.stages.append(outcome), self.cells.append)


class Filling(Inline):
    """Counts trainings and is interrupted before one of them."""

    def __init__(self, stop_before: int = -1) -> None:
        super().__init__()
        self.filled = 0
        self.stop_before = stop_before

    def fill(self, job: Job) -> dict[str, Any]:
        if self.filled == self.stop_before:
            raise KeyboardInterrupt
        self.filled += 1
        return super().fill(job)


def start(
    store: Store, cfg: Config, name: str = "r", executor: Inline | None = None, until: str = ""
) -> tuple[Run, Heard]:
    heard = Heard()
    run = experiment.run(cfg, store, name, lambda cfg: executor or Inline(), heard.listener, until)
    return run, heard


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, Heard, Filling]]:
    store = Store(str(tmp_path_factory.mktemp("experiment") / "store"))
    executor = Filling()
    run, heard = start(store, small.config(*ARMS), executor=executor)
    yield run, heard, executor


def test_each_cell_has_a_row_and_equal_models_are_trained_once(done: tuple[Run, Heard, Filling]) -> None:
    run, heard, executor = done
    rows = run.results()
    cells = [(r["arm"], r["repetition"]) for r in rows]
    assert cells == [(arm, r) for r in (0, 1) for arm in ("none", "none-cl", "extracted", "shuffled")]
    assert executor.filled == 6, "none with another weight of a loss that is not there is the same model"
    assert len({r["model"] for r in rows}) == 6
    for row in rows:
        assert 0 <= row["test"]["auc"] <= 1 and row["test"]["rows"] > 0
        assert row["validation"]["logloss"] > 0
    made = [(o.artifact, o.fingerprint) for o in heard.stages if o.artifact not in experiment._LAST]
    assert len(made) == len(set(made))


def test_repetitions_draw_the_split_and_share_what_does_not_depend_on_it(done: tuple[Run, Heard, Filling]) -> None:
    cells = {(c["arm"], c["repetition"]): c["artifacts"] for c in done[0].read("run.json")["cells"]}
    one, two = cells["extracted", 0], cells["extracted", 1]
    assert {a for a in one if one[a] == two[a]} >= {"users", "items", "log", "item_embeddings", "user_embeddings"}
    assert {a for a in one if one[a] != two[a]} >= {"splits", "samples", "user_positives", "model", "predictions"}


def test_comparisons_are_against_the_reference(done: tuple[Run, Heard, Filling]) -> None:
    rows = done[0].read("comparisons.json")
    assert {r["arm"] for r in rows} == {"none-cl", "extracted", "shuffled"}
    for row in rows:
        assert row["reference"] == "none"
        if row["slice"] != "all" and row["low"] is None:
            continue  # a resample of six users may hold no cold row, or none of a slice, of either label
        assert row["low"] - 1e-12 <= row["difference"] <= row["high"] + 1e-12  # of one user, all are the same number
        assert row["reason"] is None
    whole = [r for r in rows if "/" not in r["slice"]]
    assert {r["slice"] for r in whole} == {"all", "warm", "cold"}
    assert {r["slice"].partition("/")[0] for r in rows} == {"all", "warm", "cold", "items", "users", "text"}
    for table in (whole, [r for r in rows if "/" in r["slice"]]):  # slices are a table of their own
        again = over_the_table([{k: v for k, v in r.items() if k != "p_table"} for r in table])
        assert [r["p_table"] for r in table] == [r["p_table"] for r in again]
    same = [r for r in rows if r["arm"] == "none-cl" and r["slice"] == "all"]
    assert same and all(r["difference"] == 0 for r in same)


def test_run_json_names_folders_that_exist(done: tuple[Run, Heard, Filling]) -> None:
    run = done[0]
    record = run.read("run.json")
    assert record["state"] == "done"
    for entry in record["artifacts"].values():
        assert (Path(run.store.root) / entry["folder"] / "_manifest.json").exists()
    assert len(run.store.read_text("runs", run.name, "log.jsonl").splitlines()) == len(done[1].stages)


def test_an_interrupted_experiment_goes_on_cell_by_cell(tmp_path: Path) -> None:
    store, cfg = Store(str(tmp_path / "store")), small.config(*ARMS)
    with pytest.raises(KeyboardInterrupt):
        start(store, cfg, executor=Filling(stop_before=2))
    stopped = find("r", store.uri)
    assert stopped.read("run.json")["state"] == "failed"
    assert len(stopped.results()) == 3  # none, its twin, extracted
    again = Filling()
    run, heard = start(store, cfg, executor=again)
    assert again.filled == 4
    assert all(o.skipped for o in heard.stages if o.artifact not in experiment._LAST)
    assert len(run.results()) == 8
    assert run.read("run.json")["state"] == "done"


def test_a_name_belongs_to_one_recipe(done: tuple[Run, Heard, Filling]) -> None:
    run = done[0]
    before = run.store.read_text("runs", "r", "run.json")
    with pytest.raises(RunNameTaken, match=r"run 'r' .*training\.epochs: 1 there, 2 here.*--name"):
        start(run.store, small.config(*ARMS, "training.epochs=2"))
    assert run.store.read_text("runs", "r", "run.json") == before


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "x" * 200])
def test_a_run_name_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="--name"):
        start(Store(str(tmp_path)), small.config(), name=name, until="users")


def test_an_arm_that_is_wrong_is_named() -> None:
    with pytest.raises(ConfigError, match=r"arm 'a'.*training\.lrr.*did you mean"):
        experiment.expand(small.config("experiment.arms.a.training.lrr=1"))
    with pytest.raises(ConfigError, match=r"experiment\.reference = 'b' is no arm"):
        experiment.expand(small.config("experiment.arms.a.training.lr=1", "experiment.reference=b"))


def test_an_arm_whose_needs_are_not_met_is_left_out() -> None:
    cfg = small.config("experiment.arms.a.training.lr=1", "experiment.arms.b.needs=extraction.given")
    assert arms.chosen(cfg) == arms.Arms({"a": {"training.lr": 1}}, {"b": "extraction.given is not set"})


@pytest.mark.parametrize("until", ["log", "data"])
def test_until_stops_early(tmp_path: Path, until: str) -> None:
    run, heard = start(Store(str(tmp_path / "s")), small.config(), until=until)
    assert heard.stages[-1].artifact in ("log", "truth", "entities")
    assert run.results() == []
    assert run.read("run.json")["state"] == "done"


def test_until_names_the_stages(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such stage or room"):
        start(Store(str(tmp_path / "s")), small.config(), until="nonsense")


def test_why_names_the_key_that_made_runs_differ(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "s"))
    one, _ = start(store, small.config(), "one", until="swing")
    two, _ = start(store, small.config("swing.alpha=2.0", "training.lr=0.5"), "two", until="swing")
    causes = views.why(one, two)
    assert {(c["artifact"], c["kind"], c["key"], c["first"], c["second"]) for c in causes} == {
        ("item_positives", "config", "swing.alpha", 1.0, 2.0),
        ("user_positives", "config", "swing.alpha", 1.0, 2.0),
    }
    three, _ = start(store, small.config("data.synthetic.seed=4"), "three", until="swing")
    assert {c["key"] for c in views.why(one, three)} == {"data.synthetic.seed"}
    assert views.why(one, one) == []


def test_why_of_a_run_that_stopped_early_tells_the_keys_and_names_the_tables_once(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "s"))
    one, _ = start(store, small.config(), "one", until="swing")
    two, _ = start(store, small.config("linking.threshold=0.9", "swing.alpha=2.0"), "two", until="data")
    *keys, tables, more = views.why(one, two)
    assert [(c["artifact"], c["key"], c["first"], c["second"]) for c in keys] == [
        ("recipe", "linking.threshold", 0.95, 0.9),
        ("recipe", "swing.alpha", 1.0, 2.0),
    ]
    assert (tables["key"], tables["first"]) == ("only in one", ["item_positives", "user_positives"])
    assert more["key"] == "only in two"


def test_a_name_is_free_again_when_its_run_failed_before_it_made_anything(tmp_path: Path) -> None:
    store, cfg, other = Store(str(tmp_path / "s")), small.config(), small.config("data.partitions=2")
    claim(store, "r", cfg, experiment.expand(cfg)).failed()
    claim(store, "r", other, experiment.expand(other))
    with pytest.raises(RunNameTaken, match=r"data\.partitions: 2 there, 3 here"):
        claim(store, "r", cfg, experiment.expand(cfg))  # it may be running
    start(store, other, "r", until="log")
    Run(store, "r").failed()
    with pytest.raises(RunNameTaken):
        claim(store, "r", cfg, experiment.expand(cfg))


@pytest.mark.parametrize(("said", "meant"), [("link", "linking"), ("encode", "encoding"), ("train", "training")])
def test_until_takes_the_names_of_the_jobs_too(said: str, meant: str) -> None:
    assert pipeline.needed(small.config(), said) == pipeline.needed(small.config(), meant)


def test_show_gives_raw_ids_beside_indexes(done: tuple[Run, Heard, Filling]) -> None:
    rows = list(views.show(done[0], "samples", 5))
    assert len(rows) == 5
    for row in rows:
        assert row["user_id"].startswith("u") and row["item_id"].startswith("f")
    assert json.dumps(rows)
    partner = next(iter(views.show(done[0], "item_positives", 1, "extracted", 1)))
    assert partner["anchor_id"].startswith("f") and partner["partner_id"].startswith("f")
    with pytest.raises(AskedWrongly, match="has no table 'nonsense'"):
        list(views.show(done[0], "nonsense", 1))
    with pytest.raises(AskedWrongly, match="no cell x/0"):
        list(views.show(done[0], "users", 1, "x"))


def test_gc_keeps_what_the_newest_runs_use(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "s"))
    start(store, small.config("data.synthetic.seed=1"), "old", until="log")
    run = Run(store, "old")
    run.write("run.json", run.read("run.json") | {"created": "2000-01-01T00:00:00Z"})
    kept, _ = start(store, small.config(), "new", until="log")
    would = views.gc(store, 1, dry=True)
    assert store.names("runs") == ["new", "old"], "a dry run removes nothing"
    gone = views.gc(store, 1)
    assert gone == would
    assert "runs/old" in gone and len(gone) == 4
    for entry in kept.read("run.json")["artifacts"].values():
        assert Path(store.path(entry["folder"])).exists()
    assert views.gc(store, 1) == []


def test_status_counts_cells_and_artifacts(done: tuple[Run, Heard, Filling]) -> None:
    status = views.status(done[0])
    assert status["cells"] == {"finished": 8, "all": 8}
    assert all(a["state"] == "published" for a in status["artifacts"])
    assert next(a for a in status["artifacts"] if a["artifact"] == "users")["rows"] == 60


def test_an_unknown_run_names_those_there_are(done: tuple[Run, Heard, Filling]) -> None:
    with pytest.raises(AskedWrongly, match=r"no run 'x'.*runs there: r"):
        find("x", done[0].store.uri)
    assert find(f"{done[0].store.root}/runs/r", "nowhere").results()


def test_p_over_the_whole_table_is_holms_over_all_its_rows() -> None:
    rows = over_the_table([{"p": p} for p in (0.03, None, 0.01, 0.04)])
    assert [r["p_table"] for r in rows] == [pytest.approx(0.06), None, pytest.approx(0.03), pytest.approx(0.06)]
