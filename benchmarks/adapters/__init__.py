"""One program for each system, all speaking the protocol of ``base.py``."""
