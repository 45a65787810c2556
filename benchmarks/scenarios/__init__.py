"""What is measured, a file for each scenario; in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness import Scenario
from peers import Peer
from sizes import Size

from scenarios import call, cost, drain, enqueue, floor, flow, growth, memory, pickup, sqlite

Make = Callable[[Size, Sequence[Peer]], Scenario]
SCENARIOS: dict[str, Make] = {
    "enqueue": enqueue.make,
    "drain": drain.make,
    "call": call.make,
    "pickup": pickup.make,
    "growth": growth.make,
    "floor": floor.make,
    "cost": cost.make,
    "sqlite": sqlite.make,
    "memory": memory.make,
    "flow": flow.make,
}
