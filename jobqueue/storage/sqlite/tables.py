"""The tables of the file, and what makes an older file's tables these."""

from __future__ import annotations

from typing import Final

SCHEMA_VERSION: Final = 3

# `line` is where a queued job waits (see lines.py), and `place` orders it there. Plain jobs are all
# in line 0.
_READY: Final = "CREATE INDEX jobs_ready ON jobs (queue, line, place) WHERE state = 'queued'"

# What only queues have whose `flowing` is set. `lines` are groups that take turns; a lane is the
# jobs that one limit is about (of one key), with a `key` once it has held any back; `held` are
# those that it holds back or (`back`) has let go again, until they start.
_FLOW: Final = (
    """CREATE INDEX jobs_expiring ON jobs (queue, start_by_ms) WHERE start_by_ms > 0""",
    """CREATE TABLE lines (
        queue INTEGER NOT NULL,
        level INTEGER NOT NULL,
        name TEXT NOT NULL,
        line INTEGER NOT NULL,
        turn INTEGER NOT NULL,
        PRIMARY KEY (queue, level, name)
    ) WITHOUT ROWID""",
    "CREATE INDEX lines_by_turn ON lines (queue, level, turn)",
    """CREATE TABLE limits (
        queue INTEGER NOT NULL,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (queue, kind, name)
    ) WITHOUT ROWID""",
    """CREATE TABLE lanes (
        queue INTEGER NOT NULL,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        text TEXT NOT NULL,
        key INTEGER NOT NULL DEFAULT 0,
        running INTEGER NOT NULL,
        starts BLOB,
        wake_ms INTEGER,
        forget_ms INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (queue, kind, name, text)
    ) WITHOUT ROWID""",
    "CREATE UNIQUE INDEX lanes_by_key ON lanes (key) WHERE key > 0",
    "CREATE INDEX lanes_to_wake ON lanes (queue, wake_ms) WHERE wake_ms IS NOT NULL",
    "CREATE INDEX lanes_idle ON lanes (queue, forget_ms) WHERE running = 0",
    """CREATE TABLE held (
        job INTEGER PRIMARY KEY,
        lane INTEGER NOT NULL,
        back INTEGER NOT NULL,
        level INTEGER NOT NULL,
        turn INTEGER NOT NULL
    )""",
    "CREATE INDEX held_by_lane ON held (lane, back, level, turn)",
    """CREATE TABLE uniques (
        queue INTEGER NOT NULL,
        text TEXT NOT NULL,
        job INTEGER NOT NULL,
        replaced_by BLOB,
        PRIMARY KEY (queue, text)
    ) WITHOUT ROWID""",
    "CREATE INDEX uniques_by_job ON uniques (job)",
    """CREATE TRIGGER flow_deleted AFTER DELETE ON jobs WHEN old.flow IS NOT NULL BEGIN
        DELETE FROM uniques WHERE job = old.key;
    END""",
    """CREATE TABLE schedules (
        queue INTEGER NOT NULL,
        id TEXT NOT NULL,
        record BLOB NOT NULL,
        version INTEGER NOT NULL,
        token TEXT NOT NULL,
        next_ms INTEGER NOT NULL,
        last_ms INTEGER NOT NULL,
        last_id TEXT NOT NULL,
        PRIMARY KEY (queue, id)
    ) WITHOUT ROWID""",
    "CREATE INDEX schedules_due ON schedules (queue, next_ms, id) WHERE next_ms > 0",
)

# What changes often (the job) is apart from what is large and never changes (its spec), so that a
# change of state writes a page or two whatever the size of the payload. A queue's row is never
# deleted: its fence must not repeat. `place` orders what is ready, and what is due at one time.
TABLES: Final = (
    """CREATE TABLE queues (
        key INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        fence INTEGER NOT NULL DEFAULT 0,
        head INTEGER NOT NULL DEFAULT 0,
        tail INTEGER NOT NULL DEFAULT 0,
        flowing INTEGER NOT NULL DEFAULT 0,
        paused INTEGER NOT NULL DEFAULT 0,
        draining INTEGER NOT NULL DEFAULT 0,
        max_waiting INTEGER NOT NULL DEFAULT 0,
        low_every INTEGER NOT NULL DEFAULT 0,
        since_low INTEGER NOT NULL DEFAULT 0
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
        line INTEGER NOT NULL DEFAULT 0,
        start_by_ms INTEGER NOT NULL DEFAULT 0,
        flow BLOB,
        request TEXT NOT NULL,
        reply_to BLOB,
        cancel_value BLOB,
        cancel_request TEXT NOT NULL DEFAULT '',
        value BLOB NOT NULL DEFAULT x''
    )""",
    "CREATE UNIQUE INDEX jobs_by_id ON jobs (queue, id)",
    _READY,
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
    # token and taken name the worker's last claim, for a caller that did not hear the answer.
    """CREATE TABLE workers (
        queue INTEGER NOT NULL,
        worker TEXT NOT NULL,
        alive_until_ms INTEGER NOT NULL,
        token TEXT NOT NULL DEFAULT '',
        taken BLOB NOT NULL DEFAULT x'',
        PRIMARY KEY (queue, worker)
    ) WITHOUT ROWID""",
    # AUTOINCREMENT: a reader remembers how far it has read, so a number must not come twice.
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
    *_FLOW,
)

UPGRADES: Final = {
    1: ("ALTER TABLE jobs ADD COLUMN cancel_request TEXT NOT NULL DEFAULT ''",),
    2: (
        *(
            f"ALTER TABLE queues ADD COLUMN {name} INTEGER NOT NULL DEFAULT 0"
            for name in (
                "flowing",
                "paused",
                "draining",
                "max_waiting",
                "low_every",
                "since_low",
            )
        ),
        "ALTER TABLE jobs ADD COLUMN line INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN start_by_ms INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN flow BLOB",
        "DROP INDEX jobs_ready",
        _READY,
        *_FLOW,
    ),
}
"""By the schema that a file has: what makes it one of the next."""
