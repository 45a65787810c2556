"""A SQLite file that an older version of this library wrote is brought up to date with its jobs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from jobqueue.flow import Limit, LimitKind, LimitScope
from jobqueue.states import CancelResult, JobState
from jobqueue.storage.sqlite.tables import SCHEMA_VERSION
from jobqueue.storage.types import Held
from tests.support.backends import SQLiteBackend
from tests.support.clock import START_MS, ManualClock
from tests.support.flows import high
from tests.support.jobs import QUEUE, cancel, claim, completed, enqueue, ids, settle, stored

_SCHEMA_2: Final = (
    """CREATE TABLE queues (
        key INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        fence INTEGER NOT NULL DEFAULT 0,
        head INTEGER NOT NULL DEFAULT 0,
        tail INTEGER NOT NULL DEFAULT 0
    )""",
    """CREATE TABLE jobs (
        key INTEGER PRIMARY KEY,
        queue INTEGER NOT NULL,
        id TEXT NOT NULL,
        name TEXT NOT NULL,
        state TEXT NOT NULL,
        place INTEGER NOT NULL,
        due_ms INTEGER NOT NULL DEFAULT 0,
        fence INTEGER NOT NULL DEFAULT 0,
        settled_fence INTEGER NOT NULL DEFAULT 0,
        attempt INTEGER NOT NULL DEFAULT 0,
        worker TEXT NOT NULL DEFAULT '',
        leased_until_ms INTEGER NOT NULL DEFAULT 0,
        enqueued_ms INTEGER NOT NULL,
        started_ms INTEGER NOT NULL DEFAULT 0,
        finished_ms INTEGER NOT NULL DEFAULT 0,
        expires_ms INTEGER NOT NULL DEFAULT 0,
        ttl_ms INTEGER NOT NULL,
        request TEXT NOT NULL,
        reply_to BLOB,
        cancel_value BLOB,
        cancel_request TEXT NOT NULL DEFAULT '',
        value BLOB NOT NULL DEFAULT x''
    )""",
    "CREATE UNIQUE INDEX jobs_by_id ON jobs (queue, id)",
    "CREATE INDEX jobs_ready ON jobs (queue, place) WHERE state = 'queued'",
    """CREATE INDEX jobs_delayed ON jobs (queue, due_ms, place, state)
        WHERE state IN ('scheduled', 'retrying')""",
    """CREATE INDEX jobs_leased ON jobs (queue, leased_until_ms, fence)
        WHERE state = 'running'""",
    """CREATE INDEX jobs_ended ON jobs (queue, expires_ms, state)
        WHERE state IN ('completed', 'failed', 'cancelled')""",
    "CREATE TABLE specs (job INTEGER PRIMARY KEY, spec BLOB NOT NULL)",
    """CREATE TRIGGER jobs_deleted AFTER DELETE ON jobs BEGIN
        DELETE FROM specs WHERE job = old.key;
    END""",
    """CREATE TABLE workers (
        queue INTEGER NOT NULL,
        worker TEXT NOT NULL,
        alive_until_ms INTEGER NOT NULL,
        token TEXT NOT NULL DEFAULT '',
        taken BLOB NOT NULL DEFAULT x'',
        PRIMARY KEY (queue, worker)
    ) WITHOUT ROWID""",
    """CREATE TABLE messages (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        queue INTEGER NOT NULL,
        topic TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        body BLOB NOT NULL
    )""",
    "CREATE INDEX messages_by_topic ON messages (queue, topic, seq)",
    """CREATE TABLE listeners (
        queue INTEGER NOT NULL,
        address TEXT NOT NULL,
        until_ms INTEGER NOT NULL,
        PRIMARY KEY (queue, address)
    ) WITHOUT ROWID""",
)
"""The tables of the second schema; the first had no ``cancel_request``."""

_JOBS: Final = (
    ("ready-2", "queued", 2, 0, 0),
    ("ready-1", "queued", 1, 0, 0),
    ("given-back", "queued", -1, 0, 1),
    ("due", "scheduled", 3, START_MS, 0),
    ("later", "retrying", 4, START_MS + 1000, 2),
    ("running", "running", 5, 0, 3),
)

_COLUMNS: Final = 'SELECT name, type, "notnull", dflt_value, pk FROM pragma_table_info(?)'


def _write_old_file(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path)) as old:
        old.execute("PRAGMA auto_vacuum = INCREMENTAL")
        old.execute("PRAGMA journal_mode = WAL")
        for statement in _SCHEMA_2:
            old.execute(statement)
        if version == 1:
            old.execute("ALTER TABLE jobs DROP COLUMN cancel_request")
        old.execute(
            "INSERT INTO queues (key, name, fence, head, tail) VALUES (1, ?, 3, -1, 5)", (QUEUE,)
        )
        for key, (id, state, place, due_ms, fence) in enumerate(_JOBS, 1):
            old.execute(
                "INSERT INTO jobs (key, queue, id, name, state, place, due_ms, fence, attempt, "
                "enqueued_ms, ttl_ms, request) VALUES (?, 1, ?, 'n', ?, ?, ?, ?, ?, ?, 0, '')",
                (key, id, state, place, due_ms, fence, min(fence, 1), START_MS - 1),
            )
            old.execute("INSERT INTO specs (job, spec) VALUES (?, ?)", (key, id.encode()))
        old.execute(f"PRAGMA application_id = {0x4A4F4251}")
        old.execute(f"PRAGMA user_version = {version}")
        old.commit()


def _shape(path: Path) -> tuple[int, set[tuple[str, ...]], dict[str, set[tuple[object, ...]]]]:
    """Its version, its indices and triggers as they were made, and the columns of its tables, in
    no order."""
    with closing(sqlite3.connect(path)) as file:
        version = file.execute("PRAGMA user_version").fetchone()[0]
        parts = file.execute("SELECT type, name, sql FROM sqlite_schema").fetchall()
        tables = [name for kind, name, _ in parts if kind == "table"]
        columns = {name: set(file.execute(_COLUMNS, (name,)).fetchall()) for name in tables}
    return version, {part for part in parts if part[0] != "table"}, columns


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
async def test_an_older_file_becomes_what_a_new_one_is(tmp_path: Path, version: int) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old, new = SQLiteBackend(tmp_path / "old"), SQLiteBackend(tmp_path / "new")
    _write_old_file(old.path, version)
    for place in (old, new):
        async with place.handle():
            pass
    assert _shape(old.path) == _shape(new.path)
    assert _shape(old.path)[0] == SCHEMA_VERSION


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
async def test_an_older_file_keeps_its_jobs(tmp_path: Path, version: int) -> None:
    place = SQLiteBackend(tmp_path)
    _write_old_file(place.path, version)
    clock = ManualClock()
    async with place.handle(clock.now) as storage:
        assert (await stored(storage, "running")).state is JobState.RUNNING
    async with place.handle(clock.now) as storage:
        await storage.set_limit(QUEUE, LimitScope(LimitKind.TYPE, "n"), Limit(4))
        await enqueue(storage, *high("first"), "last")
        claims = await claim(storage)
        # One of the four places is that of the job that runs already.
        assert ids(claims) == ["first", "given-back", "ready-1", "ready-2", "last"]
        assert [claim.fence for claim in claims] == [4, 5, 6, 7, 8]
        assert [claim.spec for claim in claims[1:4]] == [b"given-back", b"ready-1", b"ready-2"]
        await settle(storage, completed(), Held("running", 3))
        assert ids(await claim(storage)) == ["due"]
        assert await cancel(storage, "later", request="t") == [CancelResult.CANCELLED]
        assert await cancel(storage, "later", request="t") == [CancelResult.CANCELLED]
