"""The evolutionary search: the paper's Algorithm 1.

`algorithm` runs the search. `ledger` keeps the account of the budget, `tournament` draws the
brackets, `fitness` decides them, and `front` finds the candidates that no other beats.
`observers` watch a search while it runs. `result` turns what it has found into fitted
attributes.
"""

from skectonas.search.algorithm import Observer, Outcome, Search
from skectonas.search.fitness import Balanced, Fitness, Greedy, Random
from skectonas.search.front import unbeaten
from skectonas.search.ledger import Entry, Ledger
from skectonas.search.observers import CallbackTasks, Printer
from skectonas.search.result import Earlier, Start, model_attributes
from skectonas.search.settings import Settings, check_morphisms

__all__ = [
    "Balanced",
    "CallbackTasks",
    "Earlier",
    "Entry",
    "Fitness",
    "Greedy",
    "Ledger",
    "Observer",
    "Outcome",
    "Printer",
    "Random",
    "Search",
    "Settings",
    "Start",
    "check_morphisms",
    "model_attributes",
    "unbeaten",
]
