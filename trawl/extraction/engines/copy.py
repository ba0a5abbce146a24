"""The texts themselves as the answer: for the knowledge sources `raw` and `given`. Nothing is asked, nothing cached."""

from collections.abc import Sequence

from trawl.extraction.engines.seam import CountsWords, Reply, Request


class CopyEngine(CountsWords):
    """Concatenates the clipped texts, oldest first (T 3.2.2)."""

    name = "copy"
    revision = "1"

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        texts = ("\n\n".join(text for text in request.texts if text) for request in requests)
        return [Reply(text, tokens_in=(n := self.count(text)), tokens_out=n, verbatim=True) for text in texts]
