"""Training by TRL's trainers."""
