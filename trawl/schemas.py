"""Every table contract in one place: Arrow schema, key, what may be null, version.

An index (`user`, `item`, `entity`) is int64, 1..n; 0 means unknown and never stands in a table as a key.
Text is large_string, so that a part may hold more than 2 GiB of it. Rows of a part are sorted by the key.
"""

from dataclasses import dataclass, field

import pyarrow as pa

TEXT = pa.large_string()
INDEX = pa.int64()
FIELDS = pa.map_(pa.string(), pa.list_(pa.string()))  # field name -> its values; a categorical field has one
TRAIN, VALID, TEST = "train", "valid", "test"

# The statuses of an answer. Only `ok` and `truncated` carry text.
STATUSES = (
    *("ok", "truncated", "empty", "refused", "repetitive", "too_long", "failed", "skipped", "no_text"),
    "ungrounded",  # its text stays in the answer cache
)

PLANS = ("whole", "middle", "sections", "chunks", "skip")  # of a prompt whose texts had to fit


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What a table promises. `nullable` names the columns that may hold nulls; `status` the one that is counted."""

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    version: int = 1
    nullable: frozenset[str] = frozenset()
    status: str | None = None
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)  # column -> the only values allowed


def _contract(name: str, key: str, columns: dict[str, pa.DataType], **rest: object) -> Contract:
    return Contract(name=name, schema=pa.schema(list(columns.items())), key=tuple(key.split()), **rest)  # type: ignore[arg-type]


_PROMPTS: dict[str, pa.DataType] = {
    "entity": INDEX,
    "step": pa.int32(),
    "chunk": pa.int32(),
    "digest": pa.string(),  # of template, factors, texts, sampling, engine and model: the key of the answer cache
    "template": pa.string(),
    "items": pa.list_(INDEX),  # which the prompt cites, in the order they stand in it
    "text_digests": pa.list_(pa.string()),  # of the items' texts; none where the family cites no text
    "plan": pa.string(),  # whole, middle, sections, chunks, skip: what was done so that the texts fit
    "kept": pa.list_(pa.int32()),  # tokens kept of each text: the clip plan
    "ranges": pa.list_(pa.list_(pa.int32())),  # characters kept of each, first and last by turns; empty: as `kept` says
    "there": pa.int64(),  # tokens of the texts that this prompt answers for; over an entity's chunks: of all its texts
    "cut": pa.int64(),  # tokens of these that the clip plan leaves out
    "texts_cut": pa.int32(),  # texts of which something is left out
    "chunks": pa.int32(),  # prompts that the entity's texts are divided over; what merges their answers has no row here
    "tokens": pa.int64(),  # tokens of the whole prompt as rendered, of a skipped one as it would be
    "cutoff": INDEX,  # users: the texts come from positions before this one; items: 0
    "ratings": pa.list_(pa.float32()),  # users whose history is stated: of each item; or 1 liked, 0 not; else null
}
_ANSWERS: dict[str, pa.DataType] = {
    "entity": INDEX,
    "status": pa.string(),
    "reason": pa.string(),
    "text": TEXT,
    "tokens_in": pa.int64(),
    "tokens_out": pa.int64(),
    "attempts": pa.int32(),
    "seconds": pa.float64(),
    "engine": pa.string(),
    "digest": pa.string(),  # of the prompt; null where no prompt was made
}
# Which look at the user's behaviour an answer was made for; an earlier one may serve (refresh.user).
_USER_ANSWERS: dict[str, pa.DataType] = {**_ANSWERS, "cutoff": INDEX}  # the prompt's; null where no prompt was made
# What of an answer stands in what its prompt showed; derived from both, so it stands in the answers and in no cache.
GROUNDING: dict[str, pa.DataType] = {
    "mentions": pa.int32(),  # distinct names, numbers and titles in the answer; null where it was not looked at
    "grounded": pa.float64(),  # the share of them that was read; null without any
    "unsupported": pa.list_(TEXT),  # the others, as the answer has them
}
_EMBEDDINGS: dict[str, pa.DataType] = {
    "entity": INDEX,
    "vector": pa.list_(pa.float16()),  # the length is the encoder's; one length per artifact
    "has_text": pa.bool_(),
    "tokens_read": pa.int64(),
    "tokens_there": pa.int64(),
}
_POSITIVES: dict[str, pa.DataType] = {
    "anchor": INDEX,
    "rank": pa.int32(),  # from 0
    "partner": INDEX,
    "score": pa.float64(),
    "shared": pa.int64(),
}

_VECTORS: dict[str, pa.DataType] = {
    "entity": INDEX,
    "vector": pa.list_(pa.float32()),  # unit norm; without text the model's default vector; zero where that is zero
    "norm": pa.float32(),  # of the adapter's output: vector * norm is what the model reads
    "has_text": pa.bool_(),
}

CONTRACTS: dict[str, Contract] = {
    c.name: c
    for c in (
        _contract("users", "user", {"user": INDEX, "user_id": pa.string(), "fields": FIELDS}),
        _contract(
            "items",
            "item",
            {"item": INDEX, "item_id": pa.string(), "title": TEXT, "year": pa.int32(), "fields": FIELDS},
            nullable=frozenset({"year"}),
        ),
        _contract(
            "log",
            "user position",
            {
                "user": INDEX,
                "position": INDEX,
                "item": INDEX,
                "rating": pa.float32(),
                "time": INDEX,
                "label": pa.bool_(),
            },
        ),
        _contract("cutoffs", "user", {"user": INDEX, "cutoff": INDEX, "events": INDEX}),
        _contract(
            "splits",
            "user",
            {"user": INDEX, "part": pa.string(), "cutoff": INDEX},
            values={"part": (TRAIN, VALID, TEST)},
        ),
        _contract("cold_items", "item", {"item": INDEX, "cold": pa.bool_()}),
        _contract(
            "samples",
            "user position",
            {"user": INDEX, "position": INDEX, "item": INDEX, "label": pa.bool_(), "split": pa.string()},
            values={"split": (TRAIN, VALID, TEST)},
        ),
        _contract(
            "entities",
            "entity",
            {"entity": INDEX, "entity_id": pa.string(), "label": TEXT, "year": pa.int32(), "text": TEXT},
            nullable=frozenset({"year", "text"}),
        ),
        _contract("truth", "item", {"item": INDEX, "entity_ids": pa.list_(pa.string())}),
        _contract(
            "knowledge",
            "item rank",
            {
                "item": INDEX,
                "rank": pa.int32(),
                "entity_id": pa.string(),
                "text": TEXT,
                "similarity": pa.float64(),
                "method": pa.string(),
                "ties": pa.int32(),  # other entities that were just as good
            },
            nullable=frozenset({"entity_id", "text", "similarity"}),
            status="method",
        ),
        _contract(
            "item_texts",
            "item",
            {"item": INDEX, "text": TEXT, "digest": pa.string(), "tokens": pa.int64()},
            nullable=frozenset({"text", "digest"}),
        ),
        *(
            _contract(
                name,
                "entity step chunk",
                _PROMPTS,
                version=2,
                nullable=frozenset({"ratings"}),
                values={"plan": PLANS},
            )
            for name in ("item_prompts", "user_prompts")
        ),
        *(
            _contract(
                name,
                "entity",
                columns | GROUNDING,
                version=version,
                nullable=frozenset({"text", "reason", "digest", "cutoff", *GROUNDING}),
                status="status",
                values={"status": STATUSES},
            )
            for name, columns, version in (("item_answers", _ANSWERS, 2), ("user_answers", _USER_ANSWERS, 3))
        ),
        _contract("facts", "entity relation value", {"entity": INDEX, "relation": TEXT, "value": TEXT}),  # of items
        _contract("fact_embeddings", "entity", _EMBEDDINGS),  # tokens are facts
        _contract("item_embeddings", "entity", _EMBEDDINGS),
        _contract("user_embeddings", "entity", _EMBEDDINGS),
        _contract("item_positives", "anchor rank", _POSITIVES),
        _contract("user_positives", "anchor rank", _POSITIVES),
        _contract("item_vectors", "entity", _VECTORS),
        _contract("user_vectors", "entity", _VECTORS),
        _contract(
            "item_neighbours",
            "item rank",
            {
                "item": INDEX,
                "rank": pa.int32(),  # from 0
                "neighbour": INDEX,
                "similarity": pa.float64(),  # cosine
            },
        ),
        _contract(
            "predictions",
            "user position",
            {
                "user": INDEX,
                "position": INDEX,
                "item": INDEX,
                "split": pa.string(),
                "label": pa.bool_(),
                "cold": pa.bool_(),
                "item_count": pa.int64(),  # interactions of training users with the item
                "user_count": pa.int64(),  # all of the user's own, before the cut-off and after it
                "has_text": pa.bool_(),  # the item has a vector of knowledge; null in a model that reads none
                "score": pa.float64(),
            },
            version=3,
            nullable=frozenset({"has_text"}),
            values={"split": (TRAIN, VALID, TEST)},
        ),
    )
}
