"""Which leases a worker renews."""

from __future__ import annotations

from jobqueue.consumer.active import ActiveJob, ActiveJobs, Interruption
from jobqueue.storage.types import Claim, Held


def _active(id: str, fence: int) -> ActiveJob:
    return ActiveJob(
        Claim(
            id=id,
            name="task",
            spec=b"",
            fence=fence,
            attempt=1,
            enqueued_ms=0,
            ttl_ms=0,
            cancel_requested=False,
            worker="w",
        )
    )


def test_of_jobs_that_run_and_of_outcomes_that_are_not_confirmed() -> None:
    jobs = ActiveJobs()
    running, settled, lost = _active("a", 1), _active("b", 2), _active("c", 3)
    settled.settled = True
    settled.renew_until = 0.0  # only of a handler that runs beyond its time
    lost.interruption = Interruption.LEASE_LOST
    for each in (running, settled, lost):
        jobs.add(each)
    assert jobs.to_renew() == [Held("a", 1), Held("b", 2)]
    jobs.remove(settled)
    assert jobs.to_renew() == [Held("a", 1)]


def test_one_for_an_id() -> None:
    # The answer names ids: of two with the same one, nobody could tell which was lost.
    jobs = ActiveJobs()
    older, newer = _active("a", 1), _active("a", 2)
    older.settled = True
    jobs.add(older)
    jobs.add(newer)
    assert jobs.to_renew() == [Held("a", 2)]


def test_of_two_runs_the_older_fence_has_lost_whichever_came_first() -> None:
    for order in ((1, 2), (2, 1)):
        jobs = ActiveJobs()
        runs = {fence: _active("a", fence) for fence in order}
        for fence in order:
            jobs.add(runs[fence])
        assert runs[1].interruption is Interruption.LEASE_LOST
        assert runs[2].interruption is None
        assert jobs.to_renew() == [Held("a", 2)]
        for fence in order:
            jobs.remove(runs[fence])
        assert (len(jobs), jobs.to_renew()) == (0, [])
