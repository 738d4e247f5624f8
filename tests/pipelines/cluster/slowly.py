"""`vitpose` whose labelling processes take their time, so that a test can strike while they work.

`python -m tests.pipelines.cluster.slowly label ARCHIVE ...`. A file `slowly` beside the archive has them
pause before each unit, for as many seconds as it says, and list it in the folder `who`, a file a machine.
"""

import json
import pickle
import time
from pathlib import Path
from typing import Any

import ray

from pipelines.cluster import label_units


class Slow(label_units._Actor):
    """As the real one, with pauses and a list of what it began."""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        statuses = []
        beside = Path(self.worker.archive).parent
        for unit, whole in pickle.loads(row["bundle"]):
            if (beside / "slowly").exists():
                time.sleep(float((beside / "slowly").read_text()))
                with (beside / "who" / ray.get_runtime_context().get_node_id()).open("a") as file:
                    file.write(f"{unit.name}\n")
            one = super().__call__({"bundle": pickle.dumps([(unit, whole)])})
            statuses += json.loads(one["statuses"])
        return {"failure": self.failure, "statuses": json.dumps(statuses)}


if __name__ == "__main__":
    from pipelines.cli.main import main
    from tests.pipelines.cluster.slowly import Slow as Importable

    label_units._Actor = Importable  # type: ignore[misc]
    main()
