"""Arms, metrics and intervals of an evaluation."""
