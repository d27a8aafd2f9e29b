"""The steps of a dataflow, and the operators that they are made of."""
