"""CTR backbones by name. Each is built from (Shape, config.Model) and maps Encoded to logits (B,)."""

from torch import nn

from trawl.errors import ConfigError
from trawl.model.backbones import own
from trawl.model.backbones.autoint import AutoInt
from trawl.model.backbones.base import Backbone, Shape
from trawl.model.backbones.dcn import Dcn
from trawl.model.backbones.dcnv2 import DcnV2
from trawl.model.backbones.deepfm import DeepFm
from trawl.model.backbones.dien import Dien
from trawl.model.backbones.din import Din
from trawl.model.backbones.fibinet import FiBiNet
from trawl.model.backbones.fignn import FiGnn
from trawl.model.backbones.xdeepfm import XDeepFm
from trawl.sections_model import Model

BACKBONES: dict[str, type[Backbone]] = {
    "din": Din,
    "dien": Dien,
    "deepfm": DeepFm,
    "dcn": Dcn,
    "dcnv2": DcnV2,
    "xdeepfm": XDeepFm,
    "fibinet": FiBiNet,
    "fignn": FiGnn,
    "autoint": AutoInt,
}


def backbone(name: str) -> type[Backbone]:
    """The backbone class of that name. Raises ConfigError with the names there are."""
    if name not in BACKBONES:
        raise ConfigError(f"model.backbone: no backbone {name!r}; there are {', '.join(BACKBONES)}")
    return BACKBONES[name]


def build(shape: Shape, cfg: Model) -> nn.Module:
    """The backbone that the recipe names, ours or somebody's own. Raises ConfigError for one that is not there."""
    return own.build(shape, cfg) if own.is_own(cfg.backbone) else backbone(cfg.backbone)(shape, cfg)
