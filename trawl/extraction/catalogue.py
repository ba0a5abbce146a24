"""Titles, fields and texts of all items, memory-mapped once per node: what prompts are rendered from."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trawl.errors import ArtifactError

_NO_TEXTS = pa.table(
    {
        "item": pa.array([], pa.int64()),
        "text": pa.array([], pa.large_string()),
        "digest": pa.array([], pa.string()),
        "tokens": pa.array([], pa.int64()),
    }
)


class Catalogue:
    """Rows by item index. items: item, title, and for years and fields those columns. texts: item, text, digest,
    tokens; None where no text is read.
    """

    def __init__(self, items: pa.Table, texts: pa.Table | None) -> None:
        if texts is None:
            texts = _NO_TEXTS
        self._items, self._texts = items, texts
        self._titles = items.column("title")
        self._title_row, self._text_row = _rows_of(items), _rows_of(texts)
        self.tokens = np.zeros(len(self._text_row), dtype=np.int64)
        self.tokens[texts.column("item").to_numpy()] = texts.column("tokens").to_numpy()

    def titles(self, items: Sequence[int]) -> list[str]:
        return [self._titles[int(self._title_row[item])].as_py() for item in items]

    def years(self, items: Sequence[int]) -> list[int | None]:
        column = self._items.column("year")
        return [column[int(self._title_row[item])].as_py() for item in items]

    def fields(self, items: Sequence[int]) -> list[Mapping[str, Sequence[str]]]:
        column = self._items.column("fields")
        return [dict(column[int(self._title_row[item])].as_py() or ()) for item in items]

    def digests(self, items: Sequence[int]) -> list[str]:
        """Digest of each item's text; "" where it has none."""
        column = self._texts.column("digest")
        return [column[int(self._text_row[item])].as_py() or "" for item in items]

    def texts(self, items: Sequence[int], digests: Sequence[str]) -> list[str]:
        """The texts, "" where there is none. Raises ArtifactError when one is not what the prompt was made for."""
        out = []
        for item, digest in zip(items, digests, strict=True):
            row = int(self._text_row[item])
            if (self._texts.column("digest")[row].as_py() or "") != digest:
                raise ArtifactError(
                    f"item {item}: its text is another than the prompt's; remove the prompts, run again"
                )
            out.append(self._texts.column("text")[row].as_py() or "" if digest else "")
        return out


class People:
    """Profiles by user index. users: user, fields."""

    def __init__(self, users: pa.Table) -> None:
        self._fields, self._row = users.column("fields"), _rows_of(users)

    def profile(self, user: int) -> Mapping[str, Sequence[str]]:
        """The user's fields and their values."""
        return dict(self._fields[int(self._row[user])].as_py() or ())


def _rows_of(table: pa.Table) -> npt.NDArray[np.int64]:
    """Row by index; the index is the first column."""
    index = table.column(0).to_numpy()
    rows = np.full(int(index.max(initial=0)) + 1, -1, dtype=np.int64)
    rows[index] = np.arange(len(index))
    return rows
