"""Training a whole population at once: the fused trainer."""

from skectonas.population.native.library import engine_in_use
from skectonas.population.trainer import FusedTrainer

__all__ = ["FusedTrainer", "engine_in_use"]
