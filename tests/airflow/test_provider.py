from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import version

import pytest

pytestmark = pytest.mark.airflow


def test_airflow_lists_the_provider_its_connection_type_its_link_and_its_options() -> None:
    from airflow.configuration import conf
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    provider = manager.providers["airflow-provider-qosflow"]
    assert provider.version == version("airflow-provider-qosflow")
    hook = manager.hooks["qosflow"]
    assert hook is not None
    assert hook.hook_class_name == "qosflow_airflow.hooks.qosflow.QoSFlowHook"
    assert hook.connection_id_attribute_name == "qosflow_conn_id"
    assert "qosflow_airflow.operators.recommend.QoSRecommendationLink" in manager.extra_links_class_names
    assert conf.get("qosflow", "conn_id") == "qosflow_default"


def test_airflow_s_metadata_check_takes_the_provider() -> None:
    import json
    from importlib.resources import files

    import jsonschema

    from qosflow_airflow.get_provider_info import get_provider_info

    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_airflow_takes_the_form_of_the_connection() -> None:
    import json
    from importlib.resources import files

    import jsonschema

    from qosflow_airflow.hooks.qosflow import QoSFlowHook

    schema = files("airflow").joinpath("customized_form_field_behaviours.schema.json").read_text()
    jsonschema.validate(QoSFlowHook.get_ui_field_behaviour(), json.loads(schema))


def test_a_task_that_loads_the_plugin_loads_nothing_heavy_with_it() -> None:
    code = """
import sys, airflow.plugins_manager
loaded = set(sys.modules)
from qosflow_airflow.plugin import QoSFlowPlugin
QoSFlowPlugin.listeners, QoSFlowPlugin.external_views
new = set(sys.modules) - loaded
print(sorted({name.partition('.')[0] for name in new} - set(sys.stdlib_module_names)))
print(sorted(name for name in new if name.count('.') == 1 and name.startswith('qosflow_airflow')))
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    libraries, rooms = printed.stdout.strip().splitlines()[-2:]
    assert ast.literal_eval(libraries) in (["qosflow_airflow"], ["airflow", "qosflow_airflow"])
    assert {name.partition(".")[2] for name in ast.literal_eval(rooms)} == {
        *("exceptions", "hooks", "listeners", "plugin")
    }


def test_the_plugin_loads_once_and_makes_its_application_only_when_asked() -> None:
    from airflow import plugins_manager

    plugins, errors = plugins_manager._get_plugins()
    assert errors == {}
    found = [plugin for plugin in plugins if plugin.name == "qosflow"]
    assert len(found) == 1
    sys.modules.pop("qosflow_airflow.web.app", None)
    views = {view["destination"]: view["href"] for view in found[0].external_views}
    assert views["nav"] == "/qosflow/"
    assert set(views) == {"nav", "dag", "dag_run", "task_instance"}
    assert "qosflow_airflow.web.app" not in sys.modules
    (application,) = found[0].fastapi_apps
    assert application["url_prefix"] == "/qosflow"
