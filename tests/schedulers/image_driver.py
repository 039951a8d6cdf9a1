"""A driver that waits for an executor from elsewhere: says how to reach it, then lets it count."""

import json
import sys

from pyspark.sql import SparkSession

master, port = sys.argv[1:]
builder = SparkSession.builder.master(master).config("spark.driver.host", "127.0.0.1").config("spark.driver.port", port)
session = builder.config("spark.ui.enabled", "false").config("spark.executor.instances", "1").getOrCreate()
context = session.sparkContext
options = context.getConf().get("spark.executor.extraJavaOptions")
sys.stdout.write(f"{json.dumps({'application': context.applicationId, 'options': options.split()})}\n")
sys.stdout.flush()
hosts = context.parallelize(range(100), 4).map(lambda number: number * 2).sum()
sys.stdout.write(f"{hosts}\n")
session.stop()
