"""``python -m workers.agent FOLDER``: the agent of the attempt whose folder that is."""

from __future__ import annotations

import sys

from workers.agent.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
