-- What runs have measured of a model version: predicted against executed.

create table qosflow.report_cards (
    report_id bigint generated always as identity primary key,
    model_id uuid not null references qosflow.models (model_id),
    report jsonb not null check (jsonb_typeof(report) = 'object'),
    created_at timestamptz not null default clock_timestamp()
);
comment on table qosflow.report_cards is 'How well the predictions of model versions held in runs. Rows never change.';
create index report_cards_model on qosflow.report_cards (model_id, report_id);

create trigger refuse_change before update or delete on qosflow.report_cards
    for each row execute function qosflow.refuse_change();
create trigger refuse_truncate before truncate on qosflow.report_cards
    for each statement execute function qosflow.refuse_change();
