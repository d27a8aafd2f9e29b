"""Small sabotages of the product, each with the tests that claim to notice it: `make mutants`."""
