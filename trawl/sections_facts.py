"""The recipe's section `facts`: what is known of items as (relation, value), and its vectors."""

from typing import Annotated, Literal

from pydantic import Field

from trawl.sections import Section, Seed


class Facts(Section):
    """Facts of items: their own fields, and a table of the user's."""

    fields: bool = True  # the items' own fields are facts: of field -> value
    table: str = ""  # Parquet file or folder of relation, value and item_id or entity_id, path or URI; empty: none
    of: Literal["item", "entity"] = "entity"  # whom the table is about: items, or entities that items are linked to
    relations: tuple[str, ...] = ()  # facts of these relations alone, as ["genres"]; empty: of all
    # Of the vectors: every fact is a direction drawn from its hash, and every relation of an item weighs the same.
    dimension: Annotated[int, Field(ge=8, le=8192)] = 256  # of the hashed vectors of facts
    seed: Seed = 0  # of the hashing
