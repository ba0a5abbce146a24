"""The sections of a recipe: typed, frozen, each key with its default and its bounds.

Every key that changes a result is hashed into the fingerprints of the stages that read it (`Stage.keys`).
What only says where and how fast the work runs stands under `resources` and is never hashed.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Seed = Annotated[int, Field(ge=0, lt=2**62)]  # repetitions add to it
Share = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]
Source = Literal["none", "raw", "extracted", "given", "shuffled"]


class Section(BaseModel):
    """One table of the recipe: immutable, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class Synthetic(Section):
    """Size and character of the embedded world (data/synthetic)."""

    users: Annotated[int, Field(ge=10)] = 1200  # of the made-up world
    items: Annotated[int, Field(ge=10)] = 600  # with a title and perhaps a page
    events_per_user: Annotated[int, Field(ge=4)] = 70  # on average
    distractors: Annotated[int, Field(ge=0)] = 600  # entities of the knowledge base that no item means
    unlinked: Share = 0.04  # items whose page is not in the knowledge base
    empty_pages: Share = 0.05  # pages without text
    noise: Annotated[float, Field(ge=0)] = 2.0  # irrelevant sentences per relevant one
    misspelt: Share = 0.05  # item titles one or two letters away from their page's
    seed: Seed = 0  # of the made-up world


class Data(Section):
    """Raw behaviour -> users, items, log, cut-offs, splits, samples."""

    source: Literal["synthetic", "movielens"] = "synthetic"
    path: str = ""  # movielens: folder of ratings.dat, users.dat, movies.dat
    check_counts: bool = True  # movielens: refuse other counts than MovieLens-1M's (not with user_share < 1)
    user_share: Annotated[float, Field(gt=0, le=1)] = 1.0  # users kept, by a hash of their raw id: for quick studies
    partitions: Annotated[int, Field(ge=1, le=4096)] = 4  # parts of every table; the numbering of ids depends on it
    like_above: float = 3.0  # label = rating > like_above
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)  # users: train, valid, test
    split_seed: Seed = 0  # of the draw of users into parts, and of cold items
    cutoff_max: Annotated[int, Field(ge=0)] = 30  # cut-off = first min((n + 1) // 2, cutoff_max) positions
    cold_items: Share = 0.0  # share of the items without a training interaction; prompts of users name them still
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
    year_tolerance: Annotated[int, Field(ge=0)] = 1  # years that title and entity may differ by
    candidates: Annotated[int, Field(ge=1)] = 50  # per title, before the year is looked at
    decode_labels: bool = False  # read %27 in labels as '; off: such pages are mostly second copies of a page


class Extraction(Section):
    """Texts -> prompts -> answers."""

    source: Source = "extracted"
    shuffle_of: Literal["raw", "extracted", "given"] = "extracted"  # what `shuffled` permutes among entities
    shuffle_seed: Seed = 0  # of the permutation
    given: str = ""  # Parquet: item_id, text
    family: Literal["trawl", "kellmrec", "kar"] = "trawl"  # whose prompts: see extraction/families.py
    history: Literal["ratings", "liked"] = "ratings"  # kellmrec, kar: what a user's history says of each item
    domain: str = "movies"  # the key factors: a shipped list, or the path or URI of a .toml file of your own
    # an engine of your own as "package.module:Class", which has to be on the workers' path, or
    engine: Literal["extractive", "vllm", "http"] | Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] = (
        "extractive"
    )
    model: str = ""  # vllm: a folder with the model, or a name on the Hugging Face hub; http: its name at the endpoint
    revision: str = ""  # vllm: a commit or tag of the hub; empty: the newest; http: any word, changed with the model
    # http: a folder with the model's tokenizer.json, or a name (or name@revision) on the hub, to count tokens with;
    # empty: pieces of words are counted, which gives more than the model's tokenizer does for nearly every text
    tokenizer: str = ""
    dtype: Literal["model", "float32", "bfloat16", "float16"] = "model"  # vllm: of weights; model: as its config says
    chat_template: bool = True  # vllm: put the prompt into the model's chat template, where it has one
    lora: str = ""  # vllm: a LoRA adapter of the model, a folder or a name on the hub
    output: Literal["lines", "json"] = "lines"  # vllm: json holds the answer to a schema with a key per factor
    engine_arguments: dict[str, Any] = {}  # vllm: any of its engine arguments that trawl does not set itself
    user_items: Annotated[int, Field(ge=1)] = 15  # k: the most recent items before the cut-off
    # with room for the answer; texts beyond it are treated as over_budget says
    max_prompt_tokens: Annotated[int, Field(ge=64)] = 4096
    max_answer_tokens: Annotated[int, Field(ge=8)] = 256  # where the engine stops: `truncated`
    # Texts that are more than a prompt has room for: cut the middle of the longest, or keep each section's beginning,
    # or extract from chunks and merge the answers, or do not ask.
    over_budget: Literal["middle", "sections", "chunks", "skip"] = "middle"
    max_chunks: Annotated[int, Field(ge=2, le=999)] = 32  # chunks: of one item or user; what is behind them is left out
    grounding: bool = True  # compare names, numbers and titles of each answer with what its prompt showed
    grounding_threshold: Share = 0.0  # answers of which a smaller share was found become `ungrounded`; 0: none do
    failures: tuple[str, ...] = ("failed", "too_long", "refused", "repetitive")  # statuses that count as failures
    failure_limit: Share = 0.05  # above this share nothing is published

    @property
    def base(self) -> str:
        """The knowledge source, of shuffled texts the one that was shuffled."""
        return self.shuffle_of if self.source == "shuffled" else self.source

    @model_validator(mode="after")
    def _answerable(self) -> Self:
        if self.family == "kar" and self.base == "given":
            raise ValueError("extraction.family = kar reads no text from outside: set extraction.source to extracted")
        return self


class RefreshUser(Section):
    """How long a user's earlier answer serves (R 4.5)."""

    min_new: Annotated[int, Field(ge=0)] = 0  # so many interactions after it ask anew; 0: each prompt is today's
    max_age_days: NotNegative = 0.0  # and so many days between what it has seen last and today's last; 0: no limit


class Refresh(Section):
    """Which answers of an earlier run serve in place of new ones."""

    base: str = ""  # the run, or its folder or its user_answers as path or URI; empty: nothing serves
    user: RefreshUser = RefreshUser()


class Again(Section):
    """Answers of these statuses count only when they were made in this generation or later."""

    generation: Annotated[int, Field(ge=0)] = 0  # seconds since 1970; 0: whatever was answered counts
    statuses: tuple[str, ...] = ()  # that are asked again


class Retry(Section):
    """What `trawl retry` asked again. It stands in the recipe that a run keeps, and is no part of a run's identity."""

    item: Again = Again()
    user: Again = Again()


class Encoding(Section):
    """Texts -> vectors."""

    encoder: Literal["lexical", "transformer"] = "lexical"
    dimension: Annotated[int, Field(ge=8, le=8192)] = 128  # lexical
    seed: Seed = 0  # lexical
    max_tokens: Annotated[int, Field(ge=8)] = 4096  # of each text that are read; the unread share is reported
    model: str = ""  # transformer: a Hugging Face name or a folder
    revision: str = ""  # transformer: a commit or tag of the hub; empty: the newest
    pooling: Literal["mean", "cls", "last"] = "mean"  # transformer: tokens -> vector of a chunk
    chunk_tokens: Annotated[int, Field(ge=0)] = 0  # transformer: tokens read at once; 0: what the model takes
    precision: Literal["float32", "bfloat16", "float16"] = "float32"  # transformer: of weights and arithmetic
    trust_remote_code: bool = False  # transformer: run code that comes with the model; only for models you know


class Export(Section):
    """What is made of a trained model besides its scores, in arms that have an adapter."""

    vectors: bool = True  # adapted vectors of items and users
    neighbours: Annotated[int, Field(ge=0)] = 10  # nearest items of each item; 0: none; they need the vectors


class Experiment(Section):
    """Arms (named overrides) x repetitions; repetition r sets data.split_seed and training.seed to their value + r."""

    # name -> overrides; `needs = "a.b"` leaves the arm out where that key is empty
    arms: dict[str, dict[str, Any]] = {}
    cross: dict[str, dict[str, dict[str, Any]]] = {}  # axis -> level -> overrides: an arm for each product of levels
    repetitions: Annotated[int, Field(ge=1)] = 1  # of all arms, each with its own split and initialisation
    reference: str = ""  # the arm that differences are taken against; empty: the first
    bootstrap: Annotated[int, Field(ge=0)] = 1000  # resamples of the test users for the intervals

    @field_validator("cross")
    @classmethod
    def _levels(cls, cross: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
        for axis, levels in cross.items():
            if not levels:
                raise ValueError(f"axis {axis!r} has no level")
            cls._named(levels)
        return cross

    @field_validator("arms")
    @classmethod
    def _named(cls, arms: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name in arms:
            if "/" in name or not name.strip():
                raise ValueError(f"arm {name!r}: a name is not empty and holds no slash (cells are arm/repetition)")
        return arms


class Search(Section):
    """A study of the contrastive loss (tune/contrastive): read by it alone and hashed into no stage.

    The three lists are the values of one-at-a-time; for random and optuna, the smallest and the largest are the ends
    of a range, searched on a logarithmic scale. An empty list: the key keeps the arm's value.
    """

    method: Literal["one-at-a-time", "random", "optuna"] = "one-at-a-time"
    arm: str = ""  # the arm whose values are the base; empty: the recipe's own values, without an arm's
    w_user: tuple[NotNegative, ...] = (0.001, 0.002, 0.004, 0.008, 0.016)  # w1 of T's Figure 3
    w_item: tuple[NotNegative, ...] = (0.001, 0.002, 0.004, 0.008, 0.016)  # w2
    temperature: tuple[Positive, ...] = (0.05, 0.1, 0.15, 0.2, 0.3)  # tau
    repetitions: Annotated[int, Field(ge=1)] = 1  # one-at-a-time: each point with so many splits and initialisations
    trials: Annotated[int, Field(ge=1)] = 20  # random, optuna: beside the baseline
    seed: Seed = 0  # random, optuna
    grace_epochs: Annotated[int, Field(ge=0)] = 1  # random, optuna: ASHA stops no trial before; 0: it stops none
    reduction: Annotated[float, Field(gt=1)] = 3.0  # ASHA: one trial of so many goes on at each rung

    @model_validator(mode="after")
    def _searchable(self) -> Self:
        lists = {"w_user": self.w_user, "w_item": self.w_item, "temperature": self.temperature}
        if not any(lists.values()):
            raise ValueError("search: w_user, w_item and temperature are all empty; name values of at least one")
        if self.method == "one-at-a-time":
            return self
        if self.repetitions > 1:
            raise ValueError(f"search.repetitions > 1 needs search.method = one-at-a-time, not {self.method}")
        for name, values in lists.items():
            if values and not 0 < min(values) < max(values):
                raise ValueError(
                    f"search.{name}: {self.method} needs two ends of a range above 0, as [0.001, 0.016]; [] skips it"
                )
        return self


class Resources(Section):
    """Where and how fast; never hashed."""

    executor: Literal["ray", "inline"] = "ray"
    ray_address: str = ""  # empty: a cluster of this machine, or the job's own
    num_cpus: Annotated[int, Field(ge=0)] = 0  # logical CPUs of a local cluster; 0: max(4, cores)
    actors: Annotated[int, Field(ge=1)] = 2  # workers of a stage
    encoder_gpus: Annotated[float, Field(ge=0)] = 0.0  # of each encoding actor; a fraction lets several share one
    # swing: whether the graph stays in partitions and each task fetches the lists it needs, instead of one copy for
    # all workers of a node; auto: when it does not fit half of the smallest node's object store
    swing_shuffle: Literal["auto", "never", "always"] = "auto"
    swing_block_mib: Annotated[int, Field(ge=1)] = 512  # then: memory of what a task has fetched at a time
    training_workers: Annotated[int, Field(ge=1)] = 1  # of each training, with launcher = ray_train
    training_gpus: Annotated[int, Field(ge=0, le=1)] = 0  # of each training worker; 0: on CPU
    # samples and log of a training: in memory, or streamed from the node's disk in the same order; auto: by their size
    training_data: Literal["auto", "memory", "stream"] = "auto"
    training_memory_gib: Positive = 4.0  # auto: what each training worker may hold of samples and log
    launcher: Literal["ray_train", "task"] = "ray_train"  # task: one worker, so that cells run side by side
    parallel_cells: Annotated[int, Field(ge=1)] = 1  # cells that train at a time, with launcher = task
    # steps between checkpoints; 0: one at the end of each epoch, with launcher = task none
    checkpoint_steps: Annotated[int, Field(ge=0)] = 0
    gradient_norms: Annotated[int, Field(ge=0)] = 100  # each loss part's, measured every so many steps; 0: never
    batch_rows: Annotated[int, Field(ge=1)] = 512  # rows per engine or encoder call, and per cache segment
    answer_cache: str = ""  # path or URI whose cache/answers holds the answers; empty: the store
    threads: Annotated[int, Field(ge=1)] = 1  # torch threads per worker
    engines: Annotated[int, Field(ge=1)] = 1  # vllm: engine actors side by side, each with a copy of the model
    engine_rows: Annotated[int, Field(ge=1)] = 64  # vllm: prompts per batch; an engine works on eight batches at a time
    tensor_parallel: Annotated[int, Field(ge=1)] = 1  # vllm: GPUs that each layer of the model is split over
    pipeline_parallel: Annotated[int, Field(ge=1)] = 1  # vllm: groups of layers, each with GPUs of its own
    gpu_memory: Annotated[float, Field(gt=0, le=1)] = 0.9  # vllm: share of a GPU's memory for weights and cache
    cpu_cache_gib: Annotated[int, Field(ge=1)] = 1  # vllm on CPU: memory of each engine's key-value cache
    engine_start_seconds: Annotated[float, Field(gt=0)] = 1800  # vllm: an engine that starts for longer ends the run
