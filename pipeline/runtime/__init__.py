"""Runtime of a stage: the runner, retries, log lines and health checks."""
