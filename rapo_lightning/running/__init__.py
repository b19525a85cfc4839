"""What every run needs around its stages: the run folder and its lock, Lightning's Trainer, writers and progress."""
