"""The contract of the storage port, run on every storage.

Adding a storage is one entry in ``tests/support/backends.py``.
"""
