"""What is counted: thresholds, calibration, metrics with their intervals; numbers in, numbers out."""
