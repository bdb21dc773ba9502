-- The whole database as the migrations leave it, to be read in one piece. A test compares the two.
-- Everything lives in the schema `qosflow`, so that the database can be shared.

create schema qosflow;

create table qosflow.migrations (
    number integer primary key,
    name text not null,
    sha256 text not null,
    applied_at timestamptz not null default now()
);
comment on table qosflow.migrations is 'The migrations applied to this schema, with the hash of each file.';

create table qosflow.workflows (
    name text primary key check (name <> ''),
    bundle_path text not null check (bundle_path <> ''),
    description text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
comment on table qosflow.workflows is 'Workflows that models are built for. Publishing locks the row.';

create table qosflow.builds (
    build_id uuid primary key,
    workflow text not null references qosflow.workflows (name),
    created_at timestamptz not null default now(),
    options jsonb not null check (jsonb_typeof(options) = 'object'),
    inputs jsonb not null check (jsonb_typeof(inputs) = 'object')
);
comment on table qosflow.builds is 'The working state of pipeline runs; purged after a while.';
create index builds_created_at on qosflow.builds (created_at);

create table qosflow.build_parts (
    build_id uuid not null references qosflow.builds (build_id) on delete cascade,
    kind text not null check (kind <> ''),
    scale text not null,
    content bytea not null,
    content_type text not null,
    size_bytes bigint not null generated always as (octet_length(content)) stored,
    sha256 text not null generated always as (encode(sha256(content), 'hex')) stored,
    primary key (build_id, kind, scale)
);
-- Postgres's own compression is slow, and a caller who wants one compresses the content first.
alter table qosflow.build_parts alter column content set storage external;
comment on column qosflow.build_parts.scale is 'Empty when the part belongs to no single scale.';

create table qosflow.models (
    model_id uuid primary key,
    workflow text not null references qosflow.workflows (name),
    version integer not null check (version > 0),
    build_id uuid not null unique,
    created_at timestamptz not null default clock_timestamp(),
    inputs jsonb not null check (jsonb_typeof(inputs) = 'object'),
    options jsonb not null check (jsonb_typeof(options) = 'object'),
    summary jsonb not null check (jsonb_typeof(summary) = 'object'),
    qosflow_version text not null,
    unique (workflow, version),
    unique (model_id, workflow)
);
comment on table qosflow.models is 'Published model versions. Rows never change.';
comment on column qosflow.models.build_id is 'No foreign key: the build may be purged.';
create index models_created_at on qosflow.models (created_at, version);

create table qosflow.model_parts (
    model_id uuid not null references qosflow.models (model_id),
    kind text not null check (kind <> ''),
    scale text not null,
    content bytea not null,
    content_type text not null,
    size_bytes bigint not null generated always as (octet_length(content)) stored,
    sha256 text not null generated always as (encode(sha256(content), 'hex')) stored,
    primary key (model_id, kind, scale)
);
alter table qosflow.model_parts alter column content set storage external;
comment on table qosflow.model_parts is 'The parts of model versions. Rows never change, and none is added later.';
comment on column qosflow.model_parts.scale is 'Empty when the part belongs to no single scale.';

create table qosflow.recommendations (
    recommendation_id uuid primary key,
    model_id uuid not null,
    workflow text not null,
    request jsonb not null check (jsonb_typeof(request) = 'object'),
    answer jsonb not null check (jsonb_typeof(answer) = 'object'),
    status text not null check (status in ('feasible', 'infeasible')),
    dag_id text,
    run_id text,
    task_id text,
    try_number integer,
    created_at timestamptz not null,
    foreign key (model_id, workflow) references qosflow.models (model_id, workflow)
);
comment on table qosflow.recommendations is 'Answers given, with request and model. Rows never change.';
create index recommendations_created_at on qosflow.recommendations (created_at, recommendation_id);
create index recommendations_workflow on qosflow.recommendations (workflow, created_at, recommendation_id);
create index recommendations_dag on qosflow.recommendations (dag_id, created_at, recommendation_id);
create index recommendations_run on qosflow.recommendations (dag_id, run_id, created_at, recommendation_id);

create table qosflow.outcomes (
    outcome_id bigint generated always as identity primary key,
    recommendation_id uuid not null references qosflow.recommendations (recommendation_id),
    outcome jsonb not null check (jsonb_typeof(outcome) = 'object'),
    created_at timestamptz not null default clock_timestamp()
);
comment on table qosflow.outcomes is 'Measured runs that followed a recommendation. Rows never change.';
create index outcomes_recommendation on qosflow.outcomes (recommendation_id, outcome_id);

create table qosflow.report_cards (
    report_id bigint generated always as identity primary key,
    model_id uuid not null references qosflow.models (model_id),
    report jsonb not null check (jsonb_typeof(report) = 'object'),
    created_at timestamptz not null default clock_timestamp()
);
comment on table qosflow.report_cards is 'How well the predictions of model versions held in runs. Rows never change.';
create index report_cards_model on qosflow.report_cards (model_id, report_id);

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
    load double precision,
    load_source text,
    dag_version text,
    image text,
    primary key (recommendation_id, stage, map_index, try_number, source)
);
comment on table qosflow.observations is 'Finished tasks of recommended runs. Rows never change.';
comment on column qosflow.observations.load is 'Of the unit that load_source says; 1 is fully busy.';
comment on column qosflow.observations.source is 'user: somebody set the state. The same try may have both.';

create function qosflow.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'rows of qosflow.% never change: % refused', tg_table_name, lower(tg_op)
        using errcode = 'restrict_violation',
              hint = 'A past decision must stay as it was. Publish a new model version instead.';
end
$$;

create function qosflow.refuse_late_part() returns trigger language plpgsql as $$
begin
    if not exists (
        select from qosflow.models
        where model_id = new.model_id and xmin = pg_current_xact_id()::xid
    ) then
        raise exception 'model % was published without the part %: insert refused', new.model_id, new.kind
            using errcode = 'restrict_violation',
                  hint = 'Parts are written by the transaction that publishes the model, and by no other.';
    end if;
    return new;
end
$$;

create trigger refuse_change before update or delete on qosflow.models
    for each row execute function qosflow.refuse_change();
create trigger refuse_truncate before truncate on qosflow.models
    for each statement execute function qosflow.refuse_change();

create trigger refuse_change before update or delete on qosflow.model_parts
    for each row execute function qosflow.refuse_change();
create trigger refuse_truncate before truncate on qosflow.model_parts
    for each statement execute function qosflow.refuse_change();
create trigger refuse_late_part before insert on qosflow.model_parts
    for each row execute function qosflow.refuse_late_part();

create trigger refuse_change before update or delete on qosflow.recommendations
    for each row execute function qosflow.refuse_change();
create trigger refuse_truncate before truncate on qosflow.recommendations
    for each statement execute function qosflow.refuse_change();

create trigger refuse_change before update or delete on qosflow.outcomes
    for each row execute function qosflow.refuse_change();
create trigger refuse_truncate before truncate on qosflow.outcomes
    for each statement execute function qosflow.refuse_change();

create trigger refuse_change before update or delete on qosflow.report_cards
    for each row execute function qosflow.refuse_change();
create trigger refuse_truncate before truncate on qosflow.report_cards
    for each statement execute function qosflow.refuse_change();

create trigger refuse_change before update or delete on qosflow.observations
    for each row execute function qosflow.refuse_change();
create trigger refuse_truncate before truncate on qosflow.observations
    for each statement execute function qosflow.refuse_change();
