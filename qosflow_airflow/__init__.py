"""Quality-of-service aware storage tiers, node counts and parallelism for Airflow workflows."""

__version__ = "0.1.0"
