"""What a training reads, made of the tables; and what is published of it beside its weights."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from torch import Tensor

from trawl import uses
from trawl.config import Config
from trawl.inputs import Inputs
from trawl.model.bundle import precision
from trawl.model.lexicon import Knowledge, Lexicon
from trawl.model.recommender import Recommender
from trawl.schemas import TRAIN, VALID
from trawl.training.batches import kept_rows
from trawl.training.corpus import Tables, build_world, check_labels, coded, first_items, learn
from trawl.training.facts import Facts, facts_of
from trawl.training.loading import behaviour_of, samples_of, streams
from trawl.training.loop import Material, new_model
from trawl.training.partners import Partners

_KNOWN: dict[uses.Side, str] = {"user": "users", "item": "items"}


def tables(inputs: Inputs, cfg: Config) -> Tables:
    """The declared tables as arrays, memory-mapped where they are as long as the log."""
    splits = inputs.mapped("splits", ["part"]).column("part")
    train = pc.equal(splits, TRAIN).to_numpy()
    return Tables(
        user_fields=inputs.mapped("users", ["fields"]).column("fields"),
        item_fields=inputs.mapped("items", ["fields"]).column("fields"),
        log_user=inputs.array("log", "user"),
        log_item=inputs.array("log", "item"),
        log_rating=inputs.array("log", "rating"),
        log_label=inputs.array("log", "label"),
        train=np.concatenate([[False], train]),
        cutoff=np.concatenate([[0], inputs.array("splits", "cutoff")]),
        cold=np.concatenate([[False], inputs.array("cold_items", "cold")]) if inputs.has("cold_items") else None,
        knowledge={matrix: knowledge(inputs, matrix) for matrix in uses.matrices(cfg)},
    )


def knowledge(inputs: Inputs, matrix: uses.Matrix) -> Knowledge:
    """A frozen matrix, memory-mapped."""
    name, count = uses.MATRICES[matrix], inputs.count(_KNOWN[uses.OWNER[matrix]])
    text = np.zeros(count + 1, dtype=bool)
    text[inputs.array(name, "entity")] = inputs.array(name, "has_text")
    return Knowledge(matrix=inputs.vectors(name, count), text=text)


def material(inputs: Inputs, cfg: Config) -> tuple[Recommender, Material]:
    """An untrained model and all that its training reads; the same in every worker."""
    lexicon, found = learned(inputs, cfg)
    return new_model(lexicon.sizes(), cfg, found.start), found


def learned(inputs: Inputs, cfg: Config) -> tuple[Lexicon, Material]:
    """What training learns of the tables before its first step, and what it reads."""
    whole = tables(inputs, cfg)
    kept = kept_rows(whole)
    lexicon = learn(whole, kept, cfg)
    stream = streams(inputs, cfg)
    behaviour = behaviour_of(inputs, cfg, whole, kept, lexicon, stream)
    train, valid = (samples_of(inputs, behaviour, name, stream) for name in (TRAIN, VALID))
    check_labels(len(train), int(np.count_nonzero(train.label)), cfg)
    world = build_world(whole, lexicon, precision(cfg))
    seen = {"user": world.users.rows.numpy() > 0, "item": world.items.rows.numpy() > 0}
    partners = {side: _partners(inputs, cfg, side, seen[side]) for side in uses.SIDES if uses.weight(cfg, side) > 0}
    start = first_items(whole, lexicon, cfg.model.embedding) if uses.starts(cfg) else None
    return lexicon, Material(world=world, behaviour=behaviour, train=train, valid=valid, partners=partners, start=start)


@dataclass(frozen=True)
class About:
    """What is published of a training beside its weights."""

    lexicon: Lexicon
    codes: Mapping[str, Tensor]  # of the items' fields
    samples: int
    facts: dict[str, int] | None  # what is told of those that positives share


def about_of(lexicon: Lexicon, found: Material) -> About:
    """Of what a training in this process reads."""
    facts = found.partners["item"].facts if "item" in found.partners else None
    return About(lexicon, found.world.items.fields, len(found.train), None if facts is None else facts.told())


def surveyed(inputs: Inputs, cfg: Config) -> About:
    """The same of the tables, read a part at a time: for a driver, whose workers hold the training set.

    Raises InputError as they would, before they are started.
    """
    whole = tables(inputs, cfg)
    lexicon = learn(whole, kept_rows(whole), cfg)
    samples = liked = 0
    for part in inputs.each("samples", ["split", "label"]):
        labels = part["label"].filter(pc.equal(part["split"], TRAIN))
        samples, liked = samples + len(labels), liked + (pc.sum(labels).as_py() or 0)
    check_labels(samples, liked, cfg)
    facts = None
    if uses.shares_facts(cfg):
        seen = np.isin(np.arange(whole.items + 1), lexicon.items)
        facts = _facts(inputs, cfg, seen & _texts(inputs, cfg, "item")).told()
    return About(lexicon, coded(whole, lexicon, "item"), samples, facts)


def _partners(inputs: Inputs, cfg: Config, side: uses.Side, seen: npt.NDArray[np.bool_]) -> Partners:
    """`seen`: (count + 1,) bool, entities that training met: negatives and shared facts are of these alone."""
    training, table = cfg.training, f"{side}_positives"
    columns = [inputs.array(table, name) for name in ("anchor", "rank", "partner")]
    texts = _texts(inputs, cfg, side)
    by_score = training.positives > 1 and training.positive_sampling == "score"
    return Partners(
        (columns[0], columns[1], columns[2]),
        inputs.count(_KNOWN[side]),
        training.positives,
        texts,
        score=inputs.array(table, "score") if by_score else None,
        facts=_facts(inputs, cfg, seen & texts) if side == "item" and training.fact_positives else None,
        low=training.low_negatives if training.negatives == "low_swing" else 0,
        pool=seen,
    )


def _texts(inputs: Inputs, cfg: Config, side: uses.Side) -> npt.NDArray[np.bool_]:
    """(count + 1,) bool: entities that one of the adapters' sources knows."""
    return np.asarray(np.any([knowledge(inputs, matrix).text for matrix in uses.sources(cfg, side)], axis=0))


def _facts(inputs: Inputs, cfg: Config, usable: npt.NDArray[np.bool_]) -> Facts:
    columns = (inputs.each("facts"), cfg.training.fact_positives, inputs.count("items"), cfg.training.fact_cap)
    return facts_of(*columns, usable)
