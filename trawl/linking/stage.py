"""The stages `knowledge`: items -> entities of the knowledge base; and `facts`: what is known of each item."""

import pyarrow as pa
import pyarrow.compute as pc

from trawl.config import Config
from trawl.inputs import Inputs
from trawl.linking.edit_distance import Labels, Linker
from trawl.linking.facts import FACTS
from trawl.stage import Stage, Task, always, per_part


class LinkWorker:
    """Normalises the labels once, then links part after part of the items."""

    def __init__(self, inputs: Inputs, cfg: Config) -> None:
        self.inputs = inputs
        self.entities = inputs.mapped("entities", ["entity_id", "label", "year", "text"])
        keys = cfg.linking
        self.linker = Linker(
            Labels.build(self.entities, decode=keys.decode_labels),
            threshold=keys.threshold,
            year_tolerance=keys.year_tolerance,
            candidates=keys.candidates,
        )

    def __call__(self, task: Task) -> pa.Table:
        items = self.inputs.part("items", task.number, ["item", "title", "year"])
        links = self.linker.link(items.rename_columns(["id", "title", "year"]))
        where = pc.index_in(links.column("entity_id"), value_set=self.linker.labels.ids, skip_nulls=True)
        texts = self.entities.column("text").take(where)
        return pa.table(
            {
                "item": items.column("item"),
                "rank": links.column("rank"),
                "entity_id": links.column("entity_id"),
                "text": texts,
                "similarity": links.column("similarity"),
                "method": links.column("method"),
                "ties": links.column("ties"),
            }
        )


STAGES = (
    Stage(
        artifact="knowledge",
        version=1,
        reads=always("items", "entities"),
        keys=always("linking.threshold", "linking.year_tolerance", "linking.candidates", "linking.decode_labels"),
        plan=per_part("items"),
        worker=LinkWorker,
        covers="items",
    ),
    FACTS,
)
