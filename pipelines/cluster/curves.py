"""A training's figures on their way to MLflow, whose server may go away and come back.

Nothing of a training waits for it: a checkpoint is saved first, and holds the figures too.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines import experiments

AGAIN_S = 30.0
"""Between two tries to reach a server that is away, while the training goes on."""
END_WAIT_S = 60.0
"""For a server that is away when the training is over."""


class Curves:
    """The figures of a training's epochs on their way to its run; what the run has is not sent again.

    `uri` travels in the worker's configuration.
    """

    def __init__(self, run_id: str, uri: str) -> None:
        self._run_id, self._uri = run_id, uri
        self._sent: set[int] | None = None  # not known
        self._again_at: float | None = None  # while the store is away

    def send(self, history: Sequence[Mapping[str, Any]]) -> str | None:
        """Send the rows that the run does not have yet, by their "epoch".

        Never raises for a store that does not answer: the rows are in the run's checkpoint, and are sent
        with later ones. Returns a line for the user when it stops answering, and when it does again.
        """
        from mlflow.exceptions import MlflowException

        away = self._again_at is not None
        if self._again_at is not None and time.monotonic() < self._again_at:
            return None
        try:
            if self._sent is None:
                self._sent = experiments.logged_steps(self._run_id, self._uri, "loss")
            missing = [row for row in history if row["epoch"] not in self._sent]
            experiments.log_rows(self._run_id, self._uri, missing)
        except MlflowException as error:
            self._sent = None  # part of them may have arrived
            self._again_at = time.monotonic() + AGAIN_S
            return (
                None
                if away
                else f"MLflow is away ({experiments.reason(error)}); figures are kept and sent later"
            )
        self._sent |= {row["epoch"] for row in missing}
        self._again_at = None
        return f"MLflow is back; {len(missing)} epochs sent" if away else None


def send_at_the_end(run_id: str, uri: str, history: Sequence[Mapping[str, Any]]) -> None:
    """Send what a finished training's run still lacks; wait a while for the store, then keep the rest."""
    from mlflow.exceptions import MlflowException

    began = time.monotonic()
    said = False
    while True:
        try:
            sent = experiments.logged_steps(run_id, uri, "loss")
            experiments.log_rows(run_id, uri, [row for row in history if row["epoch"] not in sent])
            return
        except MlflowException as error:
            if not experiments.is_away(error) or time.monotonic() - began > END_WAIT_S:
                experiments.keep(run_id, uri, history, None, error)
                return
            if not said:
                print(
                    f"waiting up to {END_WAIT_S:.0f} s for MLflow at {experiments.shown(uri)}",
                    file=sys.stderr,
                )
            said = True
        time.sleep(3)
