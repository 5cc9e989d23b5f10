"""Language models. The only rooms that import torch are this one, objectives/losses and training."""
