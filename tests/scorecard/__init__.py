"""The scorecard: what was lost, doubled or turned round under every fault we can make; `python -m tests.scorecard`."""
