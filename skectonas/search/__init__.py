"""The evolutionary search: the paper's Algorithm 1.

`algorithm` has the steps of a search, `state` is what they begin and end with, and `tasks` are
what observers are told of. `trainings` trains candidates for a step, `costs` says for how long,
`ledger` keeps the account of the budget, `clock` that of the time, and `checkpoint` the state
in a file. `children` makes the candidates of a generation, `tournament` draws the brackets of a
round, `fitness` decides them, and `front` finds the candidates that no other beats. `final` is
about the training at the end. `observers` watch a search while it runs. `result` turns what it
has found into fitted attributes, and `history_rows` says which rows of a history count.
"""

from skectonas.search.algorithm import Search
from skectonas.search.checkpoint import Checkpoint, digest_of, fingerprint_in, seed_in
from skectonas.search.clock import Clock
from skectonas.search.final import AllRows, is_ahead
from skectonas.search.fitness import Balanced, Fitness, Greedy, Measure, Random, check_fitness
from skectonas.search.front import unbeaten
from skectonas.search.history_rows import of_last_fit, standings
from skectonas.search.ledger import ROUNDING, Entry, Ledger
from skectonas.search.observers import CallbackTasks, Printer
from skectonas.search.result import Basis, model_attributes
from skectonas.search.settings import Settings, check_morphisms
from skectonas.search.state import Outcome, SearchState
from skectonas.search.tasks import Observer

__all__ = [
    "ROUNDING",
    "AllRows",
    "Balanced",
    "Basis",
    "CallbackTasks",
    "Checkpoint",
    "Clock",
    "Entry",
    "Fitness",
    "Greedy",
    "Ledger",
    "Measure",
    "Observer",
    "Outcome",
    "Printer",
    "Random",
    "Search",
    "SearchState",
    "Settings",
    "check_fitness",
    "check_morphisms",
    "digest_of",
    "fingerprint_in",
    "is_ahead",
    "model_attributes",
    "of_last_fit",
    "seed_in",
    "standings",
    "unbeaten",
]
