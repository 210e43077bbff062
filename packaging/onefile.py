"""What the one binary does before Cardfile starts: it lives and dies with the process that unpacked it (on Linux)."""

import atexit
import ctypes
import fcntl
import os
import shutil
import signal
import sys

UNPACKED = sys._MEIPASS
PARENT = os.getppid()
PR_SET_PDEATHSIG = 1

# A parent that is killed can't forward a signal or clean up: then this process ends, too.
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
atexit.register(lambda: os.getppid() == PARENT or shutil.rmtree(UNPACKED, ignore_errors=True))
# systemd-tmpfiles leaves alone what is locked, however old it is (tmpfiles.d(5)).
fcntl.flock(os.open(UNPACKED, os.O_RDONLY), fcntl.LOCK_EX)
