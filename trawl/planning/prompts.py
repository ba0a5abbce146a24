"""From a sample of a side's prompts to all of them: how many, how many tokens, what is cut, what is known already."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trawl.config import Config
from trawl.extraction.cache import AnswerCache, cache_store
from trawl.planning.sample import Sample, Texts, every
from trawl.planning.work import Asked
from trawl.stage import Executor
from trawl.store import Store

_ENOUGH = 20  # known answers that say how long answers are
_NORMAL = 1.96  # 95 % of a normal distribution

KNOWN = pa.schema(
    {"digest": pa.string(), "tokens_in": pa.int64(), "tokens_out": pa.int64(), "bytes": pa.int64()}.items()
)


@dataclass(frozen=True, kw_only=True)
class Side:
    """The prompts of one side; counts and tokens are of all its prompts, not of the sample."""

    side: str
    arms: tuple[str, ...]
    entities: int
    sampled: int
    prompts: float
    again: float  # equal to another prompt: asked once
    cached: float  # answered in the store's cache
    too_long: float  # no room for any text: rows of that status, not sent
    skipped: float  # of more text than the recipe wants read
    asked: float
    cut: float  # prompts of which something is cut
    cut_tokens: float
    text_tokens: float
    tokens_in: float  # of what is asked
    error: float  # relative half-width of the 95 % interval of tokens_in
    prompt_bytes: float  # of the table of prompts
    each_in: float  # tokens of a prompt that is sent, asked now or known
    merges: float = 0.0  # entities whose texts are read in chunks: one more prompt merges their answers
    merged_chunks: float = 0.0  # of all of them
    around: float = 0.0  # tokens of a prompt beside its texts
    each_out: float = 0.0
    tokens_out: float = 0.0
    tokens_out_from: str = ""
    answer_bytes: float = 0.0  # of one answer, its row in a table

    def answered(self, each_out: float, source: str, size: float) -> "Side":
        """With the lengths of answers, and the prompts that merge them."""
        asked = self.asked + self.merges
        return replace(
            self,
            asked=asked,
            tokens_in=self.tokens_in + self.merges * self.around + self.merged_chunks * each_out,
            tokens_out=asked * each_out,
            each_out=each_out,
            tokens_out_from=source,
            answer_bytes=size,
        )

    def nothing_asked(self) -> "Side":
        """When all answers are published already."""
        return replace(self, asked=0.0, tokens_in=0.0, tokens_out=0.0, error=0.0, merges=0.0, merged_chunks=0.0)

    def of(self, prompts: float) -> "Side":
        """As many of these prompts, none of them known."""
        return replace(self, asked=prompts, tokens_in=prompts * self.each_in, tokens_out=prompts * self.each_out)


def look_up(digests: Sequence[str], store: Store, cfg: Config, executor: Executor) -> pa.Table:
    """Which prompts of a sample the cache answers (schema KNOWN): each bucket is read once, in workers."""
    groups: dict[str, list[str]] = {}
    for digest in digests:
        groups.setdefault(digest[:1], []).append(digest)
    found = every(executor, cfg, [(known, (cache_store(store, cfg), group)) for _, group in sorted(groups.items())])
    return pa.concat_tables([KNOWN.empty_table(), *found])


def known(store: Store, digests: list[str]) -> pa.Table:
    """In a worker: of the answers the lengths alone."""
    rows = AnswerCache(store).lookup(digests)
    size = pc.fill_null(pc.binary_length(rows.column("text")), 0)
    columns = [*(rows.column(name) for name in KNOWN.names[:3]), size.cast(pa.int64())]
    return pa.table(dict(zip(KNOWN.names, columns, strict=True)), schema=KNOWN)


def fresh(rows: pa.Table, answered: pa.Table, cfg: Config) -> pa.Table:
    """Of the sampled prompts those that an engine would be asked: each once, with room for a text, not known."""
    first = once(rows)
    room = cfg.extraction.max_prompt_tokens - cfg.extraction.max_answer_tokens
    first = first.filter(pc.and_(pc.less_equal(first.column("tokens"), room), pc.invert(_skipped(first))))
    return first.filter(pc.invert(pc.is_in(first.column("digest"), value_set=answered.column("digest"))))


def once(rows: pa.Table) -> pa.Table:
    """Of equal prompts the first."""
    _, first = np.unique(rows.column("digest").to_numpy(zero_copy_only=False).astype(str), return_index=True)
    return rows.take(pa.array(np.sort(first)))


def reckon(work: Asked, sample: Sample, texts: Texts, answered: pa.Table) -> Side:
    """All but the lengths of answers."""
    cfg, rows = work.cfg, sample.rows
    scale = _scale(work, sample, texts)
    asked, first = fresh(rows, answered, cfg), once(rows)
    sent = fresh(rows, answered.slice(0, 0), cfg)
    room = cfg.extraction.max_prompt_tokens - cfg.extraction.max_answer_tokens
    skipped = _count(_skipped(rows))
    over = _count(pc.and_(pc.greater(rows.column("tokens"), room), pc.invert(_skipped(rows))))
    merges, chunks = _merged(asked)
    kept, cut = _kept(rows), pc.sum(rows.column("cut")).as_py() or 0
    return Side(
        side=work.side,
        arms=work.arms,
        entities=sample.entities,
        sampled=sample.sampled,
        prompts=rows.num_rows * scale,
        again=(rows.num_rows - first.num_rows) * scale,
        cached=answered.num_rows * scale,
        too_long=over * scale,
        skipped=skipped * scale,
        asked=asked.num_rows * scale,
        cut=_count(pc.greater(rows.column("cut"), 0)) * scale,
        cut_tokens=cut * scale,
        text_tokens=(kept + cut) * scale,
        tokens_in=(pc.sum(asked.column("tokens")).as_py() or 0) * scale,
        error=_error(asked, sample),
        prompt_bytes=_stored(rows.drop_columns(["owner", "covers", "lost"])) * scale,
        each_in=float(pc.mean(sent.column("tokens")).as_py() or 0),
        merges=merges * scale,
        merged_chunks=chunks * scale,
        around=((pc.sum(sent.column("tokens")).as_py() or 0) - _kept(sent)) / max(1, sent.num_rows),
    )


def _skipped(rows: pa.Table) -> pa.Array:
    """(n,) which prompts the recipe's policy does not ask, where the table says so."""
    if "plan" not in rows.column_names:
        return pa.repeat(pa.scalar(False), rows.num_rows)
    return pc.equal(rows.column("plan"), "skip").combine_chunks()


def _merged(asked: pa.Table) -> tuple[int, int]:
    """Entities whose texts are divided over several prompts, where the table says so; and these prompts."""
    if "chunks" not in asked.column_names:
        return 0, 0
    parts = asked.filter(pc.greater(asked.column("chunks"), 1))
    return len(pc.unique(parts.column("entity"))), parts.num_rows


def _kept(rows: pa.Table) -> int:
    """Tokens of texts in the prompts."""
    return int(pc.sum(rows.column("kept").combine_chunks().flatten()).as_py() or 0)


def _count(mask: pa.Array) -> int:
    return int(pc.sum(mask).as_py() or 0)


def _scale(work: Asked, sample: Sample, texts: Texts) -> float:
    """Prompts in all for one in the sample. Where items are asked about for their texts, these were counted."""
    if work.side == "item" and sample.rows.num_rows:
        first_text = pc.list_element(sample.rows.column("text_digests").filter(_has_texts(sample.rows)), 0)
        if len(first_text) == sample.rows.num_rows and not pc.any(pc.equal(first_text, "")).as_py():
            return texts.count / len(pc.unique(sample.rows.column("entity")))
    return sample.scale


def _has_texts(rows: pa.Table) -> pa.ChunkedArray:
    return pc.greater(pc.list_value_length(rows.column("text_digests")), 0)


def _error(asked: pa.Table, sample: Sample) -> float:
    """Of the tokens that are asked: the entities of the sample, those without a prompt among them, vary by so much."""
    if sample.whole or sample.sampled < 2 or not asked.num_rows:
        return 0.0
    per_entity = np.zeros(sample.sampled)
    sums = asked.group_by("entity").aggregate([("tokens", "sum")]).column("tokens_sum").to_numpy()
    per_entity[: len(sums)] = sums
    left_out = 1 - sample.sampled / sample.entities
    spread = per_entity.std(ddof=1) * np.sqrt(left_out / sample.sampled)
    return float(_NORMAL * spread / per_entity.mean())


def _stored(rows: pa.Table) -> int:
    """Bytes of rows as the store would write them."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    return int(sink.getvalue().size)


def answer_lengths(answered: pa.Table, tried: pa.Table | None, texts: Texts, cfg: Config) -> tuple[float, str, float]:
    """(tokens of an answer, where that comes from, bytes of an answer's row): of the probe, the cache, or a bound."""
    if tried is not None and tried.num_rows:
        mean = float(pc.mean(tried.column("tokens_out")).as_py())
        return mean, f"probe of {tried.num_rows} prompts", _stored(tried) / tried.num_rows
    per_token = texts.bytes / max(1, texts.tokens)  # as compressed in this store
    if answered.num_rows >= _ENOUGH:
        mean = float(pc.mean(answered.column("tokens_out")).as_py())
        return mean, f"{answered.num_rows} cached answers to the sample", _ROW + per_token * mean
    bound = float(cfg.extraction.max_answer_tokens)
    return bound, "at most: extraction.max_answer_tokens", _ROW + per_token * bound


_ROW = 80.0  # bytes of an answer's row beside its text
