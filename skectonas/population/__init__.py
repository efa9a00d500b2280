"""Training a whole population at once: the fused trainer."""

from skectonas.population.trainer import FusedTrainer

__all__ = ["FusedTrainer"]
