"""The command line: a client of the REST API, and the pure commands that need no server."""
