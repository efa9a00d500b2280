"""Pictures of a search, as scikit-learn Displays; drawing needs matplotlib.

`EvolutionDisplay`, `LineageDisplay`, `TopologyDisplay` and `ParetoDisplay` are built from a
fitted estimator, or from its tables ``history_`` and ``lineage_``, which may have been saved.
"""

from skectonas.displays.evolution import EvolutionDisplay
from skectonas.displays.lineage import LineageDisplay
from skectonas.displays.networks import TopologyDisplay
from skectonas.displays.pareto import ParetoDisplay

__all__ = ["EvolutionDisplay", "LineageDisplay", "ParetoDisplay", "TopologyDisplay"]
