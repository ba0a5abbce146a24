"""A small whole run that tests share: every stage of the pipeline on a tiny synthetic world, in one process."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from trawl import pipeline
from trawl.config import Config
from trawl.executors import Inline
from trawl.inputs import Inputs
from trawl.stage import Outcome
from trawl.store import Store

# TRAWL's injection of users and items, with nothing else that reads their vectors.
REPLACE = ("model.injection=replace", "model.side=both", "model.similarity=false")

SETTINGS = (
    "name=small",
    "data.synthetic.users=60",
    "data.synthetic.items=40",
    "data.synthetic.distractors=20",
    "data.synthetic.events_per_user=20",
    "data.partitions=3",
    "data.cutoff_max=6",
    "data.cold_items=0.1",
    "extraction.source=extracted",
    "extraction.user_items=4",
    "encoding.dimension=16",
    "swing.top_k=3",
    "model.embedding=4",
    "model.hidden=[8]",
    "model.history=4",
    "model.adapter_dim=4",
    "model.experts=2",
    "model.expert_hidden=4",
    *REPLACE[:2],
    "model.similarity=true",
    "model.similarity_dim=4",
    "training.epochs=1",
    "training.batch_size=128",
    "training.w_user=0.01",
    "training.w_item=0.01",
    "training.anchors=16",
    "resources.executor=inline",
    "resources.launcher=task",
    "resources.batch_rows=8",
)

# With these on top, every stage of the pipeline has something to do.
EVERY = ("model.knowledge=['text', 'kg']",)


def config(*more: str) -> Config:
    return Config().override(*SETTINGS, *more)


def run_all(store: Store, cfg: Config, executor: Any = None) -> dict[str, Outcome]:
    """Run the whole pipeline; outcomes by artifact."""
    outcomes: dict[str, Outcome] = {}
    plan = pipeline.plan(cfg)
    pipeline.run(plan, store, executor or Inline(), lambda o: outcomes.update({o.artifact: o}))
    return outcomes


def copy_store(store: Store, to: Path, *without: str) -> Store:
    """A copy of a local store, some artifacts left out."""
    shutil.copytree(store.root, to, ignore=shutil.ignore_patterns(*without))
    return Store(str(to))


def table(store: Store, marks: Mapping[str, str], artifact: str) -> pa.Table:
    return Inputs(store, marks).table(artifact)
