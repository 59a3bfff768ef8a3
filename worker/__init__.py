"""The worker: Celery for the doorbells, one event loop for everything that waits."""
