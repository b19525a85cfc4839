"""Collection: stage 1 and the closed loop over prompts, by one process or by workers of a Ray cluster."""

from .ray_workers import check_ray, collect_with_ray
from .worker import CollectionWorker

__all__ = ["CollectionWorker", "check_ray", "collect_with_ray"]
