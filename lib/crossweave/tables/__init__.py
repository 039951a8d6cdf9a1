"""The workspace's tables: what they hold, how they are committed and read, and what input must look like."""
