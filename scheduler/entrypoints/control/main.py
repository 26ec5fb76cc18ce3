"""``python -m scheduler.entrypoints.control.main``: the background control process. Started by the command line, not by hand."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from scheduler.config import ENV_HOME, read_settings
from scheduler.entrypoints.control.host import AlreadyRuns, serve
from trimtab.errors import TrimtabError

READY = "ready"
HELD = "held"
FAILED = "failed"

_LOG = logging.getLogger("trimtab.server")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal. Word for the parent on ``--tell-fd``: ready, held (another one runs), or failed and why."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.captureWarnings(True)
    tell = _teller(options.tell_fd)
    try:
        if options.home:
            os.environ[ENV_HOME] = str(options.home)
        settings = read_settings(os.environ)
        if os.geteuid() == 0:
            _LOG.warning("running as root: jobs run as root too")
        serve(settings, version=version("trimtab"), on_ready=lambda: tell(READY))
    except AlreadyRuns as error:
        tell(f"{HELD} {error}")
        return 6
    except TrimtabError as error:
        _LOG.error("%s", error)
        tell(f"{FAILED} {error}")
        return 1
    except Exception as error:
        _LOG.exception("the control process cannot go on")
        tell(f"{FAILED} {type(error).__name__}: {error}")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trimtab-control")
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--tell-fd", type=int, default=None)
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    return parser


def _teller(handle: int | None) -> Callable[[str], None]:
    """Sends one line to the parent, once; without a parent to tell it does nothing."""
    open_handles = [handle] if handle is not None else []

    def tell(text: str) -> None:
        while open_handles:
            number = open_handles.pop()
            with suppress(BrokenPipeError):  # the parent was interrupted or lost patience: that ends nothing here
                os.write(number, (text.replace("\n", " | ") + "\n").encode())
            os.close(number)

    return tell


if __name__ == "__main__":
    sys.exit(main())
