"""The model zoo: one folder a model, with its recipe, model card and weights. Data, never code."""
