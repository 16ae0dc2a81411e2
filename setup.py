"""Packaging of auditlake: an application, installed in an environment of its own."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="auditlake",
    version="0.1.0",
    description="Lands Microsoft 365 audit records as typed Parquet, each once, and proves that nothing is missing.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["schemas", "o365", "lake", "transforms", "pipeline", "emulator"]),
    package_data={"schemas": ["avro/*.avsc", "tables/*.csv"], "emulator": ["data/*", "faults/*.toml"]},
    install_requires=[
        "apache-beam==2.77.*",
        "azure-identity>=1.23,<2",
        "azure-storage-blob>=12.20,<13",
        "boto3>=1.37,<2",
        "cryptography>=42",
        "duckdb>=1.4,<3",
        "fastavro>=1.9,<2",
        "fsspec>=2024.6",
        "google-cloud-storage>=2.18.2,<4",
        "msal>=1.35,<2",
        "msgspec>=0.19,<1",
        "numba>=0.62,<1",
        "numpy>=1.26,<3",
        "pyarrow>=25,<26",
        "pyjwt[crypto]>=2.8,<3",
        "requests>=2.32.4,<3",
        "starlette>=0.40,<2",
        "trustme>=1.1,<2",
        "httptools>=0.6,<1",
        "uvicorn>=0.30,<1",
    ],
    extras_require={
        # What `python -m benchmarks` compares with; each is left out where it is not installed.
        "bench": ["dlt>=1", "orjson>=3.10", "polars>=1.20"],
        "dataflow": ["apache-beam[gcp]==2.77.*"],
        "dev": [
            "codespell>=2.3",
            "google-cloud-dataflow-client>=0.8,<1",
            "hypothesis>=6.100",
            "mypy>=1.13",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.8",
            "setuptools>=77",
            "types-requests",
        ],
    },
    entry_points={"console_scripts": ["auditlake = pipeline.cli:main"]},
)
