"""The fault campaign: processes and servers that are killed, and an oracle outside the queue.

``python -m tests.chaos`` (or ``make chaos``) runs it, ``test_short.py`` and
``test_scenarios.py`` each scenario in small.
"""
