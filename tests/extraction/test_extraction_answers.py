"""What becomes of a reply; the failure limit."""

import pytest

from trawl.errors import TooManyFailures
from trawl.extraction.answers import answer_row, check_failures, judge
from trawl.extraction.engines import Reply


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


def test_the_commonest_reasons_are_named_with_an_example() -> None:
    why = [
        {"count": 7, "status": "failed", "reason": "HTTP 429:\n slow down", "entity": 3, "digest": "ab12"},
        {"count": 2, "status": "too_long", "reason": "9,000 tokens", "entity": 4, "digest": "cd34"},
    ]
    with pytest.raises(TooManyFailures) as found:
        check_failures("item_answers", {"ok": 1, "failed": 7, "too_long": 2}, ("failed", "too_long"), 0.1, why)
    line = str(found.value)
    assert "7 x failed: HTTP 429: slow down (as entity 3, prompt ab12); 2 x too_long: 9,000 tokens" in line
    assert "\n" not in line
