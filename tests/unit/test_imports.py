"""Imports point one way, and ``import jobqueue`` loads only what it needs."""

from __future__ import annotations

import ast
import functools
import graphlib
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import jobqueue

PACKAGE: Final = Path(jobqueue.__file__).parent

# From the bottom to the top. A module may import from its own layer and from those below it.
LAYERS: Final[tuple[frozenset[str], ...]] = (
    frozenset(
        {
            *("_version", "arguments", "backoff", "batcher", "control", "errors", "flow"),
            *("health", "hooks", "ids", "job", "limits"),
            *("options", "outcome", "packing", "registry", "retry", "spec", "states"),
            *("undisturbed", "uniqueness", "values"),
        }
    ),
    frozenset({"serde", "storage"}),
    frozenset({"abandoned", "conditions", "refusals"}),
    frozenset(
        {
            *("consumer", "events", "maintenance", "producer", "receipt", "replies"),
            *("intake", "unanswered", "views"),
        }
    ),
    frozenset({"admin", "limiting", "schedules"}),
    frozenset(
        {
            *("background", "decorators", "jobtype", "queue", "sync", "syncclient", "synclimits"),
            *("syncschedules", "worker"),
        }
    ),
    frozenset({"cli", "__main__"}),
)
LEVELS: Final = {part: level for level, layer in enumerate(LAYERS) for part in layer}
# Neighbours on one layer that must not know each other.
APART: Final = (
    {"serde", "storage"},
    {"producer", "consumer", "maintenance"},
    {"storage.memory", "storage.sqlite", "storage.redis"},
)
CORE_MAY_NOT_LOAD: Final = {"redis", "sqlite3", "typer", "rich", "watchfiles"}


@functools.cache
def _modules() -> list[tuple[str, ast.Module]]:
    found: list[tuple[str, ast.Module]] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        found.append((".".join(parts), ast.parse(path.read_text(encoding="utf-8"))))
    return found


class _Imports(ast.NodeVisitor):
    """Collects what a module imports, but for what stands under ``if TYPE_CHECKING``."""

    def __init__(self) -> None:
        self.found: list[tuple[str, bool]] = []
        self._in_function = False

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for statement in node.orelse:
                self.visit(statement)
        else:
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        outside, self._in_function = self._in_function, True
        self.generic_visit(node)
        self._in_function = outside

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Import(self, node: ast.Import) -> None:
        self.found += [(alias.name, self._in_function) for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, "relative imports hide where they point"
        module = node.module or ""
        for alias in node.names:
            name = f"{module}.{alias.name}"
            is_module = _is_module(name.removeprefix("jobqueue.")) and module != "jobqueue"
            is_module |= module == "jobqueue" and _is_module(alias.name)
            self.found.append((name if is_module else module, self._in_function))


def _is_module(name: str) -> bool:
    path = PACKAGE.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _imports_of(tree: ast.Module) -> list[tuple[str, bool]]:
    visitor = _Imports()
    visitor.visit(tree)
    return visitor.found


def _edges(*, also_in_functions: bool = True) -> list[tuple[str, str]]:
    """Pairs of importing and imported module of the package, without its own ``__init__``."""
    return [
        (module, name.removeprefix("jobqueue").removeprefix("."))
        for module, tree in _modules()
        for name, in_function in _imports_of(tree)
        if module
        and name.partition(".")[0] == "jobqueue"
        and (also_in_functions or not in_function)
    ]


def _part(module: str) -> str:
    return module.partition(".")[0]


def test_the_imports_are_found() -> None:
    edges = _edges()
    assert ("outcome", "retry") in edges
    assert ("storage.url", "storage.redis") in edges  # in a function
    assert ("jobtype", "queue") not in edges  # under TYPE_CHECKING
    assert len(edges) > 100


def test_every_module_has_its_layer() -> None:
    parts = {_part(module) for module, _ in _modules() if module}
    assert parts == set(LEVELS)


def test_imports_point_one_way() -> None:
    upward = [
        f"{module} imports {name}"
        for module, name in _edges()
        if name and LEVELS[_part(name)] > LEVELS[_part(module)]
    ]
    assert upward == []


def test_nothing_imports_the_package_as_a_whole() -> None:
    assert [module for module, name in _edges() if not name] == []


@pytest.mark.parametrize("group", APART, ids=lambda group: " ".join(sorted(group)))
def test_neighbours_do_not_know_each_other(group: set[str]) -> None:
    def member(module: str) -> str | None:
        return next((each for each in group if f"{module}.".startswith(f"{each}.")), None)

    crossing = [
        f"{module} imports {name}"
        for module, name in _edges()
        if member(module) and member(name) and member(module) != member(name)
    ]
    assert crossing == []


def test_there_is_no_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for module, name in _edges(also_in_functions=False):
        graph.setdefault(module, set()).add(name)
        if "." in name:
            # Importing a module runs its package first; a package's own modules do not count.
            package = name.rpartition(".")[0]
            if not f"{module}.".startswith(f"{package}."):
                graph[module].add(package)
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(f"imports in a circle: {' <- '.join(error.args[1])}")


def test_no_bytes_of_a_job_can_run_or_import_anything() -> None:
    executes = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "runpy"}
    imported = {(module, name) for module, tree in _modules() for name, _ in _imports_of(tree)}
    assert {(module, name) for module, name in imported if _part(name) in executes} == set()
    # By name, only what the package itself or the command line names.
    by_name = {module for module, name in imported if _part(name) == "importlib"}
    assert by_name == {"", "cli.load", "storage.redis.resp"}
    called = {
        node.func.id
        for _, tree in _modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"eval", "exec", "compile", "__import__"}


def test_the_core_does_not_import_what_loads_when_used() -> None:
    allowed = {"redis": "storage.redis", "sqlite3": "storage.sqlite"}
    wrong = [
        f"{module} imports {name}"
        for module, tree in _modules()
        for name, _ in _imports_of(tree)
        if (top := name.partition(".")[0]) in CORE_MAY_NOT_LOAD
        and not f"{module}.".startswith((f"{allowed.get(top, 'cli')}.", "cli."))
    ]
    assert wrong == []


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={key: value for key, value in os.environ.items() if key != "JOBQUEUE_URL"},
        cwd=PACKAGE.parent,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_jobqueue_loads_no_storage_and_no_command_line() -> None:
    loaded = _python("import sys, jobqueue; print(*sys.modules)").split()
    assert "jobqueue.queue" in loaded
    assert CORE_MAY_NOT_LOAD & {name.partition(".")[0] for name in loaded} == set()
    assert [name for name in loaded if name.startswith("jobqueue.cli")] == []


def test_importing_jobqueue_starts_nothing() -> None:
    code = (
        "import threading, asyncio, jobqueue; "
        "print(threading.active_count(), asyncio._get_running_loop())"
    )
    assert _python(code) == "1 None"


def test_a_queue_in_memory_loads_neither_redis_nor_sqlite() -> None:
    code = (
        "import sys, jobqueue; jobqueue.Queue('q', 'memory://'); "
        "print({'redis', 'sqlite3'} & set(sys.modules))"
    )
    assert _python(code) == "set()"


@pytest.mark.parametrize(
    ("package", "url", "message"),
    [
        ("redis", "redis://localhost", "pip install 'redis[hiredis]"),
        ("redis", "valkey://localhost", "pip install 'redis[hiredis]"),
        ("sqlite3", "sqlite:///jobs.db", "install the sqlite3 module, or use a redis:// URL"),
        ("_sqlite3", "sqlite:///jobs.db", "install the sqlite3 module, or use a redis:// URL"),
    ],
)
def test_a_package_that_is_missing_is_named(package: str, url: str, message: str) -> None:
    code = (
        f"import sys, jobqueue; sys.modules[{package!r}] = None\n"
        f"try: jobqueue.Queue('q', {url!r})\n"
        "except jobqueue.ConfigurationError as error: print(error)"
    )
    assert message in _python(code)


# -- public names --------------------------------------------------------------------------------

PUBLIC = (
    "Queue",
    "SyncQueue",
    "Producer",
    "Consumer",
    "Reaper",
    "Worker",
    "Storage",
    "MemoryStorage",
    "SQLiteStorage",
    "RedisStorage",
    "JobType",
    "JobSpec",
    "JobInfo",
    "Job",
    "Receipt",
    "current_job",
    "Serde",
    "JsonSerde",
    "MsgpackSerde",
    "Immediate",
    "Fixed",
    "Linear",
    "Exponential",
    "Retry",
    "Snooze",
    "Cancel",
    "JobQueueError",
    "ConfigurationError",
    "StorageError",
    "StorageUnavailable",
    "SerializationError",
    "JobNotFound",
    "JobFailed",
    "JobCancelled",
    "JobExpired",
    "WaitTimeout",
    "LeaseLost",
    "QueueFull",
    "NotAccepted",
    "QueueDraining",
    "DrainTimeout",
    "Priority",
    "Unique",
    "Throttle",
    "Debounce",
    "KeepLast",
    "Limit",
    "LimitInfo",
    "Rate",
    "QueueControl",
    "RescheduleResult",
    "JobState",
    "EnqueueStatus",
    "CancelResult",
    "TtlResult",
    "EventType",
    "__version__",
)

METHODS = {
    "Queue": "job handler enqueue enqueue_many enqueue_and_wait cancel get result set_result_ttl "
    "counts open close run worker on after_execution events reschedule run_now scheduled control "
    "pause resume drain clear obliterate set_max_length set_low_share",
    "SyncQueue": "enqueue enqueue_many enqueue_and_wait cancel get result set_result_ttl counts "
    "open close events reschedule run_now scheduled control pause resume drain clear obliterate "
    "set_max_length set_low_share",
    "JobType": "enqueue call options spec enqueue_sync call_sync __call__",
    "Receipt": "result info",
    "Serde": "dumps loads",
}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_documented_name_is_public(name: str) -> None:
    assert name in jobqueue.__all__
    assert getattr(jobqueue, name) is not None


@pytest.mark.parametrize("name", jobqueue.__all__)
def test_a_public_name_exists(name: str) -> None:
    assert hasattr(jobqueue, name)


def test_another_name_does_not_exist() -> None:
    assert len(set(jobqueue.__all__)) == len(jobqueue.__all__)
    with pytest.raises(AttributeError, match="'jobqueue' has no attribute 'Qeue'"):
        jobqueue.Qeue  # noqa: B018


@pytest.mark.parametrize(
    ("owner", "method"),
    [(owner, method) for owner, methods in METHODS.items() for method in methods.split()],
)
def test_a_documented_method_exists(owner: str, method: str) -> None:
    assert callable(getattr(getattr(jobqueue, owner), method, None))


def test_a_queue_without_await_has_the_decorators_too() -> None:
    queue = jobqueue.SyncQueue("q", "memory://")
    assert queue.job == queue.queue.job
    assert queue.handler == queue.queue.handler
    assert queue.on == queue.queue.on
    assert queue.after_execution == queue.queue.after_execution
    assert queue.cron == queue.queue.cron
    assert queue.every == queue.queue.every


def test_the_documented_options_of_a_queue_exist() -> None:
    parameters = inspect.signature(jobqueue.Queue).parameters
    assert list(parameters)[:2] == ["name", "storage"]
    assert (parameters["name"].default, parameters["storage"].default) == ("default", None)
    keywords = {
        name for name, each in parameters.items() if each.kind is inspect.Parameter.KEYWORD_ONLY
    }
    documented = (
        "concurrency lease grace max_attempts retry timeout result_ttl serde max_payload "
        "max_result worker_id maintenance limits"
    )
    assert keywords >= set(documented.split())


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()
