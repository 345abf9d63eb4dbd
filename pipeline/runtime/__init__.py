"""How a stage runs: its loop, retries, log lines and health checks."""
