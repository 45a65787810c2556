"""The queue and its one job type. The producer enqueues from here, the workers run from here.

``JOBQUEUE_URL`` says where the jobs are kept; ``run.py`` sets it.
"""

from __future__ import annotations

import ast
import os
import sysconfig
import warnings
from pathlib import Path
from typing import TypedDict

from jobqueue import Queue

STDLIB = Path(sysconfig.get_path("stdlib"))
LEASE = 3.0
"""Seconds until the jobs of a killed worker come back. Short, so that it can be watched."""

queue = Queue(os.environ.get("DEMO_QUEUE", "demo"), lease=LEASE, result_ttl=600)

warnings.simplefilter("ignore")  # the parser warns of odd escapes in old test files


class Longest(TypedDict):
    name: str
    lines: int


class Module(TypedDict):
    """What is known about one source file."""

    lines: int
    functions: int
    classes: int
    longest: Longest | None
    note: str


def source_files() -> list[str]:
    """Every Python file of the standard library, relative to it, in a fixed order.

    ``DEMO_FILES`` may say how many of them are enough.
    """
    files = (path.relative_to(STDLIB) for path in STDLIB.rglob("*.py"))
    installed = {"site-packages", "dist-packages"}
    paths = sorted(path.as_posix() for path in files if not installed.intersection(path.parts))
    return paths[: int(os.environ.get("DEMO_FILES") or len(paths))]


def job_id(path: str) -> str:
    """One id for each file, so that asking twice is answered once."""
    return f"index:{path}"


@queue.job()
def index(path: str) -> Module:
    """Read and parse one file. A plain function: it runs in a thread of the worker."""
    source = (STDLIB / path).read_bytes()
    module = Module(
        lines=len(source.removesuffix(b"\n").split(b"\n")) if source else 0,
        functions=0,
        classes=0,
        longest=None,
        note="",
    )
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        module["note"] = f"unparsable: {error}"
        return module
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            module["classes"] += 1
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            module["functions"] += 1
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if module["longest"] is None or lines > module["longest"]["lines"]:
                module["longest"] = Longest(name=node.name, lines=lines)
    return module
