"""Which of the machine's cores a thread runs on."""

import os

ALL_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
ONE_CORE = {sorted(ALL_CORES)[os.getpid() % len(ALL_CORES)]} if ALL_CORES else set()


def run_on(cores: set[int]) -> None:
    """Have this thread, and those that it will start, run on these cores, where the system can.

    Python runs one thread at a time: handing the turn to one on another core halves what is answered a second. A long
    list is SQLite's work for the most part, beside which Python can go on.
    """
    if cores:
        os.sched_setaffinity(0, cores)
