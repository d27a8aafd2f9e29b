"""The model: texts to vectors, in the precision that the hardware is fast at."""
