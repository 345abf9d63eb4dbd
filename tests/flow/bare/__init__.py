"""Tests of servers without stages, and of stages that cannot start."""
