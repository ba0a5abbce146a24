"""What a prompt holds of texts that are more than it has room for: `extraction.over_budget`, before anything is sent.

    middle    one prompt: the longest texts lose their middle (`budget.clip_plan`)
    sections  one prompt: of the longest texts each section keeps its beginning, in proportion
    chunks    several prompts that hold everything, and one that merges their answers (`reducing`)
    skip      a prompt that is never asked: its entity ends as `skipped`

Texts that fit are never touched, whatever the policy, and their prompts and so their answers are the same. A plan is
made of token counts; texts are read only where the policy has to know where they may be cut.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count

from trawl.extraction.budget import ELISION, ELISION_TOKENS, Spans, clip, clip_plan
from trawl.extraction.engines import Engine
from trawl.extraction.passages import Passage, chunks, sections, shown
from trawl.extraction.prompts import Frame
from trawl.extraction.words import fill
from trawl.sections import Extraction

WHOLE, MIDDLE, SECTIONS, CHUNKS, SKIP, REDUCE = "whole", "middle", "sections", "chunks", "skip", "reduce"
_RARE = "\U00013000"  # a letter that no tokenizer has a token for: as long as any that a cut may halve
_LEAST = 16  # tokens of a text that a chunk has room for; where there are fewer, no number of chunks would hold it
_SLACK = 8  # tokens that numbers in a frame and line ends beside it may cost more than was counted

Reader = Callable[[int], str]  # the text at a place
Framer = Callable[[Sequence[int]], Frame]  # the words around the texts at these places


@dataclass(frozen=True)
class Clip:
    """One prompt's share of an entity's texts; `places`: which of them it cites, a place twice where it was split.

    `ranges`: for each, characters that are kept (first and last by turns); () where `kept` tokens say it all.
    """

    plan: str
    places: tuple[int, ...]
    kept: tuple[int, ...]  # tokens of each
    there: int  # tokens that this prompt answers for
    ranges: tuple[tuple[int, ...], ...] = ()
    texts_cut: int = 0  # texts of which something is left out
    marks: int = 0  # tokens of the marks where something is left out
    chunk: int = 0
    chunks: int = 1

    @property
    def digested(self) -> tuple[int | str, ...]:
        """What tells this clip from others of the same texts. Texts that are whole or cut in the middle: tokens."""
        if not self.ranges and self.plan != SKIP:
            return self.kept
        out: list[int | str] = [*self.kept, self.plan]
        for ranges in self.ranges:
            out += [*ranges, "/"]
        return tuple(out)


class Planner:
    """The policy of a recipe with the counts of its engine."""

    def __init__(self, cfg: Extraction, engine: Engine) -> None:
        self.policy, self.most = cfg.over_budget, cfg.max_chunks
        self.engine, self.room = engine, cfg.max_prompt_tokens - cfg.max_answer_tokens

    @cached_property
    def mark(self) -> int:
        """Tokens of a mark, and of the letters on both sides of it, which a cut cannot halve."""
        halves = self.engine.count(_RARE) - 1
        return max(ELISION_TOKENS, self.engine.count(f" {ELISION} ") + (2 * halves + 2 if halves > 0 else 0))

    def around(self, frame: Frame) -> int:
        """Tokens of a prompt without its texts."""
        return self.engine.whole(frame.render([""] * len(frame.labels)))

    def plan(self, there: Sequence[int], read: Reader, frame_of: Framer) -> list[tuple[Clip, Frame, int]]:
        """The prompts of one entity: what each holds, the words around it, the tokens of all of it as it is sent.

        there: tokens of each text. More than `room` tokens are never asked: a frame that leaves no room, or skipped.
        """
        frame = frame_of(range(len(there)))
        around, places = self.around(frame), tuple(range(len(there)))
        room, total = self.room - around, sum(there)
        if total <= room:
            return [(Clip(WHOLE, places, tuple(there), total), frame, around + total)]
        if self.policy == SKIP:
            lost = sum(tokens > 0 for tokens in there)
            return [(Clip(SKIP, places, (0,) * len(there), total, texts_cut=lost), frame, around + total)]
        if self.policy == CHUNKS and (found := self._chunked(there, read, frame, frame_of)):
            return found
        made = self._sections(there, room, read) if self.policy == SECTIONS else self._middle(there, room)
        return [(made, frame, around + sum(made.kept) + made.marks)]

    def _middle(self, there: Sequence[int], room: int) -> Clip:
        kept = clip_plan(there, room, self.mark)
        cut = [k for k, t in zip(kept, there, strict=True) if k < t]
        marks = self.mark * sum(k > 0 for k in cut)
        return Clip(MIDDLE, tuple(range(len(there))), tuple(kept), sum(there), texts_cut=len(cut), marks=marks)

    def _sections(self, there: Sequence[int], room: int, read: Reader) -> Clip:
        kept, ranges, marks, cut = [], [], 0, 0
        for place, (most, tokens) in enumerate(zip(clip_plan(there, room, self.mark), there, strict=True)):
            passages: list[Passage] = []
            whole = tokens <= most + (self.mark if most else 0)  # whole it needs no mark
            if not whole:
                text = read(place)
                passages = sections(text, self.engine.spans(text), most + self.mark, self.mark) if most else []
                cut, marks = cut + 1, marks + self.mark * len(passages)
            kept.append(tokens if whole else sum(p.tokens for p in passages))
            ranges.append(tuple(place for p in passages for place in (p.begin, p.end)))
        places = tuple(range(len(there)))
        return Clip(SECTIONS, places, tuple(kept), sum(there), tuple(ranges), texts_cut=cut, marks=marks)

    def _chunked(
        self, there: Sequence[int], read: Reader, frame: Frame, frame_of: Framer
    ) -> list[tuple[Clip, Frame, int]]:
        """Several prompts; none where the frame alone leaves no room for chunks worth asking."""
        bare = self.around(noted(replace(frame, labels=()), self.most, self.most)) + _SLACK
        blocks = [
            self.engine.count(replace(frame, head="", tail="", labels=(label,)).render([""])) for label in frame.labels
        ]
        rooms = [self.room - bare - block - _SLACK - self.mark for block in blocks]
        if min(rooms, default=0) < _LEAST:
            return []
        pieces = [
            piece for place in range(len(there)) for piece in self._pieces(place, there[place], rooms[place], read)
        ]
        groups = _packed(pieces, [block + _SLACK + self.mark for block in blocks], self.room - bare)
        last = min(len(groups), self.most) - 1
        out = []
        for number, group in zip(range(last + 1), groups, strict=False):
            left = [piece for later in groups[last + 1 :] for piece in later] if number == last else []
            clipped = _chunk(group, left, number, last + 1)
            around = noted(frame_of(clipped.places), number + 1, last + 1)
            out.append((clipped, around, self.around(around) + sum(clipped.kept)))
        return out

    def _pieces(self, place: int, tokens: int, room: int, read: Reader) -> Iterator[tuple[int, Passage]]:
        """(place, passage) of a text: one without characters where it is whole."""
        if tokens <= room:
            yield place, Passage(tokens, 0, 0)
            return
        text = read(place)
        for passage in chunks(text, self.engine.spans(text), room):
            yield place, passage


def _packed(pieces: Sequence[tuple[int, Passage]], costs: Sequence[int], room: int) -> list[list[tuple[int, Passage]]]:
    """In their order, as many to a group as have room with what stands around each; two pieces of a text never meet."""
    groups: list[list[tuple[int, Passage]]] = []
    used = 0
    for place, passage in pieces:
        needs = passage.tokens + costs[place]
        if not groups or used + needs > room or groups[-1][-1][0] == place:
            groups.append([])
            used = 0
        groups[-1].append((place, passage))
        used += needs
    return groups


def _chunk(group: Sequence[tuple[int, Passage]], left: Sequence[tuple[int, Passage]], number: int, of: int) -> Clip:
    """A chunk; `left`: what none has room for any more, told with the last one."""
    return Clip(
        plan=CHUNKS,
        places=tuple(place for place, _ in group),
        kept=tuple(passage.tokens for _, passage in group),
        there=sum(passage.tokens for _, passage in (*group, *left)),
        ranges=tuple((p.begin, p.end) if p.end else () for _, p in group),
        texts_cut=len({place for place, passage in left if passage.tokens}),
        chunk=number,
        chunks=of,
    )


def noted(frame: Frame, number: int, of: int) -> Frame:
    """The frame of one chunk of several; the frame itself where there is one."""
    if of == 1:
        return frame
    note = fill(frame.words.part, number=str(number), of=str(of))
    return replace(frame, head=f"{frame.head}\n{note}")


def clipped_texts(
    texts: Sequence[str],
    clip_: tuple[str, Sequence[int], Sequence[Sequence[int]]],
    there: Sequence[int],
    spans_of: Callable[[str], Spans],
) -> tuple[str, ...]:
    """The texts as a prompt's row (plan, kept, ranges) leaves them. there: tokens of each, as `spans_of` finds them."""
    plan, kept, ranges = clip_
    return tuple(
        shown(text, ranges[n], plan == SECTIONS)
        if n < len(ranges) and ranges[n]
        else clip(text, kept[n], there[n], spans_of)
        for n, text in zip(count(), texts)
    )


def budget_keys(cfg: Extraction) -> tuple[str, ...]:
    """Recipe keys beside the sizes that change what prompts hold: none for the policy that all recipes had."""
    if cfg.over_budget == MIDDLE:
        return ()
    return ("extraction.over_budget", *(("extraction.max_chunks",) if cfg.over_budget == CHUNKS else ()))
