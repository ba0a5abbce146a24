"""The recipe's section `model`: backbone, features, adapter, injection."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from trawl.sections import Section, Share

BACKBONES = ("din", "dien", "deepfm", "dcn", "dcnv2", "xdeepfm", "fibinet", "fignn", "autoint")
_OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
Width = Annotated[int, Field(ge=1)]
KnowledgeSource = Literal["text", "kg"]
SimilaritySource = Literal["text", "kg", "genre", "cf"]


class Model(Section):
    """Backbone, features, adapter, injection.

    The defaults are what was best on MovieLens-1M (docs/movielens.md), with `adapted_similarity` and `training.w_item =
    0.004` as the step beyond; the papers' own values are recipes (`paper`, `kellmrec`, `kar`).
    """

    backbone: str = "din"  # one of BACKBONES, or a torch module of your own as "package.module:Class"
    backbone_arguments: dict[str, Any] = Field(default_factory=dict)  # for your own backbone alone
    embedding: Annotated[int, Field(ge=1)] = 32  # width of each field's embedding
    hidden: tuple[Width, ...] = (200, 80)  # layers of the DNN
    attention: Annotated[tuple[Width, ...], Field(min_length=1)] = (32,)  # hidden layers of DIN's attention unit
    recurrent: Annotated[int, Field(ge=1)] = 64  # DIEN: units of both GRUs
    dien_auxiliary: Annotated[float, Field(ge=0)] = 0.0  # weight of DIEN's auxiliary loss; its paper has 1
    cross_layers: Annotated[int, Field(ge=1)] = 3  # DCN, DCNv2
    cross_rank: Annotated[int, Field(ge=0)] = 0  # DCNv2: rank of the mixture's matrices; 0: one full matrix a layer
    cross_experts: Annotated[int, Field(ge=1)] = 4  # DCNv2: matrices of the mixture
    cin: Annotated[tuple[Width, ...], Field(min_length=1)] = (50, 50)  # xDeepFM: maps per layer
    bilinear: Literal["all", "each", "interaction"] = "interaction"  # FiBiNet: which pairs of fields share a matrix
    senet_ratio: Annotated[int, Field(ge=1)] = 3  # FiBiNet: fields per unit of the excitation
    graph_steps: Annotated[int, Field(ge=1)] = 3  # Fi-GNN
    attention_layers: Annotated[int, Field(ge=1)] = 3  # AutoInt
    heads: Annotated[int, Field(ge=1)] = 2  # AutoInt
    head_width: Annotated[int, Field(ge=1)] = 32  # AutoInt
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # in the DNN
    history: Annotated[int, Field(ge=1)] = 10  # most recent positions before the sample
    # ids: nothing that a user's ratings say, whatever the two keys below: no stars in the history, no rate of liking,
    # similarities to all items seen instead of the liked and the disliked ones. Fields of users and items stay.
    features: Literal["full", "ids"] = "full"
    history_ratings: bool = True  # the history says how each item was rated
    rate_feature: bool = True  # the user's share of liked items before the cut-off, in 13 bins
    numeric_fields: tuple[str, ...] = ()  # fields of users or items that are numbers, as ["year"]
    numeric_bins: Annotated[int, Field(ge=2)] = 16  # buckets of each, at quantiles of training's values
    ignored_fields: tuple[str, ...] = ()  # fields of users or items that the model is not to read, as ["gender"]
    id_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05  # share of ids read as unknown in a training batch
    user_id_dropout: Share = 0.5  # the same for user ids: under a split by users every scored user is unknown
    value_users: Annotated[int, Field(ge=1)] = 20  # users that share a profile value; rarer ones act as user ids
    # T (replace): [id ; adapted] replaces the id embedding; add: id + projected adapted vector; K (concat): beside the
    # dense features that go into the DNN; R (fields): two feature fields more
    injection: Literal["none", "replace", "add", "concat", "fields"] = "add"
    history_knowledge: bool = True  # replace, add: knowledge of the items of the history too; off: the target's alone
    side: Literal["item", "user", "both"] = "item"  # user: vectors of users act as user ids where users are split
    # What the adapters read: text = vectors of the texts of extraction.source; kg = vectors of the items' facts
    knowledge: Annotated[tuple[KnowledgeSource, ...], Field(min_length=1)] = ("text",)
    combine: Literal["concat", "gate"] = "concat"  # of the sources of an item, each with an adapter of its own
    knowledge_dim: Annotated[int, Field(ge=0)] = 0  # PCA size of the vectors that adapters read (R: 64); 0: as encoded
    init: Literal["random", "llm"] = "random"  # llm: item id embeddings start from their texts' vectors (LLM2DIN)
    adapter: Literal["raw", "linear", "mlp", "moe", "hybrid"] = "moe"
    adapter_dim: Annotated[int, Field(ge=1)] = 32  # width of the adapted vector
    experts: Annotated[int, Field(ge=1)] = 4  # moe
    shared_experts: Annotated[int, Field(ge=1)] = 2  # hybrid: of both sides; R has 2 to 5
    dedicated_experts: Annotated[int, Field(ge=1)] = 2  # hybrid: of each side; R has 2 to 6
    expert_hidden: Annotated[int, Field(ge=1)] = 64  # moe, hybrid, mlp; R: 128, with adapter_dim = 32
    expert_last: Literal["linear", "relu"] = "linear"  # moe, hybrid: relu as in KAR's code, where cosines are >= 0
    similarity: bool = True  # parameter-free similarity features of frozen item vectors
    # Vectors of the items' texts, of their facts, of their genres (a 1 for each), or of an SVD of the training users'
    # likes. DIN's attention reads the similarities of the first to the history.
    similarity_of: Annotated[tuple[SimilaritySource, ...], Field(min_length=1)] = ("text",)
    similarity_field: str = "genres"  # genre: the items' field whose values two items share or do not
    similarity_dim: Annotated[int, Field(ge=1)] = 64  # PCA or SVD size of those vectors
    adapted_similarity: bool = False  # the same on the adapter's outputs

    @field_validator("backbone")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in BACKBONES and not _OWN.fullmatch(name):
            names = ", ".join(BACKBONES)
            raise ValueError(f"no backbone {name!r}; there are {names}, or your own as package.module:Class")
        return name

    @field_validator("knowledge", "similarity_of")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError(f"{', '.join(names)}: name each source once")
        return names

    @model_validator(mode="after")
    def _fields_read(self) -> Self:
        genre = (self.similarity_field,) if self.similarity and "genre" in self.similarity_of else ()
        for name in self.ignored_fields:
            if name in (*self.numeric_fields, *genre):
                raise ValueError(
                    f"model.ignored_fields: {name!r} is read by model.numeric_fields or the genre similarity"
                )
        return self

    @model_validator(mode="after")
    def _target_alone(self) -> Self:
        if not self.history_knowledge and self.injection not in ("replace", "add"):
            raise ValueError(
                f"model.history_knowledge = false needs model.injection = replace or add; {self.injection} puts no "
                "knowledge into the history"
            )
        return self
