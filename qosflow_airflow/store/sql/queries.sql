-- Every statement the store sends. `-- name: x` starts the statement named x; %(y)s is the parameter y.
-- JSON and identifiers are read as text, so that no adapter registered elsewhere in the process changes them.

-- name: begin
select set_config('statement_timeout', %(statement_timeout_ms)s, true),
       set_config('idle_in_transaction_session_timeout', %(idle_timeout_ms)s, true),
       set_config('TimeZone', 'UTC', true);

-- name: begin_migration
select set_config('statement_timeout', '0', true),
       set_config('lock_timeout', %(lock_timeout_ms)s, true),
       set_config('TimeZone', 'UTC', true);

-- name: lock_migrations
select pg_advisory_xact_lock(hashtextextended('qosflow.migrations', 0));

-- name: has_schema
select to_regnamespace('qosflow') is not null as present;

-- name: has_migrations
select to_regclass('qosflow.migrations') is not null as present;

-- name: create_schema
create schema qosflow;

-- name: create_migrations
create table qosflow.migrations (
    number integer primary key,
    name text not null,
    sha256 text not null,
    applied_at timestamptz not null default now()
);
comment on table qosflow.migrations is 'The migrations applied to this schema, with the hash of each file.';

-- name: applied_migrations
select number, name, sha256, applied_at from qosflow.migrations order by number;

-- name: add_migration
insert into qosflow.migrations (number, name, sha256) values (%(number)s, %(name)s, %(sha256)s);

-- name: register_workflow
insert into qosflow.workflows (name, bundle_path, description)
values (%(name)s, %(bundle_path)s, %(description)s)
on conflict (name) do update
set bundle_path = excluded.bundle_path, description = excluded.description, updated_at = excluded.updated_at
returning name, bundle_path, description, created_at, updated_at;

-- name: workflow
select name, bundle_path, description, created_at, updated_at
from qosflow.workflows where name = %(name)s;

-- name: workflows
select name, bundle_path, description, created_at, updated_at
from qosflow.workflows order by name collate "C" limit %(limit)s;

-- name: create_build
insert into qosflow.builds (build_id, workflow, options, inputs)
select %(build_id)s::uuid, name, %(options)s::jsonb, %(inputs)s::jsonb
from qosflow.workflows where name = %(workflow)s
returning build_id;

-- name: build
select b.build_id::text, b.workflow, b.created_at, b.options::text, b.inputs::text, m.model_id::text
from qosflow.builds b left join qosflow.models m on m.build_id = b.build_id
where b.build_id = %(build_id)s;

-- name: lock_build_for_part
-- Several tasks may write parts of one build at once, but not while it is being published.
select workflow from qosflow.builds where build_id = %(build_id)s for share;

-- name: lock_build_for_publishing
select workflow from qosflow.builds where build_id = %(build_id)s for update;

-- name: put_part
insert into qosflow.build_parts (build_id, kind, scale, content, content_type)
values (%(build_id)s, %(kind)s, %(scale)s, %(content)s, %(content_type)s)
on conflict (build_id, kind, scale) do update
set content = excluded.content, content_type = excluded.content_type
returning kind, nullif(scale, '') as scale, content_type, size_bytes, sha256;

-- name: build_part
select content from qosflow.build_parts
where build_id = %(build_id)s and kind = %(kind)s and scale = %(scale)s;

-- name: build_parts
select kind, nullif(scale, '') as scale, content_type, size_bytes, sha256
from qosflow.build_parts where build_id = %(build_id)s
order by kind collate "C", build_parts.scale collate "C" limit %(limit)s;

-- name: purge_builds
-- In portions, so that none takes long; a build that a task is writing to or publishing waits for the next purge.
delete from qosflow.builds where build_id in (
    select build_id from qosflow.builds where created_at < %(created_before)s
    order by created_at limit 20 for update skip locked
)
returning build_id;

-- name: clock
select clock_timestamp() as now;

-- name: lock_workflow
-- Publishers of one workflow take turns here, so the number that the next statement takes is free.
select name from qosflow.workflows where name = %(workflow)s for no key update;

-- name: insert_model
insert into qosflow.models (model_id, workflow, version, build_id, inputs, options, summary, qosflow_version)
select %(model_id)s::uuid, b.workflow,
       (select coalesce(max(version), 0) + 1 from qosflow.models where workflow = b.workflow),
       b.build_id, b.inputs, b.options, %(summary)s::jsonb, %(qosflow_version)s
from qosflow.builds b where b.build_id = %(build_id)s
returning model_id::text, workflow, version, created_at, inputs::text, options::text, summary::text,
          qosflow_version;

-- name: copy_part
insert into qosflow.model_parts (model_id, kind, scale, content, content_type)
select %(model_id)s::uuid, kind, scale, content, content_type from qosflow.build_parts
where build_id = %(build_id)s and kind = %(kind)s and scale = %(scale)s
returning kind;

-- name: model_of_build
select model_id::text, workflow, version, created_at, inputs::text, options::text, summary::text, qosflow_version
from qosflow.models where build_id = %(build_id)s;

-- name: model
select model_id::text, workflow, version, created_at, inputs::text, options::text, summary::text, qosflow_version
from qosflow.models where model_id = %(model_id)s;

-- name: models_of_workflow
select model_id::text, workflow, version, created_at, inputs::text, options::text, summary::text, qosflow_version
from qosflow.models where workflow = %(workflow)s order by version desc limit %(limit)s;

-- name: models
select model_id::text, workflow, version, created_at, inputs::text, options::text, summary::text, qosflow_version
from qosflow.models order by created_at desc, version desc limit %(limit)s;

-- name: model_part
select content from qosflow.model_parts
where model_id = %(model_id)s and kind = %(kind)s and scale = %(scale)s;

-- name: model_parts
select kind, nullif(scale, '') as scale, content_type, size_bytes, sha256
from qosflow.model_parts where model_id = %(model_id)s
order by kind collate "C", model_parts.scale collate "C" limit %(limit)s;

-- name: add_recommendation
-- Nothing is added for a model of another workflow.
insert into qosflow.recommendations (
    recommendation_id, model_id, workflow, request, answer, status, dag_id, run_id, task_id, try_number, created_at
)
select %(recommendation_id)s::uuid, model_id, workflow, %(request)s::jsonb, %(answer)s::jsonb, %(status)s,
       %(dag_id)s, %(run_id)s, %(task_id)s, %(try_number)s::integer, %(created_at)s::timestamptz
from qosflow.models where model_id = %(model_id)s and workflow = %(workflow)s
on conflict (recommendation_id) do nothing
returning recommendation_id;

-- name: recommendation
select recommendation_id::text, model_id::text, workflow, request::text, answer::text, status,
       dag_id, run_id, task_id, try_number, created_at
from qosflow.recommendations where recommendation_id = %(recommendation_id)s;

-- name: recommendations
-- Text is made outside, of what is kept: inside, it would be made of all that an offset passes over.
select page.recommendation_id::text, page.model_id::text, workflow, request::text, answer::text, status,
       dag_id, run_id, task_id, try_number, page.created_at
from (
    select recommendations.* from qosflow.recommendations
    where (%(workflow)s::text is null or workflow = %(workflow)s)
        and (%(dag_id)s::text is null or dag_id = %(dag_id)s)
        and (%(run_id)s::text is null or run_id = %(run_id)s)
    order by created_at desc, recommendation_id desc limit %(limit)s offset %(offset)s
) page
order by page.created_at desc, page.recommendation_id desc;

-- name: dag_ids
select dag_id from qosflow.recommendations
where workflow = %(workflow)s and dag_id is not null
group by dag_id order by max(created_at) desc, dag_id collate "C" limit %(limit)s;

-- name: dags_of
select recommendation_id::text, dag_id from qosflow.recommendations
where recommendation_id = any(%(recommendation_ids)s::uuid[]);

-- name: add_outcome
insert into qosflow.outcomes (recommendation_id, outcome)
select recommendation_id, %(outcome)s::jsonb from qosflow.recommendations
where recommendation_id = %(recommendation_id)s
returning recommendation_id::text, outcome::text, created_at;

-- name: outcomes
select recommendation_id::text, outcome::text, created_at
from qosflow.outcomes where outcomes.recommendation_id = %(recommendation_id)s
order by outcome_id desc limit %(limit)s;

-- name: add_report_card
insert into qosflow.report_cards (model_id, report)
select model_id, %(report)s::jsonb from qosflow.models where model_id = %(model_id)s
returning model_id::text, report::text, created_at;

-- name: report_cards
select model_id::text, report::text, created_at
from qosflow.report_cards where report_cards.model_id = %(model_id)s
order by report_id desc limit %(limit)s;

-- name: add_observation
insert into qosflow.observations (
    recommendation_id, stage, map_index, try_number, source, state, tasks, count, start_s, end_s,
    work_start_s, work_end_s, queue_s, read_bytes, write_bytes, tier, host, dag_id, run_id, task_id,
    load, load_source, dag_version, image
)
values (
    %(recommendation_id)s, %(stage)s, %(map_index)s, %(try_number)s, %(source)s, %(state)s, %(tasks)s,
    %(count)s, %(start_s)s, %(end_s)s, %(work_start_s)s, %(work_end_s)s, %(queue_s)s, %(read_bytes)s,
    %(write_bytes)s, %(tier)s, %(host)s, %(dag_id)s, %(run_id)s, %(task_id)s, %(load)s, %(load_source)s,
    %(dag_version)s, %(image)s
)
on conflict do nothing
returning stage;

-- name: has_recommendation
select recommendation_id from qosflow.recommendations where recommendation_id = %(recommendation_id)s;

-- name: observations
select recommendation_id::text, stage, map_index, try_number, source, state, tasks, count, start_s, end_s,
    work_start_s, work_end_s, queue_s, read_bytes, write_bytes, tier, host, dag_id, run_id, task_id,
    load, load_source, dag_version, image
from qosflow.observations where observations.recommendation_id = %(recommendation_id)s
order by stage collate "C", map_index, try_number, source limit %(limit)s;

-- name: task_observations
select o.recommendation_id::text, o.stage, o.map_index, o.try_number, o.source, o.state, o.tasks, o.count,
    o.start_s, o.end_s, o.work_start_s, o.work_end_s, o.queue_s, o.read_bytes, o.write_bytes, o.tier, o.host,
    o.dag_id, o.run_id, o.task_id, o.load, o.load_source, o.dag_version, o.image
from qosflow.recommendations r join qosflow.observations o on o.recommendation_id = r.recommendation_id
where r.dag_id = %(dag_id)s and r.run_id = %(run_id)s
    and o.dag_id = r.dag_id and o.run_id = r.run_id and o.task_id = %(task_id)s
order by o.map_index, o.try_number, o.source, o.recommendation_id limit %(limit)s;

-- name: runs
-- First tries that succeeded by themselves are told apart from all others, as in finished_runs.py.
select r.recommendation_id::text, r.model_id::text, r.workflow, r.created_at, r.status, r.dag_id, r.run_id,
       r.task_id, r.answer #>> '{replans,recommendation_id}' as replans,
       (r.request ->> 'deadline_s')::double precision as deadline_s,
       coalesce(a.described ->> 'run_s', a.described ->> 'makespan_s')::double precision as predicted_s,
       (a.described -> 'configuration')::text as configuration, o.outcome::text as outcome,
       coalesce(s.stages, '[]')::text as stages
from qosflow.recommendations r
cross join lateral (
    select case when r.status = 'feasible' then r.answer else nullif(r.answer -> 'nearest', 'null') end as described
) a
left join lateral (
    select outcome from qosflow.outcomes
    where outcomes.recommendation_id = r.recommendation_id order by outcome_id desc limit 1
) o on true
left join lateral (
    select jsonb_agg(to_jsonb(t) order by t.stage collate "C") as stages
    from (
        select stage, max(count) as count, coalesce(sum(tasks) filter (where teaches), 0) as tasks,
               count(*) filter (where not teaches) as others,
               count(*) filter (where teaches and until_s < since_s) as skewed,
               min(since_s) filter (where teaches and until_s is not null) as start_s,
               max(until_s) filter (where teaches and since_s is not null) as end_s,
               sum(read_bytes) filter (where teaches) as read_bytes,
               sum(write_bytes) filter (where teaches) as write_bytes,
               case when count(distinct load_source) filter (where teaches and load is not null) = 1
                    then avg(load) filter (where teaches) end as load,
               case when count(distinct load_source) filter (where teaches and load is not null) = 1
                    then min(load_source) filter (where teaches and load is not null) end as load_source,
               coalesce(jsonb_agg(distinct dag_version) filter (where teaches and dag_version is not null), '[]')
                   as dag_versions,
               coalesce(jsonb_agg(distinct image) filter (where teaches and image is not null), '[]') as images,
               min(since_s) filter (where since_s <= until_s) as first_s,
               max(until_s) filter (where since_s <= until_s) as last_s,
               min(begun_s - waited_s) as ready_s, max(waited_s) filter (where begun_s is not null) as queue_s
        from (
            select stage, tasks, b.count, read_bytes, write_bytes, load, load_source, dag_version, image,
                   start_s as begun_s,
                   case when source = 'task' and try_number = 1 then queue_s end as waited_s,
                   state = 'success' and source = 'task' and try_number = 1 as teaches,
                   case when work_start_s is null or work_end_s is null then start_s else work_start_s end as since_s,
                   case when work_start_s is null or work_end_s is null then end_s else work_end_s end as until_s
            from qosflow.observations b where b.recommendation_id = r.recommendation_id
        ) each
        group by stage
    ) t
) s on true
where (%(workflow)s::text is null or r.workflow = %(workflow)s)
    and (%(dag_id)s::text is null or r.dag_id = %(dag_id)s)
    and (%(run_id)s::text is null or r.run_id = %(run_id)s)
    and (%(all)s or o.outcome is not null or s.stages is not null)
order by r.created_at desc, r.recommendation_id desc limit %(limit)s;

-- name: newest_models
-- With what runs had taught each when it was asked last.
select m.*, c.calibration
from (select name from qosflow.workflows order by name collate "C" limit %(limit)s) w
cross join lateral (
    select model_id::text, workflow, version, created_at, inputs::text, options::text, summary::text, qosflow_version
    from qosflow.models where models.workflow = w.name order by models.version desc limit 1
) m
left join lateral (
    select (r.answer -> 'calibration')::text as calibration from qosflow.recommendations r
    where r.workflow = w.name and r.model_id = m.model_id::uuid
    order by r.created_at desc, r.recommendation_id desc limit 1
) c on true;

-- name: run_lines
-- As run_line in summaries.py says it.
select x.*
from (select name from qosflow.workflows order by name collate "C" limit %(limit)s) w
cross join lateral (
    select r.workflow, r.recommendation_id::text, r.model_id::text, r.created_at, r.dag_id,
           (r.request ->> 'deadline_s')::double precision as deadline_s,
           coalesce(n.predicted_s, a.described ->> 'run_s', a.described ->> 'makespan_s')::double precision as predicted_s,
           n.measured_s::double precision as measured_s,
           case when jsonb_typeof(o.outcome -> 'met_deadline') = 'boolean' then (o.outcome ->> 'met_deadline')::boolean end
               as met_deadline
    from qosflow.recommendations r
    cross join lateral (
        select case when r.status = 'feasible' then r.answer else nullif(r.answer -> 'nearest', 'null') end as described
    ) a
    left join lateral (
        select outcome from qosflow.outcomes
        where outcomes.recommendation_id = r.recommendation_id order by outcome_id desc limit 1
    ) o on true
    left join lateral (
        -- Not as "exists": all observations would be read for it.
        select true as is_told from qosflow.observations b
        where b.recommendation_id = r.recommendation_id and o.outcome is null limit 1
    ) b on true
    cross join lateral (
        select case when jsonb_typeof(o.outcome -> 'predicted_s') = 'number' then o.outcome ->> 'predicted_s' end as predicted_s,
               case when jsonb_typeof(o.outcome -> 'measured_s') = 'number' then o.outcome ->> 'measured_s' end as measured_s
    ) n
    where r.workflow = w.name and (o.outcome is not null or b.is_told)
    order by r.created_at desc, r.recommendation_id desc limit %(runs)s
) x
order by x.workflow collate "C", x.created_at desc, x.recommendation_id desc;
