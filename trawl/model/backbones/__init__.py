"""CTR backbones by name. Each is built from (Shape, config.Model) and maps Encoded to logits (B,)."""

from trawl.errors import ConfigError
from trawl.model.backbones.base import Backbone
from trawl.model.backbones.deepfm import DeepFm
from trawl.model.backbones.din import Din

BACKBONES: dict[str, type[Backbone]] = {"din": Din, "deepfm": DeepFm}


def backbone(name: str) -> type[Backbone]:
    """The backbone class of that name. Raises ConfigError with the names there are."""
    if name not in BACKBONES:
        raise ConfigError(f"model.backbone: no backbone {name!r}; there are {', '.join(BACKBONES)}")
    return BACKBONES[name]
