"""Ray's vLLM worker with a memory of deaths, so that a prompt that kills its engine does not do so for ever.

A row comes as (digest, prompt, max_tokens), the prompt as the bytes of its token ids: what Ray copies row by row stays
small. Here it becomes a request, and of the reply come back the columns that are kept.

When an engine process dies, Ray's worker ends its actor, Ray starts another and sends the batches again. What was begun
and never ended is remembered in the store. A batch that was twice in an engine that died is sent row by row with
nothing else in the engine; a row that is alone in an engine that dies becomes a failed row, and the others go on.
"""

import asyncio
import os
import threading
import time
import uuid
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from trawl.errors import EngineDied
from trawl.extraction.answers import ENGINE_DEATH
from trawl.extraction.leash import OWNER
from trawl.extraction.starting import Failures, Start, starting
from trawl.store import Store, digest_json

_DEATHS = 2  # of a batch, before its rows are sent one by one
_IDLE_STARTS = 6  # engines that were started and answered nothing, before the run gives up
_INDEX = "__idx_in_batch"  # Ray's: the row's place in its batch
_TAKEN = ("tokenized_prompt", "sampling_params", "model")
_LOOK = 1.0  # seconds between two looks at the engine
_UNHEARD = ("length", 0)


@dataclass(frozen=True)
class Asking:
    """What stands in every request: the JSON schema of the answers ("": none), the adapter (folder or name, commit)."""

    schema: str = ""
    lora: tuple[str, str | None] | None = None

    def adapter(self) -> str:
        """The adapter's folder on this machine, "" when there is none."""
        if self.lora is None:
            return ""
        name, commit = self.lora
        if commit is None:
            return name
        from huggingface_hub import snapshot_download

        return snapshot_download(name, revision=commit)


class Marks:
    """What was begun and not ended, across processes: files in the stage's folder, dropped when a run begins."""

    def __init__(self, store: Store, home: tuple[str, ...]) -> None:
        self.store, self.home = store, home

    def begin(self, name: str) -> int:
        """Mark a beginning; returns how many there were before without an end."""
        before = int(self.store.read_text(*self.home, name)) if self.store.exists(*self.home, name) else 0
        self.store.write_text(str(before + 1), *self.home, name)
        return before

    def end(self, name: str) -> None:
        self.store.remove(*self.home, name)

    def starts(self) -> int:
        """Engines that were started and have answered nothing."""
        return sum(name.startswith("start-") for name in self.store.names(*self.home))


class Turns:
    """Any number of batches at a time, or one alone."""

    def __init__(self) -> None:
        self._free = asyncio.Condition()
        self._running = 0
        self._alone = False

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        async with self._free:
            await self._free.wait_for(lambda: not self._alone)
            self._running += 1
        try:
            yield
        finally:
            async with self._free:
                self._running -= 1
                self._free.notify_all()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        async with self._free:
            await self._free.wait_for(lambda: not self._alone)
            self._alone = True
            await self._free.wait_for(lambda: not self._running)
        try:
            yield
        finally:
            async with self._free:
                self._alone = False
                self._free.notify_all()


class Watching:
    """Marks and turns before Ray's worker class for vLLM, which stands behind this one in the order of calls.

    Its rows come back as plain columns, failed ones too.
    """

    llm: Any  # of Ray's worker class: its wrapper of the engine

    def __init__(
        self,
        *arguments: Any,
        marks: Marks,
        failures: Failures,
        start: Start,
        asking: Asking,
        engines: int,
        **rest: Any,
    ) -> None:
        """`engines`: how many are started side by side. Raises EngineDied, ConfigError: it did not start."""
        self.marks, self.turns, self.asking = marks, Turns(), asking
        if failure := failures.found():
            raise failure
        if (idle := marks.starts()) >= _IDLE_STARTS + engines:
            failure = EngineDied(
                f"vllm: {idle} engines were started and died before they answered anything; look at memory and at "
                "Ray's worker logs, set resources.engine_rows or extraction.max_prompt_tokens lower, run again"
            )
            failures.leave(failure)
            raise failure
        self.start = f"start-{uuid.uuid4().hex}"
        marks.begin(self.start)
        os.environ[OWNER] = str(os.getpid())  # inherited by the engine's processes
        self.inside = 0  # prompts in the engine
        self.heard: dict[int, tuple[str, int]] = {}
        with starting(failures, start):
            self.adapter = asking.adapter()
            super().__init__(*arguments, **rest)
        self.sampling = _sampling(asking)
        self._listen()

    def validate_inputs(self, inputs: list[dict[str, Any]]) -> None:
        """Rows become requests in `udf`, not before."""

    def _listen(self) -> None:
        """Hear what Ray's worker drops of a reply: why it ended, how many tokens of the prompt were cached."""
        generate = self.llm._generate_async

        async def heard(request: Any) -> Any:
            self.inside += 1
            try:
                output = await generate(request)
            finally:
                self.inside -= 1
            self.heard[request.request_id] = (output.outputs[0].finish_reason, output.num_cached_tokens or 0)
            return output

        self.llm._generate_async = heard
        threading.Thread(target=_mind, args=(weakref.ref(self),), name="trawl-engine", daemon=True).start()

    def _request(self, row: dict[str, Any]) -> None:
        """What Ray's worker wants in a row."""
        row["tokenized_prompt"] = np.frombuffer(row.pop("prompt"), np.int32).tolist()
        row["sampling_params"] = self.sampling | {"max_tokens": int(row.pop("max_tokens"))}
        if self.adapter:
            row["model"] = self.adapter

    async def udf(self, batch: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        name = f"batch-{digest_json([row['digest'] for row in batch])}"
        for row in batch:
            self._request(row)
        deaths = await asyncio.to_thread(self.marks.begin, name)
        if deaths < _DEATHS:
            async with self.turns.together():
                async for out in super().udf(batch):  # type: ignore[misc]
                    yield self._plain(out, deaths + 1)
        else:
            async with self.turns.alone():
                for row in batch:
                    yield await self._by_itself(row, deaths + 1)
        await asyncio.to_thread(self.marks.end, name)
        if self.start:
            await asyncio.to_thread(self.marks.end, self.start)
            self.start = ""
        for row in batch:  # what Ray's worker leaves in them
            for column in _TAKEN:
                row.pop(column, None)

    async def _by_itself(self, row: dict[str, Any], attempt: int) -> dict[str, Any]:
        name, index = f"row-{row['digest']}", row[_INDEX]
        if await asyncio.to_thread(self.marks.begin, name):
            return _failed(index, f"{ENGINE_DEATH}: the engine died with only this prompt in it", attempt)
        outs = [self._plain(out, attempt) async for out in super().udf([row])]  # type: ignore[misc]
        await asyncio.to_thread(self.marks.end, name)
        return outs[0]

    def _plain(self, out: dict[str, Any], attempt: int) -> dict[str, Any]:
        """The columns that are kept, the same of answered and failed rows; Ray's own mark of an error is off."""
        if error := out.get("__inference_error__", ""):
            return _failed(out[_INDEX], error, attempt)
        finish, cached = self.heard.pop(out["request_id"], _UNHEARD)
        return {
            _INDEX: out[_INDEX],
            "text": out["generated_text"],
            "tokens_in": int(out["num_input_tokens"]),
            "tokens_out": len(out["generated_tokens"]),
            "tokens_cached": cached,
            "finished": finish != "length",
            "error": "",
            "seconds": float(out["time_taken_llm"]),
            "attempts": attempt,
            "__inference_error__": "",
        }


def _mind(actor: "weakref.ref[Watching]") -> None:
    """End an actor's process when its engine is dead with prompts in it.

    vLLM tells whoever asks next that the engine is dead, but not those that wait for an answer: with all places taken
    nobody would ask, and all would wait for ever. Ray starts another actor and sends the batches again.
    """
    while (it := actor()) is not None:
        if it.inside and it.llm.engine.errored:
            os._exit(1)
        del it
        time.sleep(_LOOK)


def watched(base: type) -> type:
    """Ray's worker class for vLLM, watched."""
    return type("Watched", (Watching, base), {})


def _sampling(asking: Asking) -> dict[str, Any]:
    """vLLM's sampling parameters of every request: greedy, and heard of once, when the answer is whole."""
    from vllm.sampling_params import RequestOutputKind

    plain: dict[str, Any] = {"temperature": 0.0, "output_kind": RequestOutputKind.FINAL_ONLY}
    return plain | ({"structured_outputs": {"json": asking.schema}} if asking.schema else {})


def _failed(index: int, reason: str, attempt: int) -> dict[str, Any]:
    return {
        _INDEX: index,
        "text": "",
        "tokens_in": 0,
        "tokens_out": 0,
        "tokens_cached": 0,
        "finished": False,
        "error": " ".join(reason.split())[:200],
        "seconds": 0.0,
        "attempts": attempt,
        "__inference_error__": "",
    }
