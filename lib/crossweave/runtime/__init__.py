"""What every job shares: the run and its record, progress, logging and the Spark session."""
