"""A process that works on blocks of items: `python -m safelight.data.worker JOB FOLDER`.

FOLDER/plan.json says what the items are; a block's number comes in as a line, its result goes out as one.
Started like this, and not by multiprocessing, it never runs the script or notebook that asked for it, and
it ends when that ends: its input is closed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from safelight.config import UserError
from safelight.data.jobs import read_plan


def main(job: str, folder: Path) -> None:
    """Answer lines until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints does not mix with the answers
    plan = read_plan(folder)
    for line in sys.stdin:
        try:
            answer = plan.do(job, int(line))
        except UserError as error:
            answer = json.dumps({"error": str(error)})
        except OSError as error:  # of what it writes: what it reads is a UserError or a bad item
            answer = json.dumps({"error": error.strerror, "errno": error.errno})
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
