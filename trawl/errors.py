"""What can go wrong, as a tree. The command line turns each into one line and an exit code.

TrawlError
├── AskedWrongly          exit 2   the caller can mend it: a key, a path, a file's contents
│   ├── ConfigError                a recipe key or value
│   ├── InputError                 a raw input: file, row, key
│   └── RunNameTaken               the name belongs to another recipe
└── Failed                exit 1   the work itself
    ├── ArtifactError              a table is missing, broken, or of another contract
    ├── StoreError                 the store is full, read-only or out of reach
    ├── BudgetSpent                as many requests as the recipe allows were sent; the answers are kept
    ├── TooManyFailures            more rows failed than the recipe allows; nothing was published
    └── EngineDied                 an engine or worker is gone; its rows are not to blame

A row that failed is no exception: it is a row with a status and a reason in the table it belongs to.
Messages are one line: what, where, what to do.
"""


class TrawlError(Exception):
    """Root of every error that trawl raises on purpose."""

    exit_code = 1


class AskedWrongly(TrawlError):  # noqa: N818 - named for what it tells the caller
    """The request cannot be carried out as it stands; nothing was changed."""

    exit_code = 2


class ConfigError(AskedWrongly):
    """A recipe's key or value is not valid."""


class InputError(AskedWrongly):
    """A raw input is missing, misnamed or malformed."""

    @classmethod
    def at(cls, path: object, where: str, what: str, todo: str = "") -> "InputError":
        """`path, where: what; todo` as one line; `where` is a row, line or column."""
        tail = f"; {todo}" if todo else ""
        spot = f"{path}, {where}" if where else f"{path}"
        return cls(f"{spot}: {what}{tail}")


class RunNameTaken(AskedWrongly):
    """A run of this name exists and was made by another recipe."""


class Failed(TrawlError):  # noqa: N818
    """The work was asked for rightly and could not be done."""


class ArtifactError(Failed):
    """A published table is missing, incomplete, altered or of another contract version."""


class StoreError(Failed):
    """The store cannot be read or written: no space, no right, no answer. Nothing is half-published."""


class BudgetSpent(Failed):
    """An endpoint was sent as many requests as the recipe allows. What was answered is kept; nothing was published."""


class TooManyFailures(Failed):
    """The share of failed rows is above the recipe's limit."""


class EngineDied(Failed):
    """An engine or worker process ended without answering."""
