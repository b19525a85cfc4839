"""Stage 3: fine-tuning a prompt refiner on logged trajectories."""
