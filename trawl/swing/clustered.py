"""The front door `trawl swing --ray`: the same as without, by the workers of a Ray cluster."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq

from trawl import files
from trawl.config import Config
from trawl.connection import connect
from trawl.errors import AskedWrongly
from trawl.pool import OnRay
from trawl.store import Store
from trawl.swing.distributed import Options, mine_distributed, parts_in
from trawl.swing.front import Request
from trawl.swing.reading import Columns
from trawl.swing.tables import SCHEMA


def mine_on_cluster(address: str, source: str, out: str, columns: Columns, request: Request) -> dict[str, Any]:
    """Write the partners to `out`, by `request.workers` tasks at a time; returns the report of `front.mine_file`.

    out: a file, or a folder or URI that gets one file for each task; all nodes see it and `source`. A call that was
    ended goes on when it is made again. All days count. address: of the cluster; empty: the job's, or one that is
    started on this machine. Raises AskedWrongly without Ray, InputError and EngineDied as `mine_distributed` does.
    """
    target = Path(out)
    single = not urlsplit(out).scheme and target.suffix.lower() in files.ENDINGS
    if single:
        files.check_out(target, [source])
    elif not urlsplit(out).scheme:
        out = str(target.resolve())
    folder = str(target.with_name(f"{target.name}.parts").resolve()) if single else out
    try:
        connect(Config().override(("resources.ray_address", address)))
    except ModuleNotFoundError as error:
        raise AskedWrongly(f"--ray needs {error.name}: install trawl with the extra core, or leave it out") from None
    options = Options(side=request.side, formula=request.formula, top_k=request.top_k, caps=request.caps)
    report = mine_distributed(OnRay(request.workers), str(Path(source).resolve()), columns, options, folder)
    if single:
        _joined(Store(folder), target)
    return report | {"out": out, "top_k": request.top_k}


def _joined(folder: Store, target: Path) -> None:
    """One file of all parts, whole or absent; the folder goes when it is there."""
    with files.writing(target, SCHEMA) as write:
        for name in parts_in(folder):
            write(pq.read_table(folder.open_file(name)))
    folder.remove()
