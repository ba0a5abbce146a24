"""The config keys that change a trained model, as few as the recipe allows. Light: read without torch.

Keys of what is switched off are no keys: without knowledge, arms that differ in adapter, injection or the weights of
the contrastive losses are one and the same model.
"""

from trawl import uses
from trawl.config import Config
from trawl.sections_model import Model

_ALWAYS = (
    *(f"model.{k}" for k in ("backbone", "embedding", "history", "id_dropout", "user_id_dropout", "value_users")),
    *(
        f"training.{k}"
        for k in ("batch_size", "epochs", "patience", "lr", "warmup", "weight_decay", "seed", "precision")
    ),
)
_OF_ADAPTER = {
    "raw": (),
    "linear": ("adapter_dim",),
    "mlp": ("adapter_dim", "expert_hidden"),
    "moe": ("adapter_dim", "experts", "expert_hidden"),
    "hybrid": ("adapter_dim", "shared_experts", "dedicated_experts", "expert_hidden"),
}
_DEFAULTS = Config().model
# What the absence of a key means to who reads a card, whatever the defaults of recipes are.
OFF: dict[str, object] = {"model.similarity": False, "model.adapted_similarity": False, "model.init": "random"}
_DEEP = ("hidden", "dropout")
_OF_BACKBONE: dict[str, tuple[str, ...]] = {
    "din": (*_DEEP, "attention"),
    "dien": (*_DEEP, "recurrent", "dien_auxiliary"),
    "deepfm": _DEEP,
    "dcn": (*_DEEP, "cross_layers"),
    "dcnv2": (*_DEEP, "cross_layers", "cross_rank"),
    "xdeepfm": (*_DEEP, "cin"),
    "fibinet": (*_DEEP, "bilinear", "senet_ratio"),
    "fignn": ("graph_steps",),
    "autoint": (*_DEEP, "attention_layers", "heads", "head_width"),
}


def keys(cfg: Config) -> tuple[str, ...]:
    """Dotted keys, for Stage.keys and for the bundle."""
    out = [*_ALWAYS, *(f"model.{key}" for key in _backbone(cfg.model))]
    out += ["model.history_ratings", "model.rate_feature"] if uses.stars(cfg) else ["model.features"]
    out += ["model.numeric_fields", "model.numeric_bins"] if cfg.model.numeric_fields else []
    out += ["model.ignored_fields"] if cfg.model.ignored_fields else []
    sides = [side for side in uses.SIDES if uses.adapts(cfg, side)]
    if uses.knowledge(cfg):
        out += ["model.injection"]
    if sides:
        out += ["model.side", "model.knowledge", "training.adapter_lr"]
        out += [f"model.{k}" for k in ("adapter", *_OF_ADAPTER[cfg.model.adapter])]
        out += [f"model.{k}" for k in ("knowledge_dim", "history_knowledge", "expert_last") if _changed(cfg, k)]
    if any(len(uses.sources(cfg, side)) > 1 for side in sides):
        out += ["model.combine"]
    if uses.similarity(cfg):
        out += ["model.similarity", "model.similarity_of", "model.similarity_dim"]
        out += ["model.similarity_field"] if "genre" in uses.similar(cfg) else []
    if uses.adapted_similarity(cfg):
        out += ["model.adapted_similarity"]
    if uses.starts(cfg):
        out += ["model.init"]
    contrastive = [side for side in sides if uses.weight(cfg, side) > 0]
    out += [f"training.w_{side}" for side in contrastive]
    if contrastive:
        out += [f"training.{k}" for k in ("temperature", "reduction", "anchors", "positives")]
        out += [f"training.{k}" for k in _contrastive(cfg, contrastive)]
    if cfg.training.compile:
        out += ["training.compile"]
    return tuple(out)


def _contrastive(cfg: Config, sides: list[uses.Side]) -> list[str]:
    """Options of the contrastive loss that are switched on."""
    training = cfg.training
    out = ["positive_sampling"] if training.positives > 1 and training.positive_sampling != "uniform" else []
    out += ["fact_positives", "fact_cap"] if training.fact_positives and "item" in sides else []
    out += ["negatives", "low_negatives"] if training.negatives != "batch" else []
    out += ["temperature_learned", "temperature_bounds"] if training.temperature_learned else []
    return out + (["weights_learned"] if training.weights_learned else [])


def _changed(cfg: Config, key: str) -> bool:
    """An option that changes nothing until it is set, in a recipe where it has something to change."""
    if key == "expert_last" and cfg.model.adapter not in ("moe", "hybrid"):
        return False
    return bool(getattr(cfg.model, key) != getattr(_DEFAULTS, key))


def _backbone(model: Model) -> list[str]:
    """Keys that the backbone reads: of somebody's own every one that any backbone reads, for it is given them all."""
    if model.backbone not in _OF_BACKBONE:
        every = {key for keys in _OF_BACKBONE.values() for key in keys}
        return ["backbone_arguments", "cross_experts", *sorted(every)]
    mixture = ["cross_experts"] if model.backbone == "dcnv2" and model.cross_rank else []
    return [*_OF_BACKBONE[model.backbone], *mixture]
