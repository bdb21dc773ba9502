"""The model: pure values and functions, no clock, no files, no Airflow."""
