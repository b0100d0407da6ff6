"""`vmil` with a wish to stop planted in one of its ranks; Lightning starts the others with this file too."""

from __future__ import annotations

import os
import signal
import sys

from vmil import cli
from vmil.learner.module import ImitationModule

STRIKE = "FAULTS_STRIKE"  # `<rank> <number>`: SIGTERM to that rank at that update of its own


def plant() -> None:
    rank, number = map(int, os.environ[STRIKE].split())
    count = ImitationModule.count_update

    def counted(learner: ImitationModule) -> None:
        count(learner)
        if learner.updates == number and int(os.environ.get("LOCAL_RANK", "0")) == rank:
            os.kill(os.getpid(), signal.SIGTERM)

    ImitationModule.count_update = counted  # type: ignore[method-assign]


if __name__ == "__main__":
    if STRIKE in os.environ:
        plant()
    sys.exit(cli.main(sys.argv[1:]))
