"""The transparency log as a stage: receipts of what the ledgers have."""
