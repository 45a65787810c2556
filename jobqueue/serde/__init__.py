"""How payloads and results become bytes: the protocol, msgpack (the default) and JSON."""

from __future__ import annotations

from jobqueue.serde.base import Serde
from jobqueue.serde.json import JsonSerde
from jobqueue.serde.msgpack import MsgpackSerde
from jobqueue.serde.serdes import SerdeSet

__all__ = ["JsonSerde", "MsgpackSerde", "Serde", "SerdeSet"]
