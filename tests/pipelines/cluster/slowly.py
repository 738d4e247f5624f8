"""`vitpose` whose labelling processes take their time, so that a test can strike while they work.

`python -m tests.pipelines.cluster.slowly label ...`; VITPOSE_TEST_PAUSE is the seconds before each unit.
"""

import json
import os
import pickle
import time
from pathlib import Path
from typing import Any

import ray

from pipelines.cluster import label_units


class Slow(label_units._Actor):
    """As the real one, with pauses; in VITPOSE_TEST_WHO, a folder, a file a machine lists its units."""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        statuses = []
        for unit, whole in pickle.loads(row["bundle"]):
            time.sleep(float(os.environ.get("VITPOSE_TEST_PAUSE", "0.3")))
            if who := os.environ.get("VITPOSE_TEST_WHO"):
                with (Path(who) / ray.get_runtime_context().get_node_id()).open("a") as file:
                    file.write(f"{unit.name}\n")
            one = super().__call__({"bundle": pickle.dumps([(unit, whole)])})
            statuses += json.loads(one["statuses"])
        return {"statuses": json.dumps(statuses)}


if __name__ == "__main__":
    from pipelines.cli.main import main
    from tests.pipelines.cluster.slowly import Slow as Importable

    label_units._Actor = Importable  # type: ignore[misc]
    main()
