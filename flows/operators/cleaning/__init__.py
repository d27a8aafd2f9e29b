"""The parts of `flows.operators.clean`, in the order in which a text passes them."""
