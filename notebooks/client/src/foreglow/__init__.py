"""A small client of the foreglow server. Standard library only."""

from .client import Client, Problem

__all__ = ["Client", "Problem"]
