"""The config keys that change a trained model, as few as the recipe allows. Light: read without torch.

Keys of what is switched off are no keys: without knowledge, arms that differ in adapter, injection or the weights of
the contrastive losses are one and the same model.
"""

from trawl.config import Config
from trawl.model import uses

_ALWAYS = (
    *(f"model.{k}" for k in ("backbone", "embedding", "hidden", "attention", "dropout", "history", "history_ratings")),
    *(f"model.{k}" for k in ("rate_feature", "id_dropout", "user_id_dropout", "value_users")),
    *(
        f"training.{k}"
        for k in ("batch_size", "epochs", "patience", "lr", "warmup", "weight_decay", "seed", "precision")
    ),
)


def keys(cfg: Config) -> tuple[str, ...]:
    """Dotted keys, for Stage.keys and for the bundle."""
    out = [key for key in _ALWAYS if key != "model.attention" or cfg.model.backbone == "din"]
    sides = [side for side in uses.SIDES if uses.adapts(cfg, side)]
    if uses.knowledge(cfg):
        out += ["model.injection"]
    if sides:
        out += ["model.side", "model.adapter", "training.adapter_lr"]
    if sides and cfg.model.adapter != "raw":
        out += ["model.adapter_dim"]
    if sides and cfg.model.adapter == "moe":
        out += ["model.experts", "model.expert_hidden"]
    if sides and cfg.model.adapter == "mlp":
        out += ["model.expert_hidden"]
    if uses.similarity(cfg):
        out += ["model.similarity", "model.similarity_dim"]
    if uses.adapted_similarity(cfg):
        out += ["model.adapted_similarity"]
    contrastive = [side for side in sides if uses.weight(cfg, side) > 0]
    out += [f"training.w_{side}" for side in contrastive]
    if contrastive:
        out += [f"training.{k}" for k in ("temperature", "reduction", "anchors", "positives")]
        out += [f"training.{k}" for k in _contrastive(cfg, contrastive)]
    return tuple(out)


def _contrastive(cfg: Config, sides: list[uses.Side]) -> list[str]:
    """Options of the contrastive loss that are switched on."""
    training = cfg.training
    out = ["positive_sampling"] if training.positives > 1 and training.positive_sampling != "uniform" else []
    out += ["fact_positives", "fact_cap"] if training.fact_positives and "item" in sides else []
    out += ["negatives", "low_negatives"] if training.negatives != "batch" else []
    out += ["temperature_learned", "temperature_bounds"] if training.temperature_learned else []
    return out + (["weights_learned"] if training.weights_learned else [])
