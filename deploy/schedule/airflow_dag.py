"""Airflow 3: every quarter of an hour land what is new; once a day prove it."""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

# AUDITLAKE_LAKE, AUDITLAKE_TENANT_ID, AUDITLAKE_CLIENT_ID and AUDITLAKE_CLIENT_SECRET come by the worker's environment.
_ARGS = {"retries": 2, "retry_delay": timedelta(minutes=1), "execution_timeout": timedelta(hours=2)}

with DAG(
    "auditlake_backfill",
    schedule="*/15 * * * *",
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow reads it in its own time zone
    catchup=False,
    max_active_runs=1,
    default_args=_ARGS,
):
    BashOperator(task_id="backfill", bash_command="auditlake backfill --start=auto --json")

with DAG(
    "auditlake_verify",
    schedule="0 5 * * *",
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001
    catchup=False,
    max_active_runs=1,
    default_args=_ARGS,
):
    BashOperator(task_id="verify", bash_command="auditlake verify --json")
