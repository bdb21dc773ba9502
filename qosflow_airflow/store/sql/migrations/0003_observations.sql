-- What the finished tasks of recommended runs tell, one row per task instance and try.

create table qosflow.observations (
    recommendation_id uuid not null references qosflow.recommendations (recommendation_id),
    stage text not null check (stage <> ''),
    map_index integer not null,
    try_number integer not null,
    source text not null check (source in ('task', 'user')),
    state text not null check (state in ('success', 'failed')),
    tasks integer not null check (tasks > 0),
    count integer not null check (count > 0),
    start_s double precision,
    end_s double precision,
    work_start_s double precision,
    work_end_s double precision,
    queue_s double precision,
    read_bytes bigint,
    write_bytes bigint,
    tier text,
    host text,
    dag_id text,
    run_id text,
    task_id text,
    created_at timestamptz not null default clock_timestamp(),
    primary key (recommendation_id, stage, map_index, try_number, source)
);
comment on table qosflow.observations is 'Finished tasks of recommended runs. Rows never change.';
comment on column qosflow.observations.source is 'user: somebody set the state. The same try may have both.';

create trigger refuse_change before update or delete on qosflow.observations
    for each row execute function qosflow.refuse_change();
create trigger refuse_truncate before truncate on qosflow.observations
    for each statement execute function qosflow.refuse_change();
