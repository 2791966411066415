"""Rows are data of the tests, not tests."""

collect_ignore = ["rows"]
