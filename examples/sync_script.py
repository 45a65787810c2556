"""A script without an event loop: hand out work, and collect the answers.

jobqueue worker examples.sync_script:queue    # in one terminal, or in several
python examples/sync_script.py                      # in another, in the same folder
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from jobqueue import JobFailed, SyncQueue

queue = SyncQueue("sync-script")

VERSES = (
    "To be, or not to be, that is the question",
    "Thus conscience does make cowards of us all",
    "The rest is silence",
)


@queue.job(timeout=10)
def longest_word(text: str) -> str:
    return max(text.replace(",", "").split(), key=len)


@queue.job(max_attempts=1)
def divide(a: int, b: int) -> float:
    return a / b


def main() -> None:
    with queue:
        # Enqueue now, ask for the result later.
        receipts = [longest_word.enqueue_sync(verse) for verse in VERSES]
        words = [receipt.result(wait=30) for receipt in receipts]
        print(f"the longest word is {max(words, key=len)!r}")

        # Call and wait, from as many threads as there are.
        with ThreadPoolExecutor(8) as threads:
            print("quotients:", list(threads.map(divide.call_sync, range(8), [2] * 8)))

        try:
            divide.call_sync(1, 0)
        except JobFailed as error:
            print(error)
        print(queue.counts())


if __name__ == "__main__":
    main()
