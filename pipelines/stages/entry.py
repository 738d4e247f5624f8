"""How a stage ends: a border error is one line and exit status 1, not a stack trace."""

import sys
from collections.abc import Callable

from pipelines import place


def run(main: Callable[[], None]) -> None:
    """Call a stage's `main`; bad input (`ValueError`, `OSError`) and a diverged training
    (`FloatingPointError`) end it with one line and status 1, Ctrl-C with one and status 130.

    Anything else is a defect of ours and keeps its stack trace.
    """
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    stage = getattr(main, "__module__", "")
    if stage == "__main__" and sys.modules["__main__"].__spec__ is not None:
        stage = sys.modules["__main__"].__spec__.name
    try:
        place.check_interpreter()
        main()
    except KeyboardInterrupt:
        print(f"{stage.rsplit('.', 1)[-1]}: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except (ValueError, OSError, FloatingPointError) as error:
        # A parser's message may have several lines.
        print(f"{stage.rsplit('.', 1)[-1]}: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(1) from None
