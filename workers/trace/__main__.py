"""Runs the tracer."""

import sys

from workers.trace.main import main

sys.exit(main())
