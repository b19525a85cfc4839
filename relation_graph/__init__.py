"""The relation graph of stage 1 as a library of its own: it knows neither torch nor the stages.

So far it reads the rows that a graph is built from.
"""

from .rows import GraphRow, RowReport, parse_cell, read_rows

__all__ = ["GraphRow", "RowReport", "parse_cell", "read_rows"]
