"""The bench: `make bench` measures the bridge on this machine and writes bench.json; see __main__.py."""
