"""What is on disk: prompts, trajectories, videos, and the append-only stores they are kept in."""
