"""The REST API: the only place of FastAPI and pydantic."""
