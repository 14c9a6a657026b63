"""Poses over HTTP: an app (FastAPI) and its server (uvicorn); the extra ``posepipe[serve]``."""
