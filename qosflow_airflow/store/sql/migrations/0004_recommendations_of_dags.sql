-- Recommendations are looked up by the Dag, and by the Dag run, that they were made for.

create index recommendations_dag on qosflow.recommendations (dag_id, created_at, recommendation_id);
create index recommendations_run on qosflow.recommendations (dag_id, run_id, created_at, recommendation_id);
