"""Other queues under the campaign's faults: ``python -m tests.chaos S1 S5 S9 --peers``.

``ours.py``, ``saq.py``, ``streaq.py``, ``arq.py`` and ``taskiq.py`` are the programs, each run by
the interpreter of its queue's own environment (``benchmarks/envs.py``); ``base.py`` is what they
share. Everything else runs in the driver.
"""
