"""What users ask for, as it is stored, or refused at the door."""

from __future__ import annotations

from typing import Any

from jobqueue.arguments import Arguments
from jobqueue.conditions import with_conditions
from jobqueue.errors import SerializationError
from jobqueue.ids import new_job_id, new_token
from jobqueue.options import NO_OPTIONS, JobOptions
from jobqueue.receipt import JobSpec
from jobqueue.registry import Registry
from jobqueue.serde import SerdeSet
from jobqueue.spec import encode_spec
from jobqueue.storage.types import NewJob
from jobqueue.values import UNSET, due_ms, to_ms


class Intake:
    """Makes the jobs of one producer.

    Args:
        registry: Job types whose options apply, and the queue's own.
        serdes: What serialises their payloads.
    """

    def __init__(self, registry: Registry, serdes: SerdeSet) -> None:
        self._registry = registry
        self._serdes = serdes

    def new_job(self, spec: JobSpec[Any], reply_to: str | None = None) -> NewJob:
        """A job in the form in which it is stored; all its options are checked.

        Args:
            spec: What its producer asks for.
            reply_to: The address at which its result is waited for.

        Raises:
            TypeError: An option of the wrong type.
            ValueError: An option out of range.
            SerializationError: The payload cannot be serialised, or is too large.
        """
        name = spec.name
        options = self._registry.options_of(name)
        if spec.options is not NO_OPTIONS:
            options = options.override(spec.options)
        payload = self._serdes.dumps(spec.payload, f"the payload of {name!r}")
        limit = self._registry.options.max_payload
        if len(payload) > limit:
            raise SerializationError(
                f"the payload of {name!r} has {len(payload)} bytes, max_payload is {limit}: "
                "store large data elsewhere and pass its address"
            )
        own_id = options.id is UNSET
        # By position: names take twice as long.
        job = NewJob(
            new_job_id() if options.id is UNSET else options.id,
            name,
            encode_spec(payload, self._serdes.default.name, options),
            0 if options.delay is UNSET else to_ms(options.delay, "delay"),
            0 if options.run_at is UNSET else due_ms(options.run_at),
            0 if options.result_ttl is UNSET else to_ms(options.result_ttl, "result_ttl"),
            "" if own_id else new_token(),
            reply_to,
        )
        return job if options.is_plain else self._with_conditions(job, spec, options)

    def _with_conditions(self, job: NewJob, spec: JobSpec[Any], options: JobOptions) -> NewJob:
        if spec.options.limits is not UNSET:
            raise TypeError(
                "limits are declared for a job type, @queue.job(limits=...): a call gives limit=, "
                "the name of one, and key="
            )
        defaults = self._registry.defaults_of(job.name)
        what = f"an argument of {job.name!r}"

        def dumps(value: Any) -> bytes:
            return self._serdes.dumps(value, what)

        arguments = Arguments(job.name, spec.payload, defaults, dumps)
        return with_conditions(job, options, arguments, self._registry.options.result_ttl_ms)
