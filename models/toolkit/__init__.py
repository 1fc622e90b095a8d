"""Make, measure and pack models; the only package of the project that imports torch."""
