"""Drawing: the arrays of :mod:`~qosflow_airflow.core.figure_data` as SVG or PNG, with matplotlib."""
