"""The tests. Rows and pictures are compared at one thread: with two, sums are taken in another order and a pixel may differ."""

import os

# Before torch is imported, and handed on to the commands that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
