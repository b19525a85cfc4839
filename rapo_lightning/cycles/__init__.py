"""A loop of cycles: collect, finetune and evaluate, each from the refiner of the cycle before."""
