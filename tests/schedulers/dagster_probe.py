"""Run by Dagster's Python: loads the job, runs a night in this process, and prints what came of it."""

import datetime
import importlib.util
import json
import sys

import dagster as dg

file, date, words = sys.argv[1:]
spec = importlib.util.spec_from_file_location("location", file)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
repository = module.definitions.get_repository_def()
job = repository.get_job("crossweave")
at = datetime.datetime.fromisoformat(f"{date}T02:15:00+00:00")
context = dg.build_schedule_context(scheduled_execution_time=at, repository_def=repository)
(request,) = repository.get_schedule_def("every_night").evaluate_tick(context).run_requests
stages = [node.name for node in job.nodes_in_topological_order]
config = {"ops": {stages[0]: {"config": {"words": words}}}}
result = job.execute_in_process(partition_key=request.partition_key, run_config=config, raise_on_error=False)
events = [[event.event_type_value, event.step_key] for event in result.all_events if event.step_key]
shown = {"stages": stages, "success": result.success, "events": events, "key": request.run_key, "tags": job.tags}
sys.stdout.write(f"\n{json.dumps(shown)}\n")
