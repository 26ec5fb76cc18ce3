"""Runs the probe."""

import sys

from workers.probe.main import main

sys.exit(main())
