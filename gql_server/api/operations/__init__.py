"""What every operation goes through: limits, checks, execution, masking, its line in the log."""
