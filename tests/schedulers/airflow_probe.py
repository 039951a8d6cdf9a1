"""Run by Airflow's Python: loads the DAGs folder as the DAG processor does and prints what came of it."""

import json
import sys

from airflow.dag_processing.dagbag import DagBag

bag = DagBag(sys.argv[1])
dags = [
    {
        "id": dag.dag_id,
        "tasks": [task.task_id for task in dag.topological_sort()],
        "after": {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks},
        "retries": sorted({task.retries for task in dag.tasks}),
        "pools": sorted({task.pool for task in dag.tasks}),
        "limits": sorted({task.execution_timeout.total_seconds() for task in dag.tasks}),
        "max_active_runs": dag.max_active_runs,
        "catchup": dag.catchup,
        "schedule": str(dag.schedule),
    }
    for dag in bag.dags.values()
]
sys.stdout.write(f"PROBE {json.dumps({'errors': bag.import_errors, 'dags': dags})}\n")
