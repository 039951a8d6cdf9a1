"""One file a stage: the only place where tables, Spark and the science meet. Stages never import each other."""
