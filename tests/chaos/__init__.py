"""The fault campaign: processes and servers that are killed, and an oracle outside the queue.

``python -m tests.chaos`` (or ``make chaos``) runs it, ``test_short.py`` a small part of it.
"""
