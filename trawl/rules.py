"""What keys of several sections must agree on. Each rule yields a line that names the keys and what to set."""

from collections.abc import Callable, Iterator

from trawl import uses
from trawl.sections_all import Sections


def faults(cfg: Sections) -> Iterator[str]:
    """What does not fit together, the first of it first."""
    for rule in _RULES:
        yield from rule(cfg)


def _adapters(cfg: Sections) -> Iterator[str]:
    model = cfg.model
    users, items = (uses.adapts(cfg, side) for side in uses.SIDES)
    if "kg" in model.knowledge and model.side == "user" and model.injection != "none" and not items:
        yield "model.knowledge: kg is of items alone; set model.side to item or both, or leave kg out"
    both = model.side == "both" and model.injection != "none"
    if model.adapter == "hybrid" and (users or items) and not (both and users):
        yield (
            "model.adapter = hybrid shares experts between users and items, so both need texts: set model.side "
            "to both, model.injection to other than none and name text in model.knowledge, or take adapter moe"
        )


def _contrastive(cfg: Sections) -> Iterator[str]:
    training, kept = cfg.training, cfg.swing.top_k
    adapted = any(uses.adapts(cfg, side) for side in uses.SIDES)
    if cfg.model.adapter == "raw" and adapted and (training.w_user > 0 or training.w_item > 0):
        yield "model.adapter = raw has no parameters that a contrastive loss could train; set w_* to 0"
    if any(uses.weight(cfg, side) > 0 for side in uses.SIDES) and training.positives > kept:
        yield f"training.positives = {training.positives} is above swing.top_k = {kept}, so many of each are kept"


def _facts(cfg: Sections) -> Iterator[str]:
    facts = cfg.facts
    kg = "kg" in cfg.model.knowledge or (cfg.model.similarity and "kg" in cfg.model.similarity_of)
    if kg and not (facts.fields or facts.table):
        yield "facts.fields = false leaves no facts for kg; set it to true or name a facts.table"
    for name in cfg.model.ignored_fields:
        if kg and facts.fields and name in facts.relations:
            yield f"facts.relations names {name!r}, which model.ignored_fields keeps from the model; take it out of one"


def _stars(cfg: Sections) -> Iterator[str]:
    answers = cfg.extraction.base == "extracted" and cfg.extraction.family != "trawl"
    if cfg.model.features == "ids" and answers and uses.adapts(cfg, "user"):
        yield (
            f"model.features = ids keeps what ratings say from the model, and extraction.family = "
            f"{cfg.extraction.family} writes them into the users' prompts; set model.side to item, or features to full"
        )


def _engines(cfg: Sections) -> Iterator[str]:
    extraction, base = cfg.extraction, cfg.extraction.base
    if base == "given" and not extraction.given:
        yield "extraction.given is needed: a Parquet file with the columns item_id, text"
    if extraction.engine == "vllm" and base != "none" and cfg.resources.executor == "inline":
        yield "extraction.engine = vllm runs on Ray only; set resources.executor to ray"
    if extraction.engine != "vllm" and base == "extracted" and extraction.output != "lines":
        yield "extraction.output = json needs extraction.engine = vllm, which holds answers to a schema"
    if extraction.engine == "http" and base != "none":
        if not cfg.http.base_url:
            yield "http.base_url is needed: the endpoint that extraction.engine = http asks"
        if not extraction.model:
            yield "extraction.model is needed: the model's name at http.base_url"


def _resources(cfg: Sections) -> Iterator[str]:
    if cfg.resources.launcher == "task" and cfg.resources.training_workers > 1:
        yield "resources.launcher = task trains on one worker; set it to ray_train for training_workers > 1"


_RULES: tuple[Callable[[Sections], Iterator[str]], ...] = (
    _adapters,
    _contrastive,
    _facts,
    _stars,
    _resources,
    _engines,
)
