"""The answer cache: several writers, merges beside readers, what a lookup reads, generations, older layouts."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3_server

from trawl.errors import ArtifactError
from trawl.extraction import cache as module
from trawl.extraction import segments
from trawl.extraction.answers import ANSWER, answer_row
from trawl.extraction.cache import HOME, AnswerCache
from trawl.extraction.engines import Reply
from trawl.sections import Again
from trawl.store import Store


def digest(number: int) -> str:
    return hashlib.blake2b(str(number).encode(), digest_size=16).hexdigest()


def table(texts: dict[str, str], *, finished: bool = True) -> pa.Table:
    rows = [answer_row(d, Reply(t, finished=finished), "e/1", 0.0, 1) for d, t in texts.items()]
    return pa.Table.from_pylist(rows, schema=ANSWER)


def numbers(*which: int, text: str = "text") -> pa.Table:
    return table({digest(n): f"{text} {n}" for n in which})


def texts(rows: pa.Table) -> dict[str, str]:
    return dict(zip(rows.column("digest").to_pylist(), rows.column("text").to_pylist(), strict=True))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def test_the_earliest_answer_holds_before_and_after_merging(store: Store) -> None:
    cache = AnswerCache(store)
    cache.append(table({"aa01": "one", "ab02": "two"}))
    cache.append(table({"aa01": "late", "aa03": "three"}))
    found = cache.lookup(["aa01", "aa03", "ab02", "ff00", "aa99"])
    assert texts(found) == {"aa01": "one", "aa03": "three", "ab02": "two"}
    assert cache.compact() == 2
    assert len(cache.segments()) == 1
    assert cache.lookup(["aa01", "aa03", "ab02"]).equals(found)
    assert cache.lookup([]).num_rows == 0
    assert cache.compact() == 0  # nothing is left to merge


def test_what_was_merged_is_removed_after_a_while(store: Store) -> None:
    cache = AnswerCache(store)
    for n in range(3):
        cache.append(numbers(n))
    cache.compact()
    files = [name for name in store.names(*HOME) if name.endswith(".parquet")]
    assert len(files) == 4  # a reader that listed the three may still be at them
    assert cache.sweep() == 0
    assert cache.sweep(grace=0) == 3
    assert [s.name for s in cache.segments()] == [n for n in store.names(*HOME) if n.endswith(".parquet")]
    assert cache.lookup(digest(n) for n in range(3)).num_rows == 3


class Beside(Store):
    """A store in which something happens right after a listing."""

    then: Callable[[], None] | None = None

    def sizes(self, *names: str) -> dict[str, int]:
        found = super().sizes(*names)
        if self.then:
            now, self.then = self.then, None
            now()
        return found


def test_a_reader_whose_segments_are_merged_and_removed_finds_everything(tmp_path: Path) -> None:
    mine, theirs = Beside(str(tmp_path)), AnswerCache(Store(str(tmp_path)))
    for n in range(5):
        theirs.append(numbers(n))

    def merge() -> None:
        assert theirs.compact() == 5
        assert theirs.sweep(grace=0) == 5

    mine.then = merge
    assert AnswerCache(mine).lookup(digest(n) for n in range(5)).num_rows == 5
    assert mine.then is None


def test_a_record_that_is_seen_before_what_it_stands_for_loses_nothing(tmp_path: Path) -> None:
    """A listing may pass the place of the merged segment, and reach the record of the merge when that is there."""
    mine, theirs = Beside(str(tmp_path)), AnswerCache(Store(str(tmp_path)))
    for n in range(5):
        theirs.append(numbers(n))
    old = Store.sizes(mine, *HOME)
    theirs.compact()
    record = {k: v for k, v in Store.sizes(mine, *HOME).items() if k.startswith("merged/")}
    torn = [old | record]

    class Torn(Beside):
        def sizes(self, *names: str) -> dict[str, int]:
            return torn.pop() if torn else super().sizes(*names)

    assert AnswerCache(Torn(str(tmp_path))).lookup(digest(n) for n in range(5)).num_rows == 5
    assert not torn


def test_an_answer_that_comes_while_others_are_merged_stays(tmp_path: Path) -> None:
    store = Beside(str(tmp_path))
    cache = AnswerCache(store)
    for n in range(4):
        cache.append(numbers(n))
    store.then = lambda: AnswerCache(Store(str(tmp_path))).append(numbers(99))
    cache.compact()
    cache.sweep(grace=0)
    assert texts(cache.lookup([digest(99), digest(0)])) == {digest(99): "text 99", digest(0): "text 0"}


def test_two_merge_at_once_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    store = Beside(str(tmp_path))
    cache, other = AnswerCache(store), AnswerCache(Store(str(tmp_path)))
    for n in range(6):
        cache.append(numbers(n))
    store.then = lambda: other.compact()  # noqa: PLW0108
    cache.compact()
    for c in (cache, other):
        c.sweep(grace=0)
    assert cache.lookup(digest(n) for n in range(6)).num_rows == 6
    cache.compact()
    cache.sweep(grace=0)
    assert sum(s.rows for s in cache.segments()) == 6


def test_writers_readers_and_mergers_side_by_side(tmp_path: Path) -> None:
    """What an append has returned from is found by every lookup that begins later, whatever is merged meanwhile."""
    known: list[int] = []
    lost: list[int] = []
    stop = threading.Event()

    def write(start: int) -> None:
        cache = AnswerCache(Store(str(tmp_path)))
        for n in range(start, start + 200, 4):
            cache.append(numbers(*range(n, n + 4)))
            known.extend(range(n, n + 4))

    def merge() -> None:
        cache = AnswerCache(Store(str(tmp_path)))
        while not stop.is_set():
            cache.compact()
            cache.sweep(grace=0.05)

    def read() -> None:
        cache = AnswerCache(Store(str(tmp_path)))
        while not stop.is_set():
            sure = list(known)
            lost.append(len(sure) - cache.lookup(digest(n) for n in sure).num_rows)

    writers = [threading.Thread(target=write, args=(n * 1000,)) for n in range(2)]
    others = [threading.Thread(target=work) for work in (merge, merge, read, read)]
    for thread in (*writers, *others):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in others:
        thread.join()
    assert set(lost) == {0}
    assert AnswerCache(Store(str(tmp_path))).lookup(digest(n) for n in known).num_rows == 400


def test_a_lookup_reads_only_segments_and_groups_that_may_hold_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "GROUP", 16)
    monkeypatch.setattr(module, "_LARGE", 256)
    monkeypatch.setattr(module, "_DEEP", 2)
    cache = AnswerCache(store)
    for n in range(0, 1024, 64):  # each over the whole range
        cache.append(numbers(*range(n, n + 64)))
    read: list[int] = []
    whole = segments.read

    def seen(*arguments: object) -> pa.Table | None:
        rows = whole(*arguments)  # type: ignore[arg-type]
        assert rows is not None
        read.append(rows.num_rows)
        return rows

    monkeypatch.setattr(segments, "read", seen)
    assert cache.lookup([digest(7)]).num_rows == 1
    assert len(read) == 16
    cache.compact()  # groups of 256 rows, then by digest: they lie over each other
    read.clear()
    assert cache.lookup([digest(7)]).num_rows == 1
    assert read == [16]
    assert [s.rows for s in cache.segments()] == [len(list(r)) for r in _quarters(range(1024))]


def _quarters(which: range) -> list[list[int]]:
    quarter = [int(digest(n)[0], 16) // 4 for n in which]
    return [[n for n, q in zip(which, quarter, strict=True) if q == part] for part in range(4)]


def test_many_small_segments_are_merged_by_who_reads_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MANY", 10)
    cache = AnswerCache(store)
    for n in range(12):
        cache.append(numbers(n))
    assert cache.lookup([digest(0)]).num_rows == 1
    assert len(cache.segments()) == 12  # the one that may hold it was enough
    assert cache.lookup(digest(n) for n in range(12)).num_rows == 12
    assert len(cache.segments()) == 1
    for n in range(12, 24):
        cache.append(numbers(n))
    store.write_text(segments.stamp(), *HOME, "merged", "busy")  # another is at it
    assert cache.lookup(digest(n) for n in range(24)).num_rows == 24
    assert len(cache.segments()) == 13


def test_answers_asked_again_hold_and_the_former_ones_do_not_come_back(store: Store) -> None:
    plain = AnswerCache(store)
    plain.append(table({"aa01": "cut of", "aa02": "cut too"}, finished=False))
    plain.append(table({"aa03": "whole"}))
    again = AnswerCache(store, again=Again(generation=1700000000, statuses=("truncated",)))
    assert list(texts(again.lookup(["aa01", "aa02", "aa03"]))) == ["aa03"]
    again.append(table({"aa01": "cut off no more"}))
    again.append(table({"aa02": "cut again"}, finished=False))
    want = {"aa01": "cut off no more", "aa02": "cut again", "aa03": "whole"}
    for _ in range(2):
        assert texts(again.lookup(want)) == texts(plain.lookup(want)) == want
        plain.compact()
        plain.sweep(grace=0)


def test_who_asked_is_kept(store: Store) -> None:
    AnswerCache(store, origin="item_answers/a").append(table({"aa01": "one"}))
    AnswerCache(store, origin="item_answers/b").append(table({"aa02": "two"}))
    found = AnswerCache(store).find(["aa01", "aa02"])
    assert found.column("origin").to_pylist() == ["item_answers/a", "item_answers/b"]


def test_segments_of_the_former_layout_are_read_and_merged(store: Store) -> None:
    rows = table({"aa01": "old", "aa02": "older"})
    sink = pa.BufferOutputStream()
    pq.write_table(rows.drop_columns(["attempts"]), sink)  # and a column that it did not have
    store.write_bytes(sink.getvalue(), *HOME, "aa", "0123.parquet")
    cache = AnswerCache(store)
    cache.append(table({"aa02": "new", "ff01": "far"}))
    want = {"aa01": "old", "aa02": "older", "ff01": "far"}
    assert texts(cache.lookup(want)) == want
    assert texts(cache.lookup(["ff01"])) == {"ff01": "far"}
    cache.compact()
    cache.sweep(grace=0)
    assert texts(cache.lookup(want)) == want
    assert store.names(*HOME, "aa") == []


def test_a_broken_segment_is_named(store: Store) -> None:
    cache = AnswerCache(store)
    cache.append(numbers(1))
    name = cache.segments()[0].name
    store.write_text("not parquet", *HOME, name)
    with pytest.raises(ArtifactError, match=name):
        cache.lookup([digest(1)])


def test_on_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_server.KEYS.items():
        monkeypatch.setenv(name, value)
    with s3_server.server(tmp_path) as server:
        store = Store(server.uri("cache"))
        cache = AnswerCache(store)
        for n in range(6):
            cache.append(numbers(n))
        before = cache.lookup(digest(n) for n in range(6))
        assert before.num_rows == 6
        cache.compact()
        assert cache.lookup(digest(n) for n in range(6)).equals(before)
        assert cache.sweep(grace=0) == 6
        assert AnswerCache(Store(server.uri("cache"))).lookup(digest(n) for n in range(6)).equals(before)
        assert len(cache.segments()) == 1
