"""Training pairs from trajectories: candidates, filters that count, and views as datasets."""

from .by_score import Averaged, Floors, Margin, Pareto, Winner
from .by_set import Balance, Distinct
from .by_text import Faithful, NamedRight, Style, Words
from .filter import Candidate, Context, Filter, Reader
from .funnel import Funnel
from .load import load_pairs
from .views import PairViews, instruction

__all__ = [
    "Averaged",
    "Balance",
    "Candidate",
    "Context",
    "Distinct",
    "Faithful",
    "Filter",
    "Floors",
    "Funnel",
    "Margin",
    "NamedRight",
    "PairViews",
    "Pareto",
    "Reader",
    "Style",
    "Winner",
    "Words",
    "instruction",
    "load_pairs",
]
