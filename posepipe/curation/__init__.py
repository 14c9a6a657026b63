"""The care of models: their cost, golden numbers, packing, imports."""
