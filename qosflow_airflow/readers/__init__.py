"""Files of the field, one format a module, read into the values of :mod:`qosflow_airflow.core`.

A bundle is a folder of them: :func:`qosflow_airflow.readers.bundle.read_bundle`.
"""
