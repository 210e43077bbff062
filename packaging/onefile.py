"""Runs in the one-file binary before Cardfile: the process ends with its parent, which unpacked it (Linux)."""

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

# A killed parent can't forward signals or remove the unpacked folder: this process then ends, and removes it.
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
atexit.register(lambda: os.getppid() == PARENT or shutil.rmtree(UNPACKED, ignore_errors=True))
# systemd-tmpfiles doesn't delete a locked folder, however old it is (tmpfiles.d(5)).
fcntl.flock(os.open(UNPACKED, os.O_RDONLY), fcntl.LOCK_EX)
