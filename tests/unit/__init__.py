"""Unit tests of the pure core: no storage, no server, and a loop only where one is the subject."""
