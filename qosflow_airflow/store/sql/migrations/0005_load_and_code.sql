-- How busy the place was where a task ran, and which code it ran.

alter table qosflow.observations
    add column load double precision,
    add column load_source text,
    add column dag_version text,
    add column image text;
comment on column qosflow.observations.load is 'Of the unit that load_source says; 1 is fully busy.';
