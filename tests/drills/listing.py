"""A plugin for pytest: prints each collected test as `drill<TAB>node id<TAB>what it does`, for run.py."""

import inspect

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    for item in session.items:
        function = getattr(item, "function", None)
        module = getattr(item, "module", None)
        text = inspect.getdoc(function) or inspect.getdoc(module) or ""
        print(f"\ndrill\t{item.nodeid}\t{(text.splitlines() or [''])[0].strip()}")
