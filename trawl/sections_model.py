"""The recipe's section `model`: backbone, features, adapter, injection."""

from typing import Annotated, Literal

from pydantic import Field

from trawl.sections import Section, Share


class Model(Section):
    """Backbone, features, adapter, injection."""

    backbone: Literal["din", "deepfm"] = "din"
    embedding: Annotated[int, Field(ge=1)] = 32
    hidden: tuple[int, ...] = (200, 80)
    attention: Annotated[tuple[int, ...], Field(min_length=1)] = (32,)  # hidden layers of DIN's attention unit
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    history: Annotated[int, Field(ge=1)] = 10  # most recent positions before the sample
    history_ratings: bool = True
    rate_feature: bool = True  # the user's share of liked items before the cut-off, in 13 bins
    id_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05  # share of ids read as unknown in a training batch
    user_id_dropout: Share = 0.5  # the same for user ids: under a split by users every scored user is unknown
    value_users: Annotated[int, Field(ge=1)] = 20  # users that share a profile value; rarer ones act as user ids
    injection: Literal["none", "replace", "add"] = "replace"  # T: [id ; adapted] replaces the id embedding
    side: Literal["item", "user", "both"] = "both"
    adapter: Literal["raw", "linear", "mlp", "moe"] = "moe"
    adapter_dim: Annotated[int, Field(ge=1)] = 32
    experts: Annotated[int, Field(ge=1)] = 4
    expert_hidden: Annotated[int, Field(ge=1)] = 64
    similarity: bool = False  # parameter-free similarity features of the frozen item vectors
    similarity_dim: Annotated[int, Field(ge=1)] = 64  # PCA size of those vectors
    adapted_similarity: bool = False  # the same on the adapter's outputs
