"""A configuration as work to do: folders, copies, rows."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qosflow_airflow.core.placement import MAX_ROWS, Placement, place
from qosflow_airflow.core.space import Configuration
from qosflow_airflow.core.tiers import StorageTier, TierCatalog
from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow
from qosflow_airflow.exceptions import TierError, WorkflowError
from tests.support.instances import chain

PLATFORM = TierCatalog(
    (
        StorageTier("disk", True, mount="/data/qosflow"),
        StorageTier("nfs", True, mount="/nfs"),
        StorageTier("tmpfs", False, mount="/dev/shm/qosflow"),
        StorageTier("bare", False),
    )
)
CHAIN = chain(("split", 2), ("merge", 1))


def placed(nodes: int = 2, workflow: Workflow = CHAIN, **tiers: str) -> Placement:
    return place(workflow, PLATFORM, Configuration(nodes, tiers), recommendation_id="r1", initial_data="/in")


def test_everything_on_the_home_tier_copies_nothing() -> None:
    found = placed(split="disk", merge="disk")
    assert found.stage_in == {"split": [], "merge": []}
    assert found.stage_out == {"split": [], "merge": []}
    assert [row["inputs"] for row in found.stages["split"]] == [{"initial_data": "/in"}] * 2
    assert found.stages["merge"][0]["inputs"] == {"split": "/data/qosflow/r1/output/split"}
    assert found.stages["merge"][0]["output"] == "/data/qosflow/r1/output/merge"


def test_a_stage_has_one_row_per_task_with_all_that_the_task_needs() -> None:
    rows = placed(split="tmpfs", merge="disk").stages["split"]
    assert [row["index"] for row in rows] == [0, 1]
    assert rows[1] == {
        "stage": "split",
        "index": 1,
        "count": 2,
        "tier": "tmpfs",
        "nodes": 2,
        "inputs": {"initial_data": "/dev/shm/qosflow/r1/staged/split/initial_data"},
        "output": "/dev/shm/qosflow/r1/output/split",
        "env": {
            "QOSFLOW_STAGE": "split",
            "QOSFLOW_INDEX": "1",
            "QOSFLOW_LABEL": "split 2/2 on tmpfs",
            "QOSFLOW_COUNT": "2",
            "QOSFLOW_TIER": "tmpfs",
            "QOSFLOW_NODES": "2",
            "QOSFLOW_INPUTS": '{"initial_data": "/dev/shm/qosflow/r1/staged/split/initial_data"}',
            "QOSFLOW_OUTPUT": "/dev/shm/qosflow/r1/output/split",
            "QOSFLOW_RECORDS": "/data/qosflow/r1/records",
            "QOSFLOW_RECOMMENDATION_ID": "r1",
        },
    }


def test_copies_stand_where_tiers_differ() -> None:
    found = placed(split="tmpfs", merge="disk")
    assert found.stage_in["split"] == [
        {
            "stage": "split",
            "data_of": "initial_data",
            "source_tier": "disk",
            "tier": "tmpfs",
            "source": "/in",
            "destination": "/dev/shm/qosflow/r1/staged/split/initial_data",
            "patterns": [],
            "records": "/data/qosflow/r1/records",
        }
    ]
    (copy,) = found.stage_in["merge"]
    assert (copy["source_tier"], copy["tier"]) == ("tmpfs", "disk")
    assert copy["source"] == "/dev/shm/qosflow/r1/output/split"
    assert copy["destination"] == "/data/qosflow/r1/staged/merge/split"
    assert found.stage_out == {"split": [], "merge": []}


def test_copies_name_the_patterns_of_their_files() -> None:
    work = Workflow(
        "named",
        (
            Stage("split", 1, 2, {INITIAL_DATA: (r"in\d",)}, (r"part\d",)),
            Stage("merge", 2, 1, {"split": (r"part[01]",)}, ("all",)),
        ),
    )
    found = placed(workflow=work, split="tmpfs", merge="tmpfs")
    assert [row["patterns"] for row in found.stage_in["split"]] == [[r"in\d"]]
    assert [row["patterns"] for row in found.stage_in["merge"]] == [["part[01]"]]
    assert [row["patterns"] for row in found.stage_out["merge"]] == [["all"]]


def test_final_outputs_go_home_and_others_do_not() -> None:
    (flush,) = placed(split="disk", merge="tmpfs").stage_out["merge"]
    assert (flush["source_tier"], flush["tier"]) == ("tmpfs", "disk")
    assert flush["source"] == "/dev/shm/qosflow/r1/output/merge"
    assert flush["destination"] == "/data/qosflow/r1/final/merge"
    assert placed(split="tmpfs", merge="disk").stage_out["split"] == []
    kept = chain(("split", 2), ("merge", 1), final=["split"])
    assert len(placed(workflow=kept, split="tmpfs", merge="disk").stage_out["split"]) == 1
    assert len(placed(split="disk", merge="nfs").stage_out["merge"]) == 1


def test_on_one_node_a_local_tier_is_read_in_place() -> None:
    alone = placed(nodes=1, split="tmpfs", merge="tmpfs")
    assert alone.stage_in["merge"] == []
    assert alone.stages["merge"][0]["inputs"] == {"split": "/dev/shm/qosflow/r1/output/split"}
    several = placed(nodes=2, split="tmpfs", merge="tmpfs")
    assert [copy["destination"] for copy in several.stage_in["merge"]] == [
        "/dev/shm/qosflow/r1/staged/merge/split"
    ]


def test_initial_data_lies_on_the_home_tier_unless_said() -> None:
    found = place(
        CHAIN,
        PLATFORM,
        Configuration(1, {"split": "disk", "merge": "disk"}),
        recommendation_id="r1",
        initial_data=None,
    )
    assert found.stages["split"][0]["inputs"] == {"initial_data": "/data/qosflow/initial_data"}


def test_a_chosen_tier_needs_a_mount() -> None:
    with pytest.raises(TierError, match=r"tier 'bare' has no mount\. Set its `mount` in tiers\.yaml"):
        placed(split="bare", merge="disk")


def test_more_tasks_than_airflow_maps_over_are_refused_with_the_stage() -> None:
    assert len(placed(workflow=chain(("split", MAX_ROWS)), split="disk").stages["split"]) == 1024
    with pytest.raises(
        WorkflowError, match=r"stage 'split': 1025 tasks, and Airflow maps .* at most 1024 rows"
    ):
        placed(workflow=chain(("split", MAX_ROWS + 1)), split="disk")
    found = place(
        chain(("split", 1025)),
        PLATFORM,
        Configuration(1, {"split": "disk"}),
        recommendation_id="r1",
        initial_data="/in",
        max_rows=2000,
    )
    assert len(found.stages["split"]) == 1025


@pytest.mark.parametrize("evil", ["{{ var.value.secret }}", "{% x %}", "{# x #}"])
def test_what_airflow_would_render_as_a_template_is_refused(evil: str) -> None:
    with pytest.raises(WorkflowError, match="which Airflow would render as a template"):
        placed(workflow=chain((evil, 1)), **{evil: "disk"})
    with pytest.raises(WorkflowError, match="which Airflow would render as a template"):
        place(
            CHAIN,
            PLATFORM,
            Configuration(1, {"split": "disk", "merge": "disk"}),
            recommendation_id="r1",
            initial_data=f"/in/{evil}",
        )


@pytest.mark.parametrize("name", ["../../etc", "/etc", "a/b", "..", "."])
def test_a_stage_cannot_lead_out_of_its_tier(name: str) -> None:
    with pytest.raises(WorkflowError, match="cannot be the name of a folder"):
        placed(workflow=chain((name, 1)), **{name: "tmpfs"})


names = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=6)


@settings(max_examples=60)
@given(
    st.lists(names, min_size=2, max_size=4, unique=True),
    st.lists(st.sampled_from(["disk", "nfs", "tmpfs"]), min_size=4, max_size=4),
    st.sampled_from([1, 3]),
)
def test_rows_are_plain_json_and_stay_inside_the_run(names: list[str], tiers: list[str], nodes: int) -> None:
    stages = [Stage(name, 1, 2, {INITIAL_DATA: ()}) for name in names[:1]]
    stages += [Stage(name, 2, 2, {names[0]: ()}) for name in names[1:]]
    on = dict(zip(names, tiers, strict=False))
    try:
        found = placed(nodes, Workflow("w", tuple(stages)), **on)
    except WorkflowError:
        assert any("/" in name or set(name) == {"."} or "{" in name for name in names)
        return
    mounts = {tier.name: PurePosixPath(tier.mount or "", "r1") for tier in PLATFORM.tiers}
    for kind in (found.stages, found.stage_in, found.stage_out):
        assert json.loads(json.dumps(kind)) == kind
    for name in names:
        (first, _) = found.stages[name]
        assert PurePosixPath(first["output"]).is_relative_to(mounts[on[name]])
        for copy in (*found.stage_in[name], *found.stage_out[name]):
            assert PurePosixPath(copy["destination"]).is_relative_to(mounts[copy["tier"]])
            assert ".." not in PurePosixPath(copy["destination"]).parts
        # What a stage reads is what was staged for it, or where its producer wrote.
        staged = {copy["data_of"]: copy["destination"] for copy in found.stage_in[name]}
        for of, folder in first["inputs"].items():
            written = "/in" if of == INITIAL_DATA else found.stages[of][0]["output"]
            assert folder == staged.get(of, written)
