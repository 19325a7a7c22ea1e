"""Judging networks: what they are judged on, the pass over it, and its figures."""
