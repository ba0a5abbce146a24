"""`trawl suggest-factors`: a draft of key factors for a domain of one's own, from a few of its items (R 4.2.1)."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trawl import pipeline, recipes
from trawl.checks import mix
from trawl.config import Config
from trawl.errors import AskedWrongly, ConfigError, Failed
from trawl.extraction.answers import EMPTY, FAILED, judge
from trawl.extraction.engines import Settings, label, make_engine
from trawl.extraction.key_factors import load_domain, parse_domain
from trawl.extraction.prompts import described
from trawl.extraction.single import answer_one
from trawl.extraction.suggestion import Sample, draft, suggestion_request
from trawl.inputs import Inputs
from trawl.stage import Executor
from trawl.store import Store

_ITEMS = 12
_ANSWER_TOKENS = 1024
_CHARACTERS = 4000  # of an item's text that are looked at


@dataclass(frozen=True)
class Suggestion:
    """The draft as TOML; `factors`: how many it holds, 0 when the answer could not be parsed."""

    text: str
    factors: int
    items: int
    engine: str


def check_engine(cfg: Config) -> None:
    """Raises ConfigError when the recipe's engine is no language model."""
    if cfg.extraction.engine == "extractive":
        raise ConfigError(
            "extraction.engine = extractive is no language model and drafts nothing: set extraction.engine and "
            "extraction.model to one, or copy trawl/extraction/domains/generic.toml and edit it"
        )


def suggest(cfg: Config, store: Store, executor: Executor, items: int = _ITEMS) -> Suggestion:
    """Ask the recipe's language model for key factors, shown so many items; makes their texts where they are missing.

    Raises ConfigError, EngineDied, Failed (the model did not answer).
    """
    check_engine(cfg)
    if cfg.extraction.source in ("none", "shuffled"):
        cfg = cfg.override("extraction.source=extracted")
    cfg = cfg.override("extraction.output=lines")  # the list of factors is what is asked for
    wanted = "item_texts" if "item_texts" in pipeline.needed(cfg) else "items"
    plan = pipeline.plan(cfg, wanted)
    pipeline.run(plan, store, executor, lambda outcome: None)
    samples = executor.call(sampled, store, dict(plan.fingerprints), items)
    domain = load_domain(cfg.extraction.domain)
    engine = make_engine(cfg.extraction.engine, Settings(domain.factors, cfg.extraction, cfg.http))
    most = min(_ANSWER_TOKENS, cfg.extraction.max_prompt_tokens // 2)
    room = cfg.extraction.max_prompt_tokens - most
    request = suggestion_request(samples, domain.words, engine, room, most)
    if request is None:
        raise ConfigError(f"suggest-factors: not one item fits into {room} tokens; raise extraction.max_prompt_tokens")
    reply = answer_one(engine, request, cfg, store)
    status, reason = judge(reply)
    if status in (FAILED, EMPTY):
        raise Failed(f"suggest-factors: {label(engine)} did not answer: {reason}; look at the engine and ask again")
    text, factors = draft(reply.text, domain.language, label(engine))
    if factors:
        parse_domain(text, "draft")
    return Suggestion(text, factors, len(request.texts), label(engine))


def sampled(store: Store, marks: Mapping[str, str], count: int) -> list[Sample]:
    """Items drawn by a hash of their index, always the same ones; such with a text where there are texts.

    Raises Failed when there is none.
    """
    inputs = Inputs(store, marks)
    drawn: list[tuple[int, Sample]] = []
    for number in range(len(inputs.parts("items"))):
        rows = inputs.part("items", number, ["item", "title", "year", "fields"])
        if inputs.has("item_texts"):
            texts = inputs.part("item_texts", number, ["item", "text"])
            texts = texts.filter(pc.is_valid(texts.column("text")))
            rows = rows.filter(pc.is_in(rows.column("item"), texts.column("item").combine_chunks()))
        keys = mix(rows.column("item").to_numpy())
        first = np.argsort(keys, kind="stable")[:count]
        chosen = rows.take(pa.array(first))
        told = _texts(chosen, texts) if inputs.has("item_texts") else _descriptions(chosen)
        titles = chosen.column("title").to_pylist()
        found = (Sample(title, text[:_CHARACTERS]) for title, text in zip(titles, told, strict=True))
        drawn = sorted([*drawn, *zip(keys[first].tolist(), found, strict=True)], key=lambda d: d[0])[:count]
    if not drawn:
        raise Failed("suggest-factors: no item has a text to be shown; look at linking, or at extraction.given")
    return [sample for _, sample in drawn]


def _texts(items: pa.Table, texts: pa.Table) -> list[str]:
    at = pc.index_in(items.column("item").combine_chunks(), value_set=texts.column("item").combine_chunks())
    found: list[str] = texts.column("text").take(at).to_pylist()
    return found


def _descriptions(items: pa.Table) -> list[str]:
    return [described(r["title"], r["year"], dict(r["fields"] or ())) for r in items.to_pylist()]


def add(
    commands: Any, command: Callable[[Any, str, Any, str], ArgumentParser], add_store: Callable[[ArgumentParser], None]
) -> None:
    """Add the command with the command line's own helpers."""
    text = "ask the recipe's language model for a draft of key factors, for a person to edit"
    parser = command(commands, "suggest-factors", _suggest, text)
    parser.add_argument("recipe", help="as for run; its engine must be a language model")
    add_store(parser)
    parser.add_argument("--items", type=int, default=_ITEMS, metavar="N", help="items that the model is shown")
    parser.add_argument("--out", default="", metavar="FILE", help="where the draft goes (default: stdout)")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="change a key of the recipe")


def _suggest(args: Namespace) -> int:
    import sys

    from trawl import executors

    if args.items < 1:
        raise AskedWrongly(f"--items {args.items}: must be at least 1")
    if args.out and Path(args.out).exists():
        raise AskedWrongly(f"--out {args.out}: exists, perhaps with somebody's edits; name another file or remove it")
    if args.out and not Path(args.out).resolve().parent.is_dir():
        raise AskedWrongly(f"--out {args.out}: no such folder; make it first")
    cfg = recipes.load(args.recipe, args.set)
    check_engine(cfg)
    found = suggest(cfg, Store(args.store), executors.executor(cfg), args.items)
    if args.out:
        Path(args.out).write_text(found.text, encoding="utf-8")
    else:
        print(found.text, end="")
    where = f" in {args.out}" if args.out else ""
    if not found.factors:
        print(
            f"trawl: the answer of {found.engine} is no list of factors; it stands as comments{where}", file=sys.stderr
        )
        return 1
    print(f"factors drafted{where}: {found.factors}, from {found.items} items; edit them before use", file=sys.stderr)
    return 0
