"""The recipe: frozen, strict, typed sections, read from TOML, changed by one function for the CLI and for searches.

Every key that changes a result is hashed into the fingerprints of the stages that read it (`Stage.keys`).
What only says where and how fast the work runs stands under `resources` and is never hashed.
"""

import difflib
import hashlib
import json
import tomllib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trawl.errors import ConfigError

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Source = Literal["none", "raw", "extracted", "given", "shuffled"]


class Section(BaseModel):
    """One table of the recipe: immutable, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Synthetic(Section):
    """Size and character of the embedded world (data/synthetic)."""

    users: Annotated[int, Field(ge=10)] = 1200
    items: Annotated[int, Field(ge=10)] = 600
    events_per_user: Annotated[int, Field(ge=4)] = 70
    distractors: Annotated[int, Field(ge=0)] = 600  # entities of the knowledge base that no item means
    unlinked: Share = 0.04  # items whose page is not in the knowledge base
    empty_pages: Share = 0.05  # pages without text
    noise: Annotated[float, Field(ge=0)] = 2.0  # irrelevant sentences per relevant one
    misspelt: Share = 0.05  # item titles one or two letters away from their page's
    seed: int = 0


class Data(Section):
    """Raw behaviour -> users, items, log, cut-offs, splits, samples."""

    source: Literal["synthetic", "movielens"] = "synthetic"
    path: str = ""  # movielens: folder of ratings.dat, users.dat, movies.dat
    check_counts: bool = True  # movielens: refuse other counts than MovieLens-1M's
    partitions: Annotated[int, Field(ge=1, le=4096)] = 4  # parts of every table; the numbering of ids depends on it
    like_above: float = 3.0  # label = rating > like_above
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)  # users: train, valid, test
    split_seed: int = 0
    cutoff_max: Annotated[int, Field(ge=0)] = 30  # cut-off = first min((n + 1) // 2, cutoff_max) positions
    cold_items: Share = 0.0  # share of the items that lose every training interaction
    synthetic: Synthetic = Synthetic()

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if min(self.split) < 0 or abs(sum(self.split) - 1) > 1e-9:
            raise ValueError("data.split must be three shares that sum to 1")
        if self.source == "movielens" and not self.path:
            raise ValueError("data.path is needed: the folder of ratings.dat, users.dat and movies.dat")
        return self


class Linking(Section):
    """Items -> entities of the knowledge base."""

    entities: str = ""  # Parquet file or folder: entity_id, label, year, text; empty: the synthetic world's own
    truth: str = ""  # TSV or Parquet: item_id, accepted entity ids joined by |; only for the report
    threshold: Share = 0.95  # smallest edit similarity that links when the year agrees
    year_tolerance: Annotated[int, Field(ge=0)] = 1
    candidates: Annotated[int, Field(ge=1)] = 50  # per title, before the year is looked at
    decode_labels: bool = False  # read %27 in labels as '; off: such pages are mostly second copies of a page


class Extraction(Section):
    """Texts -> prompts -> answers."""

    source: Source = "extracted"
    shuffle_of: Literal["raw", "extracted", "given"] = "extracted"  # what `shuffled` permutes among entities
    shuffle_seed: int = 0
    given: str = ""  # Parquet: item_id, text
    domain: Literal["movies"] = "movies"  # the list of key factors
    engine: Literal["extractive"] = "extractive"
    model: str = ""
    user_items: Annotated[int, Field(ge=1)] = 15  # k: the most recent items before the cut-off
    max_prompt_tokens: Annotated[int, Field(ge=64)] = 4096
    max_answer_tokens: Annotated[int, Field(ge=8)] = 256
    failures: tuple[str, ...] = ("failed", "too_long", "refused", "repetitive")
    failure_limit: Share = 0.05  # above this share nothing is published


class Encoding(Section):
    """Texts -> vectors."""

    encoder: Literal["lexical"] = "lexical"
    dimension: Annotated[int, Field(ge=8, le=8192)] = 128
    max_tokens: Annotated[int, Field(ge=8)] = 4096
    seed: int = 0


class Swing(Section):
    """Behaviour -> positives of users and items."""

    normalize: Literal["none", "cosine"] = "cosine"
    interactions: Literal["liked", "all"] = "liked"
    alpha: Annotated[float, Field(gt=0)] = 1.0
    diagonal: bool = True  # T eq. 1 as printed includes i = j
    top_k: Annotated[int, Field(ge=1)] = 10


class Model(Section):
    """Backbone, features, adapter, injection."""

    backbone: Literal["din"] = "din"
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
    adapter: Literal["raw", "linear", "moe"] = "moe"
    adapter_dim: Annotated[int, Field(ge=1)] = 32
    experts: Annotated[int, Field(ge=1)] = 4
    expert_hidden: Annotated[int, Field(ge=1)] = 64
    similarity: bool = False  # parameter-free similarity features of the frozen item vectors
    similarity_dim: Annotated[int, Field(ge=1)] = 64  # PCA size of those vectors
    adapted_similarity: bool = False  # the same on the adapter's outputs


class Training(Section):
    """The joint loss L = L_rec + w_user L_uu + w_item L_ii (T eq. 3) and how it is minimised."""

    batch_size: Annotated[int, Field(ge=1)] = 2048
    epochs: Annotated[int, Field(ge=1)] = 3
    patience: Annotated[int, Field(ge=1)] = 2  # epochs without a better validation AUC before the stop
    lr: Annotated[float, Field(gt=0)] = 8e-3
    adapter_lr: Annotated[float, Field(gt=0)] = 1.0  # factor on lr for the adapter's parameters
    warmup: Share = 0.1  # share of the steps
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    w_user: Annotated[float, Field(ge=0)] = 0.0
    w_item: Annotated[float, Field(ge=0)] = 0.0
    temperature: Annotated[float, Field(gt=0)] = 0.15
    reduction: Literal["mean", "sum"] = "mean"
    anchors: Annotated[int, Field(ge=2)] = 256  # most anchors of the contrastive loss per side and step
    positives: Annotated[int, Field(ge=1)] = 1  # drawn among the top so many partners
    seed: int = 0
    precision: Literal["float32", "float64"] = "float32"


class Experiment(Section):
    """Arms (named overrides) x repetitions; repetition r sets data.split_seed and training.seed to their value + r."""

    # name -> overrides; `needs = "a.b"` leaves the arm out where that key is empty
    arms: dict[str, dict[str, Any]] = {}
    repetitions: Annotated[int, Field(ge=1)] = 1
    reference: str = ""  # the arm that differences are taken against; empty: the first
    bootstrap: Annotated[int, Field(ge=0)] = 1000  # resamples of the test users for the intervals


class Resources(Section):
    """Where and how fast; never hashed."""

    executor: Literal["ray", "inline"] = "ray"
    ray_address: str = ""  # empty: a cluster of this machine, or the job's own
    num_cpus: Annotated[int, Field(ge=0)] = 0  # logical CPUs of a local cluster; 0: max(4, cores)
    actors: Annotated[int, Field(ge=1)] = 2  # workers of a stage
    training_workers: Annotated[int, Field(ge=1)] = 1
    launcher: Literal["ray_train", "task"] = "ray_train"  # task: one worker, so that cells run side by side
    parallel_cells: Annotated[int, Field(ge=1)] = 1  # cells that train at a time, with launcher = task
    checkpoint_steps: Annotated[int, Field(ge=0)] = 0  # 0: at the end of each epoch
    batch_rows: Annotated[int, Field(ge=1)] = 512  # rows per engine or encoder call, and per cache segment
    threads: Annotated[int, Field(ge=1)] = 1  # torch threads per worker


class Config(Section):
    """A whole recipe."""

    name: str = "run"
    data: Data = Data()
    linking: Linking = Linking()
    extraction: Extraction = Extraction()
    encoding: Encoding = Encoding()
    swing: Swing = Swing()
    model: Model = Model()
    training: Training = Training()
    experiment: Experiment = Experiment()
    resources: Resources = Resources()

    @model_validator(mode="after")
    def _together(self) -> Self:
        contrastive = self.training.w_user > 0 or self.training.w_item > 0
        if self.model.adapter == "raw" and contrastive and self.extraction.source != "none":
            raise ValueError("model.adapter = raw has no parameters that a contrastive loss could train; set w_* to 0")
        if self.resources.launcher == "task" and self.resources.training_workers > 1:
            raise ValueError(
                "resources.launcher = task trains on one worker; set it to ray_train for training_workers > 1"
            )
        base = self.extraction.shuffle_of if self.extraction.source == "shuffled" else self.extraction.source
        if base == "given" and not self.extraction.given:
            raise ValueError("extraction.given is needed: a Parquet file with the columns item_id, text")
        return self

    def get(self, key: str) -> Any:
        """The value at a dotted key, as plain data; a section comes as a dict."""
        node: Any = self
        for name in key.split("."):
            if not isinstance(node, BaseModel) or name not in type(node).model_fields:
                raise ConfigError(f"no such key: {key}{_nearest(key)}")
            node = getattr(node, name)
        return node.model_dump(mode="json") if isinstance(node, BaseModel) else node

    def override(self, *settings: str | tuple[str, Any]) -> "Config":
        """A copy with `a.b=c` (the value as TOML, else as text) or ("a.b", value) applied in order.

        Raises ConfigError for an unknown key (with the nearest valid one) or a value that does not fit.
        """
        return Config.build(self.model_dump(mode="json"), *settings)

    @staticmethod
    def build(tree: Mapping[str, Any], *settings: str | tuple[str, Any]) -> "Config":
        """Validate plain data with settings applied. Raises ConfigError: the key, its fault, the nearest valid key."""
        changed = dict(tree)
        for setting in settings:
            key, value = _parse_setting(setting) if isinstance(setting, str) else setting
            _assign(changed, key, value)
        try:
            return Config.model_validate(changed)
        except ValidationError as error:
            raise ConfigError(_explain(error)) from None

    def digest(self) -> str:
        """Digest of everything but `resources`: the identity of a recipe behind a run's name."""
        tree = self.model_dump(mode="json", exclude={"resources"})
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out


def _parse_setting(setting: str) -> tuple[str, Any]:
    key, sign, text = setting.partition("=")
    if not sign or not key.strip():
        raise ConfigError(f"--set {setting!r}: write it as section.key=value")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    return key.strip(), value


def _assign(tree: dict[str, Any], key: str, value: Any) -> None:
    names = key.split(".")
    arm = names[:2] == ["experiment", "arms"] and len(names) > 3
    if not arm and key not in valid_keys():
        raise ConfigError(f"no such key: {key}{_nearest(key)}")
    node = tree
    for name in names[:-1]:
        child = node.get(name)
        node[name] = node = dict(child) if isinstance(child, Mapping) else {}
    node[names[-1]] = value


def valid_keys() -> list[str]:
    """All dotted keys of a recipe."""
    return _keys(Config, "")


def _keys(section: type[BaseModel], prefix: str) -> list[str]:
    out: list[str] = []
    for name, info in section.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            out += _keys(kind, f"{prefix}{name}.")
        else:
            out.append(prefix + name)
    return out


def _nearest(key: str) -> str:
    keys = valid_keys()
    close = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    if not close:  # right key, wrong section
        close = [k for k in keys if k.rpartition(".")[2] == key.rpartition(".")[2]][:1]
    return f"; did you mean {close[0]}?" if close else "; `trawl run --help` says where the keys are listed"


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"recipe: no such key: {key}{_nearest(key)}"
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"recipe: {key or 'values'}: {message}" + (
        f" (got {first['input']!r})" if key and first["type"] != "value_error" else ""
    )
