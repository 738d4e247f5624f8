"""How a stage ends: a border error is one line and exit status 1, not a stack trace."""

import sys
from collections.abc import Callable


def run(main: Callable[[], None]) -> None:
    """Call a stage's `main`; bad input (`ValueError`, `OSError`) and a diverged training
    (`FloatingPointError`) end it with one line and status 1.

    Anything else is a defect of ours and keeps its stack trace.
    """
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        main()
    except (ValueError, OSError, FloatingPointError) as error:
        stage = getattr(main, "__module__", "")
        if stage == "__main__" and sys.modules["__main__"].__spec__ is not None:
            stage = sys.modules["__main__"].__spec__.name
        # A parser's message may have several lines.
        print(f"{stage.rsplit('.', 1)[-1]}: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(1) from None
