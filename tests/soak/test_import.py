"""A large export of another program is imported in seconds, in little memory."""

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import ROOT
from tests.soak.conftest import FACTOR, times

HEADER = (
    "Record ID,First Name,Last Name,Email,Phone Number,Contact owner,Last Activity Date (UTC),Lead Status,Create Date,"
    "Job Title,Lifecycle Stage,Associated Company IDs,Associated Company\r\n"
)
ROW = (
    '"{n}","Ann","Lee {n}","ANN.LEE{n}@C{c}.EXAMPLE","\'+49 30 {n}","owner@us.example","2024-11-01 18:25","NEW",'
    '"2023-{month:02}-18 {hour:02}:{minute:02}","VP, Operations","customer","{c};9999","Company, Inc. {c}"\r\n'
)


def test_a_hundred_thousand_rows_with_a_map_take_less_than_twenty_seconds(tmp_path: Path) -> None:
    rows = times(100_000)
    with (tmp_path / "export.csv").open("w", encoding="utf-8-sig", newline="") as file:
        file.write(HEADER)
        for n in range(rows):
            file.write(ROW.format(n=n, c=n // 5, month=n % 12 + 1, hour=n // 60 % 24, minute=n % 60))
    command = [
        sys.executable,
        ROOT / "service.py",
        "import",
        "export.csv",
        "--map",
        "hubspot",
        "--timezone",
        "Europe/Berlin",
    ]
    for said in f"Stored {rows} contacts, {-(-rows // 5)} companies.", f"Unchanged: {rows} contacts.":
        began = time.monotonic()
        with (tmp_path / "errors").open("w") as errors:
            process = subprocess.Popen(command, cwd=tmp_path, stderr=errors)
        # Of this process alone: other tests had processes, too.
        _pid, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert (process.returncode, (tmp_path / "errors").read_text()[: len(said)]) == (0, said)
        wall, seconds = time.monotonic() - began, used.ru_utime + used.ru_stime
        print(f"{rows} rows with a map: {wall:.1f} s, {seconds:.1f} s of a processor, {used.ru_maxrss // 1024} MB")
        assert seconds < max(20 * FACTOR, 3)
        assert used.ru_maxrss < 250 * 1024
