"""The systems that are compared: where each lives, what it runs on, what it can take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One column of the tables.

    Attributes:
        name: On the command line and in the results.
        label: In tables and plots.
        env: Its environment: ``requirements/<env>.txt``, or the Node one.
        program: Its adapter and the adapter's arguments.
        language: ``"python"`` or ``"node"``.
        share: Of the number of jobs that it is given: slow systems get fewer, and the rate says the
            same. The results say how many there were.
        main: Whether ``--quick`` measures it.
        about: What a reader of the figures should know.
    """

    name: str
    label: str
    env: str
    program: tuple[str, ...]
    language: str = "python"
    share: float = 1.0
    main: bool = False
    about: str = ""


OURS = Peer(
    name="jobqueue",
    label="jobqueue",
    env="jobqueue",
    program=("adapters.ours",),
    main=True,
    about="results kept for an hour (default)",
)
FLOOR = Peer(
    name="floor",
    label="floor",
    env="jobqueue",
    program=("adapters.floor",),
    about="our Lua scripts and nothing around them; no queue to use",
)
OURS_WITH_FLOW = Peer(
    name="jobqueue-flow",
    label="jobqueue",
    env="jobqueue",
    program=("adapters.ours_flow",),
    about="with limits, priorities or scheduled jobs",
)
PEERS = (
    Peer(
        name="bullmq",
        label="BullMQ (Node)",
        env="node",
        program=("bullmq.mjs",),
        language="node",
        main=True,
        about="finished jobs kept for ever (default)",
    ),
    Peer(
        name="platformatic",
        label="@platformatic/job-queue",
        env="node",
        program=("platformatic.mjs",),
        language="node",
        main=True,
        about="results kept for an hour (default)",
    ),
    Peer(
        name="streaq",
        label="streaQ",
        env="streaq",
        program=("adapters.streaq",),
        share=0.25,
        about="results kept for 5 minutes (default)",
    ),
    Peer(
        name="saq",
        label="SAQ",
        env="saq",
        program=("adapters.saq",),
        share=0.25,
        main=True,
        about="finished jobs kept for 10 minutes (default)",
    ),
    Peer(
        name="taskiq-list",
        label="taskiq, list",
        env="taskiq",
        program=("adapters.taskiq", "list"),
        share=0.25,
        about="no results but for calls (default); loses what a dying worker holds",
    ),
    Peer(
        name="taskiq-stream",
        label="taskiq, stream",
        env="taskiq",
        program=("adapters.taskiq", "stream"),
        share=0.25,
        main=True,
        about="no results but for calls (default)",
    ),
    Peer(
        name="arq",
        label="arq",
        env="arq",
        program=("adapters.arq",),
        share=0.1,
        about="results kept for an hour (default); polls every 5 ms instead of 500",
    ),
    Peer(
        name="bullmq-python",
        label="BullMQ (Python)",
        env="bullmq",
        program=("adapters.bullmq_python",),
        share=0.1,
        about="finished jobs kept for ever (default)",
    ),
    Peer(
        name="pydocket",
        label="docket",
        env="pydocket",
        program=("adapters.pydocket",),
        share=0.1,
        about="executions kept for 15 minutes (default)",
    ),
    Peer(
        name="dramatiq",
        label="dramatiq",
        env="dramatiq",
        program=("adapters.dramatiq",),
        share=0.1,
        about="threads; no results but for calls (default)",
    ),
    Peer(
        name="celery",
        label="Celery",
        env="celery",
        program=("adapters.celery",),
        share=0.05,
        about="pool of 100 threads; results only for calls (recommended)",
    ),
    Peer(
        name="rq",
        label="RQ",
        env="rq",
        program=("adapters.rq",),
        share=0.05,
        about="SimpleWorker: one job at a time, no fork; results kept for 500 s (default)",
    ),
)
HUEY = Peer(
    name="huey",
    label="huey (SQLite)",
    env="huey",
    program=("adapters.huey",),
    about="8 threads; polls every 5 ms instead of 100; results only for calls",
)
EVERYBODY = (OURS, FLOOR, OURS_WITH_FLOW, *PEERS, HUEY)
