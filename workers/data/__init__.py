"""Training data: sources, tokenisers, packed and padded samples, their order, and the baselines that a model is compared with."""
