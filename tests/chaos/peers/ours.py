"""This queue, by the programs that the whole campaign uses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tests.chaos import programs
from tests.chaos.ledger import Pen
from tests.chaos.orders import Orders
from tests.chaos.peers.base import Send, main


def work(orders: Orders, pen: Pen) -> None:
    asyncio.run(programs.work(orders, pen))


@asynccontextmanager
async def sender(orders: Orders) -> AsyncGenerator[Send]:
    queue = programs.open_queue(orders)

    async def send(id: str, ms: int) -> bool:
        receipt = await queue.enqueue("task", ms, id=id)
        return receipt.status == "queued"

    yield send
    await queue.close()


if __name__ == "__main__":
    main(work, sender)
