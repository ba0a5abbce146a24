"""What a recipe names: raw inputs, the store, models with their tokenizers, and whether they work."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pyarrow.fs import FileType

from trawl.config import Config
from trawl.doctor.findings import FAIL, OK, SKIP, WARN, Finding, Patient
from trawl.encoding.encoders import load_encoder
from trawl.errors import TrawlError
from trawl.extraction.engines import Settings, make_engine
from trawl.extraction.key_factors import load_factors
from trawl.filesystems import place
from trawl.raw import Remote, source
from trawl.sizes import folder_of, size_of
from trawl.store import Store

_INPUTS = ("data.path", "linking.entities", "linking.truth", "extraction.given")
_TEXT = "A warm comedy about a lighthouse keeper."


def inputs(patient: Patient) -> Iterator[Finding]:
    """Each raw input that a key names is there."""
    named = {(key, str(cfg.get(key))) for cfg in patient.cfgs for key in _INPUTS if cfg.get(key)}
    for key, value in sorted(named):
        try:
            found = source(value)
            there = found.info().type != FileType.NotFound if isinstance(found, Remote) else found.exists()
        except TrawlError as error:
            yield Finding("inputs", FAIL, f"{key} = {value}: {error}", "mend the path or URI")
            continue
        state, what = (OK, "is there") if there else (FAIL, "no such file or folder")
        yield Finding("inputs", state, f"{key} = {value}: {what}", "" if there else f"put the data there, or set {key}")
    if not named:
        yield Finding("inputs", SKIP, "the recipe reads no files")


def store(patient: Patient) -> Iterator[Finding]:
    """A small file written, read again and removed, below a name of its own; every store that the recipe names."""
    for what, uri in {"store": patient.store, **_caches(patient)}.items():
        yield _writable(what, uri)


def _caches(patient: Patient) -> dict[str, str]:
    """Places beside the store that the recipe writes to."""
    own = patient.cfg.resources.model_dump().get("answer_cache", "")
    return {"answer cache": str(own)} if own else {}


def _writable(what: str, uri: str) -> Finding:
    name, words = f".doctor-{uuid.uuid4().hex}", "written by trawl doctor"
    local, fresh = None, False
    try:
        local = Path(place(uri).root) if place(uri).local else None
        fresh = local is not None and not local.exists()
        opened = Store(uri)
        opened.write_text(words, name)
        try:
            again = opened.read_text(name)
        finally:
            opened.remove(name)
    except (TrawlError, OSError) as error:
        todo = "give another --store, or mend what the line says"
        return Finding("store", FAIL, f"{what}: {' '.join(str(error).split())}", todo)
    finally:
        if fresh and local is not None and local.is_dir() and not any(local.iterdir()):
            local.rmdir()
    if again != words:
        return Finding(
            "store", FAIL, f"{what} {opened.where()}: gave other bytes than were written", "use another store"
        )
    return Finding("store", OK, f"{what} {opened.where()}: written, read and removed")


def asks(cfg: Config) -> bool:
    """Whether an engine is asked: not where the texts themselves are the answers."""
    return cfg.extraction.base not in ("none", "raw")


def models(patient: Patient) -> Iterator[Finding]:
    """The files of each model: there, whole, readable, with a tokenizer."""
    named = set()
    for cfg in patient.cfgs:
        if cfg.extraction.engine == "vllm" and asks(cfg):
            named.add(("extraction.model", cfg.extraction.model, cfg.extraction.revision))
        if cfg.encoding.encoder == "transformer" and cfg.extraction.base != "none":
            named.add(("encoding.model", cfg.encoding.model, cfg.encoding.revision))
    for key, model, revision in sorted(named):
        yield _model(key, model, revision)
    if not named:
        yield Finding("models", SKIP, "the recipe needs no model files")


def _model(key: str, model: str, revision: str) -> Finding:
    try:
        folder = folder_of(key, model, revision)
        if folder is None:
            todo = "each node downloads it at its first use; or download it now and name the folder"
            return Finding("models", WARN, f"{key} = {model}: on the hub, not on this machine yet", todo)
        size = size_of(folder)
    except (TrawlError, OSError, ValueError, KeyError) as error:
        what = f"{key} = {model}: {' '.join(str(error).split())}"
        return Finding("models", FAIL, what if model else str(error), f"download the model again, or set {key}")
    tokenizer = [name for name in ("tokenizer.json", "tokenizer.model", "vocab.txt") if (folder / name).is_file()]
    what = f"{key} = {model}: {size.parameters / 1e6:,.4g} million parameters, {size.bytes / 1e9:.3g} GB"
    if not tokenizer:
        return Finding("models", FAIL, f"{what}; no tokenizer beside it", "copy the model's tokenizer.json there")
    return Finding("models", OK, what)


def tokenizer(patient: Patient) -> Iterator[Finding]:
    """The engine's own counting of tokens, on a sentence."""
    done: set[tuple[str, str]] = set()
    for cfg in patient.cfgs:
        key = (cfg.extraction.engine, cfg.extraction.model)
        if not asks(cfg) or key in done:
            continue
        done.add(key)
        try:
            engine = make_engine(cfg.extraction.engine, Settings(load_factors(cfg.extraction.domain), cfg.extraction))
            tokens = engine.whole(_TEXT)
        except TrawlError as error:
            yield Finding(
                "tokenizer", FAIL, str(error), "mend what the line says; the model's folder needs its tokenizer"
            )
            continue
        yield Finding("tokenizer", OK, f"{engine.name}: {tokens} tokens in a sentence of {len(_TEXT.split())} words")
    if not done:
        yield Finding("tokenizer", SKIP, "no engine is asked")


def encoder(patient: Patient) -> Iterator[Finding]:
    """One text to a vector."""
    done: set[str] = set()
    for cfg in patient.cfgs:
        settings = cfg.encoding.model_dump_json()
        if cfg.extraction.base == "none" or settings in done:
            continue
        done.add(settings)
        name = f"{cfg.encoding.encoder} {cfg.encoding.model}".strip()
        try:
            vector = load_encoder(cfg).encode([_TEXT])[0]
        except TrawlError as error:
            yield Finding("encoder", FAIL, f"{name}: {error}", "mend what the line says, or set encoding.*")
            continue
        length = float(np.linalg.norm(vector))
        if not np.isfinite(length) or length == 0:
            yield Finding("encoder", FAIL, f"{name}: a text gave no vector", "try encoding.precision = float32")
        else:
            yield Finding("encoder", OK, f"{name}: {len(vector)} numbers")
    if not done:
        yield Finding("encoder", SKIP, "no text is encoded")
