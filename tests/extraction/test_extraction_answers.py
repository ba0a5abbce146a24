"""What becomes of a reply; the failure limit; the cache with several writers."""

from pathlib import Path

import pyarrow as pa
import pytest

from trawl.errors import TooManyFailures
from trawl.extraction.answers import ANSWER, answer_row, check_failures, judge
from trawl.extraction.cache import AnswerCache
from trawl.extraction.engines import Reply
from trawl.store import Store


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply("Genre: comedy"), "ok"),
        (Reply("Genre: com", finished=False), "truncated"),
        (Reply(" \n"), "empty"),
        (Reply("I'm sorry, but I cannot help."), "refused"),
        (Reply("the same old story " * 30), "repetitive"),
        (Reply("I'm sorry, but this is a title.", verbatim=True), "ok"),
        (Reply("Sorry, Wrong Number is liked."), "ok"),
        (Reply("", error="boom"), "failed"),
        (Reply("no no no"), "ok"),  # too short to call a loop
    ],
)
def test_statuses(reply: Reply, status: str) -> None:
    found, reason = judge(reply)
    assert found == status
    assert (reason is None) == (status == "ok")
    row = answer_row("d", reply, "e/1", 0.1, 1)
    assert (row["text"] is None) == (status not in ("ok", "truncated"))


def test_the_limit_counts_only_entities_with_a_prompt() -> None:
    counts = {"ok": 9, "failed": 1, "no_text": 90}
    check_failures("item_answers", counts, ("failed",), 0.1)
    with pytest.raises(TooManyFailures, match=r"1 of 10 prompts failed \(failed 1\)"):
        check_failures("item_answers", counts, ("failed",), 0.09)
    check_failures("item_answers", {"no_text": 3}, ("failed",), 0.0)
    check_failures("item_answers", {"ok": 1, "empty": 1}, ("failed",), 0.0)


def _rows(**texts: str) -> pa.Table:
    return pa.Table.from_pylist([answer_row(d, Reply(t), "e/1", 0.0, 1) for d, t in texts.items()], schema=ANSWER)


def test_two_writers_and_compaction_leave_one_answer_per_digest(tmp_path: Path) -> None:
    cache = AnswerCache(Store(str(tmp_path)))
    cache.append(_rows(aa01="one", ab02="two"))
    cache.append(_rows(aa01="late", aa03="three"))
    found = cache.lookup(["aa01", "aa03", "ab02", "ff00", "aa99"])
    before = dict(zip(found.column("digest").to_pylist(), found.column("text").to_pylist(), strict=True))
    assert before.keys() == {"aa01", "aa03", "ab02"}
    assert before["aa01"] in ("one", "late")
    assert cache.compact("aa") == 2
    assert len(cache.store.names("cache", "answers", "aa")) == 1
    assert cache.lookup(["aa01", "aa03", "ab02"]).equals(found)
    assert cache.lookup([]).num_rows == 0
