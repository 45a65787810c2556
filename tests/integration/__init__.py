"""Producer, consumer, worker and queue as a user runs them, on every storage, in real processes."""
