"""Tests: flat, one file per part; e2e/ runs the whole pipeline in its own processes."""
