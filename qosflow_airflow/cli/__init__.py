"""The ``qosflow`` command: the pipeline, recommendations and the database without Airflow."""
