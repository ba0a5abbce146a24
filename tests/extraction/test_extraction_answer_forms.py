"""JSON answers: the schema, the same lines as other answers, and what becomes of what does not fit or was cut."""

import json
from typing import Any

import pytest
from extraction_world import config

from trawl.errors import ConfigError
from trawl.extraction.answer_forms import as_lines, in_form, schema_of
from trawl.extraction.answers import judge
from trawl.extraction.engines import Reply, Settings, keys_of, label
from trawl.extraction.engines.vllm import VllmEngine
from trawl.extraction.key_factors import Factor, load_factors
from trawl.extraction.prompts import item_frame, user_frame

FACTORS = (
    Factor(name="Genre", question="Which?", kind="values", values=("drama",), limit=3),
    Factor(name="Plot", question="What?", kind="sentences", cues=("plot",)),
)


def read(tree: Any, finished: bool = True) -> Reply:
    return as_lines(Reply(tree if isinstance(tree, str) else json.dumps(tree), 5, 7, finished), FACTORS)


def test_the_schema_has_a_key_for_each_factor() -> None:
    schema = schema_of(FACTORS)
    assert schema["properties"]["Genre"] == {"type": "array", "items": {"type": "string"}, "maxItems": 3}
    assert schema["properties"]["Plot"] == {"type": "string"}
    assert (schema["required"], schema["additionalProperties"]) == (["Genre", "Plot"], False)


@pytest.mark.parametrize("name", ["", " ", "two\nlines", "a: b", "x" * 101, "bell\x07"])
def test_a_name_that_cannot_be_a_key_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"extraction\.output = json: the key factor .* cannot be a key"):
        schema_of([Factor(name=name, question="?", kind="sentences")])


def test_a_name_that_stands_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="'Plot' stands twice"):
        schema_of([*FACTORS, FACTORS[1]])


def test_json_becomes_the_same_lines() -> None:
    reply = read({"Genre": ["drama", "war", "drama", " "], "Plot": "A man\n waits.\u202e"})
    assert reply.text == "Genre: drama, war\nPlot: A man waits."
    assert judge(reply) == ("ok", None)


def test_an_empty_factor_has_no_line_and_none_at_all_is_empty() -> None:
    assert read({"Genre": [], "Plot": "It ends."}).text == "Plot: It ends."
    assert judge(read({"Genre": [], "Plot": " "}))[0] == "empty"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('{"Genre": ["drama", "wa', "Genre: drama, wa"),
        ('{"Genre": ["drama"], "Plot": "A man wai', "Genre: drama\nPlot: A man wai"),
        ('{"Genre": ["drama"], "Plot": "A man\\', "Genre: drama\nPlot: A man"),
        ('{"Genre": ["drama"], "Pl', "Genre: drama"),
    ],
)
def test_what_was_cut_is_read_as_far_as_it_goes(text: str, lines: str) -> None:
    reply = read(text, finished=False)
    assert reply.text == lines
    assert judge(reply) == ("truncated", "stopped at the token limit")


@pytest.mark.parametrize("text", ["{", '{"Ge', '{"Genre": [', "Genre", '{"Genre": 7'])
def test_what_was_cut_before_anything_was_said_is_empty(text: str) -> None:
    assert judge(read(text, finished=False))[0] == "empty"


@pytest.mark.parametrize(
    ("tree", "why"),
    [
        ("Genre: drama", "Expecting value"),
        (["Genre"], "a list and no object"),
        ({"Genre": ["drama"]}, "key 'Plot' is missing"),
        ({"Genre": ["drama"], "Plot": "x", "Price": "7"}, "unknown key 'Price'"),
        ({"Genre": "drama", "Plot": "x"}, "'Genre' is a str"),
        ({"Genre": [7], "Plot": "x"}, "'Genre' is a list that does not fit"),
        ({"Genre": [], "Plot": None}, "'Plot' is a NoneType"),
    ],
)
def test_what_does_not_fit_is_a_failed_row_with_its_reason(tree: Any, why: str) -> None:
    status, reason = judge(read(tree))
    assert status == "failed"
    assert reason is not None
    assert reason.startswith("not the JSON that was asked for: ")
    assert why in reason


def test_a_lone_surrogate_is_taken_out() -> None:
    assert read('{"Genre": ["dra\\ud83dma"], "Plot": ""}').text == "Genre: drama"


def test_an_error_stays_what_it_is() -> None:
    assert as_lines(Reply("", error="ValueError: too long"), FACTORS).error == "ValueError: too long"


def test_the_prompt_asks_for_the_form_that_is_wanted() -> None:
    cfg = config(engine="vllm", model="m", output="json").extraction
    for frame in (item_frame("Film", FACTORS), user_frame(["Film"], {"gender": ["F"]}, FACTORS)):
        asked = in_form(frame, FACTORS, cfg)
        assert asked.template == f"{frame.template}-json"
        assert frame.ask not in asked.tail
        assert '{"Genre": ["...", "..."], "Plot": "..."}' in asked.tail
        assert in_form(frame, FACTORS, config().extraction) is frame


def test_json_needs_an_engine_that_can_hold_to_it() -> None:
    with pytest.raises(ConfigError, match=r"extraction\.output = json needs extraction\.engine"):
        config(output="json")


def test_options_count_only_when_they_are_used(tmp_path: Any) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"1")
    plain = config(engine="vllm", model=str(tmp_path)).extraction
    used = config(engine="vllm", model=str(tmp_path), output="json", engine_arguments={"max_num_seqs": 8}).extraction
    assert not {"extraction.output", "extraction.engine_arguments"} & set(keys_of(plain))
    assert {"extraction.output", "extraction.engine_arguments"} <= set(keys_of(used))
    assert label(VllmEngine(plain)) != label(VllmEngine(used))
    assert Settings((), plain).extraction.engine_arguments == {}


def test_the_shipped_factors_have_a_schema() -> None:
    assert len(schema_of(load_factors("movies"))["required"]) == 9
