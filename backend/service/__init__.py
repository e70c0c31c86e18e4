"""The local service: jobs over HTTP, kept in SQLite, run in order by a worker process. Nothing here imports torch
except inside that process."""
